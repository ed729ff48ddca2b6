"""Answer every call and say back what is said: echo_server.py [ID]."""

import sys

from artico_sync import Artico, Call

rtco = Artico(id=sys.argv[1] if len(sys.argv) > 1 else "echo")


@rtco.on("call")
def incoming(call: Call, metadata: str | None) -> None:
    print(f"{call.target} calls: {metadata}", flush=True)
    call.on("data", call.send)
    call.on("close", lambda: print(f"{call.target} has gone", flush=True))
    call.answer()


rtco.connect()
print(f"answering as {rtco.id}; Ctrl-C ends it", flush=True)
try:
    rtco.wait_closed()
except KeyboardInterrupt:
    rtco.close()
