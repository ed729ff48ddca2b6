"""Call a peer and record what it shows and says: record_call.py PEER FILE.mp4."""

import sys

from artico_sync import Artico, ArticoTimeoutError, CallClosedError, SignalingError

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, path = sys.argv[1:]
try:
    with Artico() as rtco, rtco.call(peer, metadata="recording") as call:
        stream = call.wait_for("stream", timeout=60)
        with stream.record(path):
            print("recording until the peer hangs up, or Ctrl-C", flush=True)
            try:
                call.wait_closed()
            except KeyboardInterrupt:
                print()
        print("recorded", path)
except (ArticoTimeoutError, CallClosedError, SignalingError) as error:
    sys.exit(f"{peer} cannot be recorded: {error.message}")
