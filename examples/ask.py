"""Ask a peer one question and print its answer: ask.py PEER QUESTION."""

import sys

from artico_sync import (
    Artico,
    ArticoTimeoutError,
    CallClosedError,
    PeerUnavailableError,
    SignalingError,
)

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, question = sys.argv[1:]
try:
    with Artico() as rtco, rtco.call(peer, metadata="a question") as call:
        call.send(question)
        print(call.recv(timeout=10))
except PeerUnavailableError:
    sys.exit(f"{peer} is not there")
except ArticoTimeoutError:
    sys.exit(f"{peer} did not answer in time")
except CallClosedError as error:
    sys.exit(f"{peer} ended the call: {error.message}")
except SignalingError as error:
    sys.exit(error.message)
