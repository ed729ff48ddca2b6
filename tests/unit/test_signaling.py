"""Ways to signal: a user's own without asyncio, the in-memory one, and Socket.IO used by itself."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    IdTakenError,
    MemoryHub,
    NotReadyError,
    PeerUnavailableError,
    Signaling,
    SignalingError,
    SocketSignaling,
)
from artico_sync._bridge.portal import Portal
from artico_sync._engine.signaling.socket import SocketTransport
from tests.blocking import Blocked
from tests.conftest import RTC_CONFIG, MakeArtico
from tests.polling import wait_until

TIMEOUT = 10


class LineServer:
    """A user's own signaling server: one JSON message per line over TCP."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.peers: dict[str, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # Either end of either connection may be gone at any moment.
        with suppress(OSError), connection, connection.makefile("r") as lines:
            name = lines.readline().strip()
            self.peers[name] = connection
            try:
                for line in lines:
                    message = json.loads(line)
                    target = self.peers.get(message["target"])
                    if target is not None:
                        stamped = json.dumps({**message, "source": name}).encode()
                        with suppress(OSError):
                            target.sendall(stamped + b"\n")
            finally:
                if self.peers.get(name) is connection:
                    del self.peers[name]

    def cut(self) -> None:
        for connection in list(self.peers.values()):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.cut()
        for thread in [self._accepting, *self._threads]:
            thread.join(TIMEOUT)


class LineSignaling(Signaling):
    """The client of `LineServer`: plain sockets and a reading thread."""

    def __init__(self, address: tuple[str, int], id: str) -> None:
        super().__init__(id)
        self._address = address
        self._connection: socket.socket | None = None
        self._reader: threading.Thread | None = None

    def connect(self) -> None:
        self._connection = socket.create_connection(self._address)
        self._connection.sendall(self.id.encode() + b"\n")
        self._reader = threading.Thread(target=self._read, args=(self._connection,))
        self._reader.start()
        self.emit("connect", self.id)

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("r") as lines:
            for line in lines:
                self.emit("signal", json.loads(line))
        connection.close()
        if connection is self._connection:
            self.emit("disconnect")

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)
        if self._reader is not None:
            self._reader.join()

    def signal(self, message: Mapping[str, Any]) -> None:
        if self._connection is None:
            raise NotReadyError("not connected")
        self._connection.sendall(json.dumps(dict(message)).encode() + b"\n")

    def join(self, room: str, metadata: str | None = None) -> None:
        raise NotReadyError("no rooms here")


@pytest.fixture
def line_server() -> Iterator[LineServer]:
    server = LineServer()
    yield server
    server.close()


def test_a_users_own_signaling_carries_a_call(line_server: LineServer) -> None:
    with (
        Artico(signaling=LineSignaling(line_server.address, "a"), rtc_config=RTC_CONFIG) as alice,
        Artico(signaling=LineSignaling(line_server.address, "b"), rtc_config=RTC_CONFIG) as bob,
    ):
        assert (alice.id, bob.id, alice.state) == ("a", "b", "ready")
        wait_until(lambda: len(line_server.peers) == 2, "the server to know both")
        bob.on("call", lambda call: (call.on("data", lambda t: call.send(t[::-1])), call.answer()))
        with alice.call("b", metadata="over lines") as call:
            call.send("abc")
            assert call.recv(TIMEOUT) == "cba"


def test_a_users_own_signaling_that_is_cut_comes_back(line_server: LineServer) -> None:
    with (
        Artico(signaling=LineSignaling(line_server.address, "a"), rtc_config=RTC_CONFIG) as alice,
        Artico(signaling=LineSignaling(line_server.address, "b"), rtc_config=RTC_CONFIG) as bob,
    ):
        for rtco in (alice, bob):
            rtco.wait_for("open", TIMEOUT)
        wait_until(lambda: len(line_server.peers) == 2, "the server to know both")
        before = dict(line_server.peers)
        line_server.cut()
        for rtco in (alice, bob):
            rtco.wait_for("reconnecting", TIMEOUT)
            rtco.wait_for("open", TIMEOUT)

        def are_back() -> bool:
            peers = line_server.peers
            return all(peers.get(name, gone) is not gone for name, gone in before.items())

        wait_until(are_back, "the server to know both again")
        bob.on("call", lambda call: call.answer())
        with alice.call("b") as call:
            assert call.open


