"""Server and both peers in one program, to play with: both_ends.py."""

from artico_sync import Artico, ArticoServer

with ArticoServer(port=0) as server, Artico(server.url, id="bob") as bob:
    bob.on(
        "call", lambda call: (call.on("data", lambda text: call.send(text[::-1])), call.answer())
    )
    with Artico(server.url) as alice, alice.call("bob") as call:
        for word in ("stressed", "drawer"):
            call.send(word)
            print(word, "->", call.recv(timeout=5))
        print(f"{1000 * call.stats().get('round_trip_time', 0):.1f} ms there and back")
