"""Take one file from whoever calls, into a folder: receive_file.py ID FOLDER."""

import sys

from artico_sync import Artico, ArticoError
from artico_sync.file_transfer import receive_file

if len(sys.argv) != 3:
    sys.exit(__doc__)
id, folder = sys.argv[1:]

with Artico(id=id) as rtco:
    print(f"waiting for a file as {rtco.id}", flush=True)
    with rtco.wait_for("call").answer() as call:
        try:
            path = receive_file(call, folder, maximum_size=10**9)
        except ArticoError as error:
            sys.exit(f"no file from {call.target}: {error}")
        print(f"{call.target} has sent {path}", flush=True)
        # The sender hangs up once it knows that we have it.
        call.wait_closed(timeout=10)