class FaultySignaling(Signaling):
    """Cannot connect, in one of several ways."""

    def __init__(self, fault: str) -> None:
        super().__init__("faulty")
        self.fault = fault

    def connect(self) -> None:
        if self.fault == "raises":
            raise OSError("no such network")
        if self.fault == "exits":
            sys.exit("no configuration")
        if self.fault == "error":
            self.emit("error", IdTakenError("taken"))
        elif self.fault == "text":
            self.emit("error", "just text")
        else:
            self.emit("disconnect")

    def disconnect(self) -> None: ...

    def signal(self, message: Mapping[str, Any]) -> None: ...

    def join(self, room: str, metadata: str | None = None) -> None: ...


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("raises", SignalingError, "no such network"),
        ("exits", SignalingError, "no configuration"),
        ("error", IdTakenError, "taken"),
        ("text", SignalingError, "just text"),
        ("disconnect", SignalingError, "disconnected"),
    ],
)
def test_a_users_own_signaling_that_fails(fault: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Artico(signaling=FaultySignaling(fault)).connect()


def test_an_unfinished_signaling_says_what_is_missing() -> None:
    with pytest.raises(SignalingError, match="does not implement connect"):
        Artico(signaling=Signaling("x")).connect()


def test_memory_hub() -> None:
    hub = MemoryHub()
    with Artico(signaling=hub.signaling("a"), rtc_config=RTC_CONFIG) as alice:
        with pytest.raises(IdTakenError):
            Artico(signaling=hub.signaling("a")).connect()
        with pytest.raises(PeerUnavailableError):
            alice.call("nobody").wait_open(TIMEOUT)
        alice.wait_for("open", TIMEOUT)
        hub.disconnect("a")
        alice.wait_for("reconnecting", TIMEOUT)
        assert alice.wait_for("open", TIMEOUT) == "a"


def test_memory_rooms() -> None:
    hub = MemoryHub()
    first, second = hub.signaling("1"), hub.signaling("2")
    joined: list[Any] = []
    first.on("join", lambda *arguments: joined.append(arguments))
    for peer in (first, second):
        peer.connect()
    first.join("room")
    second.join("room", "metadata")
    assert joined == [("room", "2", "metadata")]
    assert second.signal({"target": "3", "session": "call:x", "signal": {}}) is False


def test_socket_signaling_by_itself(server: ArticoServer) -> None:
    alice, bob = SocketSignaling(server.url, "alice"), SocketSignaling(server.url, "bob")
    events: queue.Queue[Any] = queue.Queue()
    bob.on("connect", lambda id: events.put(("connect", id)))
    bob.on("signal", lambda message: events.put(message))
    bob.on("join", lambda *arguments: events.put(arguments))
    assert bob.state == "disconnected"
    alice.connect()
    bob.connect()
    try:
        assert events.get(timeout=TIMEOUT) == ("connect", "bob")
        assert bob.state == "ready" and bob.id == "bob"
        message = {"target": "bob", "session": "call:x", "metadata": "m", "signal": {"type": "x"}}
        assert alice.signal(message) is True
        assert events.get(timeout=TIMEOUT) == {**message, "source": "alice"}
        assert alice.signal({**message, "target": "nobody"}) is False
        bob.join("room")
        with Blocked(lambda: events.get(timeout=TIMEOUT)) as joined:
            alice.join("room", "hello")
        assert joined.result() == ("room", "alice", "hello")
        with pytest.raises(IdTakenError):
            SocketSignaling(server.url, "alice").connect()
    finally:
        alice.disconnect()
        bob.disconnect()
    with pytest.raises(NotReadyError):
        alice.signal({})


def test_socket_signaling_connected_by_two_threads_at_once(server: ArticoServer) -> None:
    alice = SocketSignaling(server.url, "alice")
    both = threading.Barrier(2)
    errors: list[Exception] = []

    def connect() -> None:
        both.wait(TIMEOUT)
        try:
            alice.connect(TIMEOUT)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=connect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not errors
    assert alice.state == "ready" and server.peers == ("alice",)
    alice.disconnect()
    wait_until(lambda: not server.peers, "its leave", TIMEOUT)


def test_socket_signaling_whose_server_does_not_answer(
    server: ArticoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*arguments: Any) -> None:
        await asyncio.Event().wait()

    alice = SocketSignaling(server.url, "alice")
    alice.connect()
    monkeypatch.setattr("artico_sync._bridge.signaling.ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(SocketTransport, "send", never)
    with pytest.raises(ArticoTimeoutError, match="the server to answer"):
        alice.signal({"target": "bob", "session": "call:x", "signal": {}})
    alice.disconnect()


def test_socket_signaling_disconnected_before_it_began_to_connect(
    server: ArticoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = SocketSignaling(server.url, "alice")
    run = Portal.run

    def run_later(portal: Portal, *arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        alice.disconnect()
        return run(portal, *arguments, **options)

    monkeypatch.setattr(Portal, "run", run_later)
    with pytest.raises(SignalingError):
        alice.connect()
    assert alice.state == "disconnected"
    wait_until(lambda: not server.peers, "its leave", TIMEOUT)


def test_socket_signaling_given_to_a_client(make_artico: MakeArtico, server: ArticoServer) -> None:
    bob = make_artico("bob")
    bob.on("call", lambda call: call.answer())
    alice = make_artico(signaling=SocketSignaling(server.url, "alice"))
    assert alice.id == "alice" and "alice" in server.peers
    with alice.call("bob") as call:
        assert call.open


def test_unknown_signaling_events_are_refused() -> None:
    signaling = MemoryHub().signaling()
    methods: list[Any] = [signaling.on, signaling.off, signaling.emit]
    for method in methods:
        with pytest.raises(ValueError, match="connect, disconnect, error, join, signal"):
            method("open", None)


HOSTILE: list[Any] = [
    None,
    5,
    "text",
    [],
    {},
    {"signal": None},
    {"session": 5, "signal": {"type": "sdp"}},
    {"session": "call:x", "signal": []},
    {"session": "call:x", "signal": {"type": 5}},
    {"session": "call:x", "signal": {"type": "sdp"}},
    {"session": "call:x", "signal": {"type": "sdp", "data": {"type": "rollback", "sdp": ""}}},
    {"session": "call:x", "signal": {"type": "sdp", "data": {"type": "offer"}}},
    {"session": "call:x", "signal": {"type": "sdp", "data": {"type": "answer", "sdp": "v=0"}}},
    {"session": "call:x", "signal": {"type": "candidate", "data": {"candidate": 5}}},
    {"session": "call:x", "signal": {"type": "candidate", "data": "x"}},
    {"session": "call:x", "signal": {"type": "bye"}},
    {"session": "call:x", "signal": {"type": "ringing"}},
    {
        "session": "room:x:call:y",
        "signal": {"type": "sdp", "data": {"type": "offer", "sdp": "v=0"}},
    },
    {"session": "call:x", "metadata": 5, "signal": {"type": "sdp"}},
    {
        "session": "call:" + "x" * 5000,
        "signal": {"type": "sdp", "data": {"type": "offer", "sdp": ""}},
    },
    {
        "session": "call:x",
        "signal": {"type": "sdp", "data": {"type": "offer", "sdp": "m=\n" * 1000}},
    },
    {
        "session": "call:x",
        "signal": {"type": "sdp", "data": {"type": "offer", "sdp": "x" * 600_000}},
    },
]


def test_malformed_signals_are_dropped_without_further_effect() -> None:
    hub = MemoryHub()
    stranger = hub.signaling("stranger")
    stranger.connect()
    with (
        Artico(signaling=hub.signaling("a"), rtc_config=RTC_CONFIG) as alice,
        Artico(signaling=hub.signaling("b"), rtc_config=RTC_CONFIG) as bob,
    ):
        bob.on("call", lambda call: call.answer())
        with alice.call("b") as call:
            target = hub._find("a")
            assert target is not None
            for message in HOSTILE:
                if isinstance(message, dict):
                    message = {**message, "source": "stranger"}
                target.emit("signal", message)
            for body in (
                {"type": "bye", "data": {"reason": "hangup"}},
                {"type": "sdp", "data": {"type": "offer", "sdp": "v=0"}},
                {"type": "candidate", "data": {"candidate": "x"}},
            ):
                # A stranger knows the session's id, and still has no part in the call.
                stranger.signal({"target": "a", "session": call.session, "signal": body})
            second = alice.call("b").wait_open(TIMEOUT)
            assert call.open and second.open
            assert len(alice.calls) == 2
    stranger.disconnect()


def test_absurd_descriptions_ring_without_further_effect() -> None:
    hub = MemoryHub()
    stranger = hub.signaling("stranger")
    stranger.connect()
    sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 99999999 X 1\r\na=mid\r\n"
    with Artico(signaling=hub.signaling("a"), rtc_config=RTC_CONFIG) as alice:
        for number in range(5):
            offer = {"type": "sdp", "data": {"type": "offer", "sdp": sdp * number}}
            stranger.signal({"target": "a", "session": f"call:{number}", "signal": offer})
            stranger.signal(
                {
                    "target": "a",
                    "session": f"call:{number}",
                    "signal": {"type": "candidate", "data": {"candidate": "candidate:x y z"}},
                }
            )
        for number in range(5):
            call = alice.wait_for("call", TIMEOUT)
            assert call.session == f"call:{number}"
            call.answer()
        assert len(alice.calls) == 5 and all(not call.open for call in alice.calls)
    stranger.disconnect()


def test_a_stranger_writes_no_lines_of_its_own_into_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "artico_sync")
    forged = "x\nCRITICAL root: the disk is full \x1b[2J"
    hub = MemoryHub()
    stranger, impostor = hub.signaling(forged), hub.signaling("impostor\n")
    stranger.connect()
    impostor.connect()
    offer = {"type": "sdp", "data": {"type": "offer", "sdp": "v=0"}}
    with Artico(signaling=hub.signaling("a"), rtc_config=RTC_CONFIG) as alice:
        for session in (f"call:{forged}", "call:x"):
            stranger.signal({"target": "a", "session": session, "signal": offer})
        impostor.signal({"target": "a", "session": "call:x", "signal": offer})
        for number in range(100):
            stranger.signal({"target": "a", "session": f"call:{number}", "signal": offer})
        call = alice.wait_for("call", TIMEOUT)
        assert (call.session, call.target) == ("call:x", forged)
        call.answer()
        call.hangup()
    texts = [record.getMessage() for record in caplog.records]
    for words in ("session is not printable", "from another peer", "ringing already", "connecting"):
        assert any(words in text for text in texts), words
    assert [text for text in texts if not text.isprintable()] == []
    stranger.disconnect()
    impostor.disconnect()


def test_a_ringing_flood_is_bounded() -> None:
    hub = MemoryHub()
    stranger = hub.signaling("stranger")
    stranger.connect()
    with Artico(signaling=hub.signaling("a"), rtc_config=RTC_CONFIG) as alice:
        offer = {"type": "sdp", "data": {"type": "offer", "sdp": "v=0"}}
        for number in range(500):
            stranger.signal({"target": "a", "session": f"call:{number}", "signal": offer})
        assert alice.wait_for("call", TIMEOUT).session == "call:0"
        assert len(alice.calls) <= 64
    stranger.disconnect()
