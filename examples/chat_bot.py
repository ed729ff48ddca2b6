"""A chat room for any number of callers, who give their name as metadata: chat_bot.py [ID]."""

import sys

from artico_sync import Artico, Call

rtco = Artico(id=sys.argv[1] if len(sys.argv) > 1 else "room")
# Handlers run one at a time, so this needs no lock.
guests: dict[Call, str] = {}


@rtco.on("call")
def incoming(call: Call, metadata: str | None) -> None:
    name = metadata or call.target

    @call.on("open")
    def enter() -> None:
        guests[call] = name
        tell(f"{name} is here")

    @call.on("close")
    def leave() -> None:
        if guests.pop(call, None):
            tell(f"{name} has left")

    call.on("data", lambda text: tell(f"{name}: {text!s}"))
    call.answer()


def tell(text: str) -> None:
    for call in guests:
        if call.open:
            call.send(text)


rtco.connect()
print(f"the room is {rtco.id}", flush=True)
rtco.wait_closed()
