"""Send a file to a peer that runs receive_file.py: send_file.py PEER FILE."""

import sys

from artico_sync import Artico, ArticoError
from artico_sync.file_transfer import FileProgress, send_file

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, path = sys.argv[1:]


def show(progress: FileProgress) -> None:
    print(f"\r{progress.name}: {progress.moved} of {progress.size} bytes", end="", flush=True)


try:
    with Artico() as rtco, rtco.call(peer) as call:
        # After an interruption the same again goes on where it ended.
        send_file(call, path, on_progress=show)
except (ArticoError, OSError) as error:
    sys.exit(f"\n{path} was not sent: {error}")
print("\nthe peer has it and has checked it")
