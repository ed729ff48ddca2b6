"""SocketTransport with `ArticoServer`, with a plain python-socketio server like Artico's, and with
servers that are not signaling servers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import socketio
from aiohttp import web

from artico_sync import ArticoServer
from artico_sync._engine.signaling import socket_connection
from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync._engine.signaling.socket import SocketTransport
from artico_sync.errors import IdTakenError, InvalidIdError, SignalingError
from tests.certificates import make_certificate, trusting
from tests.unit.server.raw_peer import WAIT, RawPeer, eventually


class Recorder:
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    def on_ready(self, peer_id: str) -> None:
        self.calls.put_nowait(("ready", peer_id))

    def on_disconnected(self) -> None:
        self.calls.put_nowait(("disconnected",))

    def on_error(self, error: Exception) -> None:
        self.calls.put_nowait(("error", error))

    def on_signal(self, message: dict[str, object]) -> None:
        self.calls.put_nowait(("signal", message))

    def on_peer_returned(self, peer_id: str) -> None: ...

    def on_peer_left(self, peer_id: str) -> None:
        self.calls.put_nowait(("gone", peer_id))

    def on_join(self, room: str, peer_id: str, metadata: str | None) -> None:
        self.calls.put_nowait(("join", room, peer_id, metadata))

    async def next(self) -> tuple[Any, ...]:
        return await asyncio.wait_for(self.calls.get(), WAIT)

    @property
    def silent(self) -> bool:
        return self.calls.empty()


@asynccontextmanager
async def connected(
    url: str, id: str, **options: Any
) -> AsyncIterator[tuple[SocketTransport, Recorder]]:
    transport, recorder = SocketTransport(url, id, **options), Recorder()
    try:
        await transport.open(recorder)
        assert await recorder.next() == ("ready", id)
        yield transport, recorder
    finally:
        await transport.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario with the loop's debug checks, and check that it leaves no task behind."""

    async def watched() -> None:
        before = asyncio.all_tasks()
        await scenario()
        await eventually(lambda: asyncio.all_tasks() == before, "every task has ended")

    asyncio.run(watched(), debug=True)


def signal_to(target: str, number: object = 0) -> dict[str, object]:
    return {"target": target, "session": "call:1", "signal": {"type": "probe", "data": number}}


# -- with ArticoServer --------------------------------------------------------------------------


def test_ready_signals_rooms_and_the_end(server: ArticoServer) -> None:
    async def scenario() -> None:
        async with connected(server.url, "alice") as (alice, at_alice):
            assert (alice.id, alice.state) == ("alice", "ready")
            async with connected(server.url, "bob") as (bob, at_bob):
                assert await alice.send({**signal_to("bob"), "metadata": "hi"}) is True
                assert await at_bob.next() == (
                    "signal",
                    {**signal_to("bob"), "metadata": "hi", "source": "alice"},
                )
                assert await alice.send(signal_to("nobody")) is False
                alice.join("r", None)
                assert await alice.send(signal_to("nobody")) is False
                bob.join("r", "meta")
                assert await at_alice.next() == ("join", "r", "bob", "meta")
            # Closing the transport does not notify the listener of a loss.
            assert bob.state == "disconnected"
            assert at_bob.silent

    run(scenario)


@pytest.mark.slow
def test_signals_arrive_in_order(server: ArticoServer) -> None:
    async def scenario() -> None:
        async with (
            connected(server.url, "alice") as (alice, _),
            connected(server.url, "bob") as (_, at_bob),
        ):
            outcomes = [alice.send(signal_to("bob", number)) for number in range(300)]
            numbers = [(await at_bob.next())[1]["signal"]["data"] for _ in range(300)]
            assert numbers == list(range(300))
            assert await asyncio.gather(*outcomes) == [True] * 300

    run(scenario)


def test_an_id_in_use(server: ArticoServer) -> None:
    async def scenario() -> None:
        async with connected(server.url, "alice") as (_, at_alice):
            other, recorder = SocketTransport(server.url, "alice"), Recorder()
            with pytest.raises(IdTakenError, match="another"):
                await other.open(recorder)
            assert other.state == "disconnected"
            assert recorder.silent
            assert at_alice.silent
            # It may try again, like a reconnecting client.
            with pytest.raises(IdTakenError):
                await other.open(recorder)
        await eventually(lambda: server.peers == (), "alice has left")
        await other.open(recorder)
        assert await recorder.next() == ("ready", "alice")
        await other.close()

    run(scenario)


def test_an_id_the_server_does_not_accept(server: ArticoServer) -> None:
    async def scenario() -> None:
        with pytest.raises(InvalidIdError):
            await SocketTransport(server.url, "x" * 200).open(Recorder())

    run(scenario)


def test_tokens() -> None:
    async def scenario() -> None:
        async with connected(server.url, "alice", token="right"):
            assert server.peers == ("alice",)
        for wrong in ("wrong", None):
            with pytest.raises(SignalingError, match="token"):
                await SocketTransport(server.url, "alice", token=wrong).open(Recorder())

    with ArticoServer(port=0, auth=lambda token: token == "right") as server:
        run(scenario)


def test_the_token_is_sent_both_ways_and_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("engineio.client", "socketio.client"):
        caplog.set_level(logging.DEBUG, logger=name)

    async def scenario() -> None:
        async with artico_like() as (url, fake_server):
            url += "?secret=in-the-query"
            async with connected(url, "alice", token="hunter2"):
                assert fake_server.auth == {"token": "hunter2"}
                assert fake_server.environ["HTTP_AUTHORIZATION"] == "Bearer hunter2"
                assert "secret=in-the-query" in fake_server.environ["QUERY_STRING"]
        with pytest.raises(SignalingError) as raised:
            await SocketTransport(url, "alice", token="hunter2").open(Recorder())
        assert "hunter2" not in str(raised.value)
        assert "in-the-query" not in str(raised.value)

    run(scenario)
    assert "hunter2" not in caplog.text
    assert "in-the-query" not in caplog.text


def test_a_lost_connection_is_reported_and_may_be_opened_again(server: ArticoServer) -> None:
    async def scenario() -> None:
        async with connected(server.url, "alice") as (alice, at_alice):
            port = int(server.url.rpartition(":")[2])
            await asyncio.to_thread(server.stop)
            assert await at_alice.next() == ("disconnected",)
            assert alice.state == "disconnected"
            assert await alice.send(signal_to("bob")) is None
            alice.join("r", None)
            with pytest.raises(SignalingError, match="refused"):
                await alice.open(at_alice)
            assert at_alice.silent
            with_same_port = ArticoServer(port=port)
            await asyncio.to_thread(with_same_port.start)
            try:
                await alice.open(at_alice)
                assert await at_alice.next() == ("ready", "alice")
                assert await alice.send(signal_to("alice")) is True
                await alice.close()
            finally:
                await asyncio.to_thread(with_same_port.stop)

    run(scenario)


def test_a_returning_client_takes_its_own_id_over() -> None:
    async def scenario() -> None:
        async with dropping_proxy(server.url) as (url, proxy):
            async with connected(url, "alice") as (alice, at_alice):
                # The server does not know yet that the old connection has ended.
                proxy.cut_clients()
                assert await at_alice.next() == ("disconnected",)
                assert server.peers == ("alice",)
                await alice.open(at_alice)
                assert await at_alice.next() == ("ready", "alice")
                assert await alice.send(signal_to("alice")) is True
                stranger = SocketTransport(url, "alice")
                with pytest.raises(IdTakenError):
                    await stranger.open(Recorder())

    with ArticoServer(port=0) as server:
        run(scenario)


def test_opening_twice_is_refused(server: ArticoServer) -> None:
    async def scenario() -> None:
        async with connected(server.url, "alice") as (alice, at_alice):
            with pytest.raises(SignalingError, match="open already"):
                await alice.open(at_alice)
            assert alice.state == "ready"

    run(scenario)


def test_closing_twice_and_before_opening_has_no_effect(server: ArticoServer) -> None:
    async def scenario() -> None:
        transport = SocketTransport(server.url, "alice")
        await transport.close()
        await transport.open(Recorder())
        await transport.close()
        await transport.close()
        await asyncio.gather(transport.close(), transport.close())

    run(scenario)


@pytest.mark.parametrize("passes", range(1, 40, 3))
def test_closing_while_opening_leaves_nothing(server: ArticoServer, passes: int) -> None:
    async def scenario() -> None:
        transport, recorder = SocketTransport(server.url, "alice"), Recorder()
        opening = asyncio.ensure_future(transport.open(recorder))
        for _ in range(passes):
            await asyncio.sleep(0)
        await transport.close()
        assert transport.state == "disconnected"
        with contextlib.suppress(SignalingError):
            await opening
        await eventually(lambda: server.peers == (), "the server has noticed")

    run(scenario)


@pytest.mark.parametrize("passes", range(1, 40, 3))
def test_cancelling_open_leaves_nothing(server: ArticoServer, passes: int) -> None:
    async def scenario() -> None:
        transport = SocketTransport(server.url, "alice")
        opening = asyncio.ensure_future(transport.open(Recorder()))
        for _ in range(passes):
            await asyncio.sleep(0)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        await transport.close()
        await eventually(lambda: server.peers == (), "the server has noticed")

    run(scenario)


@pytest.mark.slow
def test_pending_acknowledgements_are_resolved_at_the_loss() -> None:
    async def scenario() -> None:
        async with dropping_proxy(server.url) as (url, proxy):
            async with connected(url, "alice") as (alice, at_alice):
                proxy.blackhole()
                outcomes = [alice.send(signal_to("alice")) for _ in range(20)]
                assert await at_alice.next() == ("disconnected",)
                assert await asyncio.gather(*outcomes) == [None] * 20
        async with connected(server.url, "bob") as (bob, _):
            outcomes = [bob.send(signal_to("bob")) for _ in range(20)]
            await bob.close()
            assert set(await asyncio.gather(*outcomes)) <= {True, None}

    with ArticoServer(port=0, ping_interval=1, ping_timeout=1) as server:
        run(scenario)


def test_pending_acknowledgements_are_bounded(
    server: ArticoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_connection, "MAXIMUM_PENDING_ACKS", 5)

    async def scenario() -> None:
        async with connected(server.url, "alice") as (alice, at_alice):
            outcomes = [alice.send(signal_to("alice")) for _ in range(8)]
            assert await asyncio.gather(*outcomes) == [True] * 5 + [None] * 3
            for _ in range(8):
                assert (await at_alice.next())[0] == "signal"

    run(scenario)


def test_packets_queued_for_a_stuck_server_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket_connection, "MAXIMUM_QUEUED_PACKETS", 10)

    async def scenario() -> None:
        async with connected(server.url, "alice") as (alice, _):
            for _ in range(50):
                outcome = alice.send(signal_to("alice"))
            assert await outcome is None

    with ArticoServer(port=0) as server:
        run(scenario)
    assert "does not read any more" in caplog.text


@pytest.mark.slow
def test_a_silent_server_is_noticed() -> None:
    async def scenario() -> None:
        async with dropping_proxy(server.url) as (url, proxy):
            async with connected(url, "alice") as (_, at_alice):
                loop = asyncio.get_running_loop()
                begun = loop.time()
                proxy.blackhole()
                assert await at_alice.next() == ("disconnected",)
                assert loop.time() - begun < WAIT
                begun = loop.time()
            # Closing does not wait long for a dead server.
            assert loop.time() - begun < WAIT

    with ArticoServer(port=0, ping_interval=1, ping_timeout=1) as server:
        run(scenario)


@pytest.mark.slow
def test_closing_on_a_dead_network_is_prompt() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with dropping_proxy(server.url) as (url, proxy):
            async with connected(url, "alice") as (alice, at_alice):
                proxy.blackhole()
                begun = loop.time()
                await alice.close()
                assert loop.time() - begun < WAIT
                assert at_alice.silent

    with ArticoServer(port=0) as server:
        run(scenario)


@pytest.mark.logs_errors
def test_an_address_that_cannot_be_checked_counts_as_local(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert socket_connection._is_local(("127.0.0.1", 1))
    assert not socket_connection._is_local(("192.0.2.1", 1))

    def exhausted(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("socket.socket", exhausted)
    assert socket_connection._is_local(("192.0.2.1", 1))


@pytest.mark.logs_errors  # in development mode asyncio logs each failed handshake
def test_over_tls(tmp_path: Path) -> None:
    certfile, keyfile = make_certificate(tmp_path)

    async def scenario() -> None:
        trust = trusting(certfile)
        async with connected(server.url, "alice", ssl_context=trust, token="t") as (alice, _):
            assert await alice.send(signal_to("alice")) is True
        with pytest.raises(SignalingError, match="certificate is not trusted"):
            await SocketTransport(server.url, "alice").open(Recorder())
        with pytest.raises(SignalingError, match="https"):
            await SocketTransport(server.url.replace("https", "http"), "a").open(Recorder())

    with ArticoServer(port=0, certfile=str(certfile), keyfile=str(keyfile)) as server:
        run(scenario)


def test_https_to_a_plain_server(server: ArticoServer) -> None:
    async def scenario() -> None:
        url = server.url.replace("http", "wss")
        with pytest.raises(SignalingError, match="http://"):
            await SocketTransport(url, "alice").open(Recorder())

    run(scenario)


@pytest.mark.parametrize("suffix", ["/", "?x=1&id=other", "/socket.io", "/socket.io/"])
def test_equivalent_urls(server: ArticoServer, suffix: str) -> None:
    async def scenario() -> None:
        for url in (server.url + suffix, server.url.replace("http", "ws") + suffix):
            async with connected(url, "alice"):
                assert list(server.peers) == ["alice"]
            await eventually(lambda: not server.peers, "alice has left")

    run(scenario)


# -- with a server like Artico's ----------------------------------------------------------------


class ArticoLike:
    """A plain Socket.IO server that admits every client and acknowledges nothing."""

    def __init__(self) -> None:
        self.io = socketio.AsyncServer(
            async_mode="aiohttp", cors_allowed_origins="*", always_connect=True
        )
        self.io.on("connect", self._on_connect)
        self.io.on("signal", self._on_signal)
        self.welcome: list[tuple[str, Any]] = []
        self.signals: asyncio.Queue[object] = asyncio.Queue()
        self.auth: object = None
        self.environ: dict[str, Any] = {}
        self.sid = ""

    async def _on_connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        self.sid, self.environ, self.auth = sid, environ, auth
        for event, data in self.welcome:
            await self.io.emit(event, data, to=sid)

    async def _on_signal(self, sid: str, message: object) -> None:
        self.signals.put_nowait(message)


@asynccontextmanager
async def artico_like(
    welcome: list[tuple[str, Any]] | None = None,
) -> AsyncIterator[tuple[str, ArticoLike]]:
    fake_server = ArticoLike()
    fake_server.welcome = [("open", "alice")] if welcome is None else welcome
    application = web.Application()
    fake_server.io.attach(application)
    before = asyncio.all_tasks()
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", fake_server
    finally:
        await fake_server.io.shutdown()
        await runner.cleanup()
        # The ping tasks of python-socketio are still sleeping.
        for task in asyncio.all_tasks() - before:
            task.cancel()


def test_without_acknowledgements_delivery_is_unknown() -> None:
    async def scenario() -> None:
        async with (
            artico_like() as (url, fake_server),
            connected(url, "alice") as (alice, at_alice),
        ):
            assert await alice.send(signal_to("bob")) is None
            assert await asyncio.wait_for(fake_server.signals.get(), WAIT) == signal_to("bob")
            await fake_server.io.emit(
                "signal", {**signal_to("alice"), "source": "bob"}, to=fake_server.sid
            )
            assert (await at_alice.next())[1]["source"] == "bob"
            await fake_server.io.emit("join", ("r", "bob"), to=fake_server.sid)
            assert await at_alice.next() == ("join", "r", "bob", None)

    run(scenario)


def test_an_error_while_ready_is_reported() -> None:
    async def scenario() -> None:
        async with artico_like() as (url, fake_server), connected(url, "alice") as (_, at_alice):
            await fake_server.io.emit("error", "something", to=fake_server.sid)
            what, error = await at_alice.next()
            assert what == "error"
            assert str(error) == "The signaling server reports an error: something."
            await fake_server.io.disconnect(fake_server.sid)
            assert await at_alice.next() == ("disconnected",)

    run(scenario)


MALFORMED: list[tuple[str, Any]] = [
    ("signal", None),
    ("signal", "text"),
    ("signal", b"binary"),
    ("signal", {"signal": b"binary"}),
    ("join", None),
    ("join", (5, 5)),
    ("join", ("r", None)),
    ("open", None),
    ("open", {"x": 1}),
    ("unknown", 5),
    ("connect", 5),
    ("connect_error", 5),
    ("disconnect", 5),
    ("__disconnect_final", 5),
    ("signal", {"x": float("nan")}),
]


@pytest.mark.parametrize(("event", "data"), MALFORMED)
def test_malformed_events_are_dropped(event: str, data: object) -> None:
    async def scenario() -> None:
        async with (
            artico_like() as (url, fake_server),
            connected(url, "alice") as (alice, at_alice),
        ):
            await fake_server.io.emit(event, data, to=fake_server.sid)
            await fake_server.io.emit("signal", signal_to("alice"), to=fake_server.sid)
            assert await at_alice.next() == ("signal", signal_to("alice"))
            assert alice.state == "ready"
            assert at_alice.silent

    run(scenario)


@pytest.mark.parametrize(
    "frame", ["", "9", "4", "44", "4[", "45-1", "43", "4399[]", "43x", "0{}", "bx", "\x00"]
)
def test_malformed_frames_have_no_effect(frame: str) -> None:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        opened = '0{"sid":"x","upgrades":[],"pingInterval":5000,"pingTimeout":5000}'
        for text in (opened, '40{"sid":"y"}', '42["open","alice"]', frame, "41"):
            await response.send_str(text)
        async for _ in response:
            pass
        return response

    async def scenario() -> None:
        async with page(serve) as url:
            transport, recorder = SocketTransport(url, "alice"), Recorder()
            with contextlib.suppress(SignalingError):
                await transport.open(recorder)
                assert await recorder.next() == ("ready", "alice")
                assert await recorder.next() == ("disconnected",)
            assert recorder.silent
            await transport.close()

    run(scenario)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("id-taken", IdTakenError),
        ("invalid-id", InvalidIdError),
        ("whatever", SignalingError),
        (None, SignalingError),
        ({"x": 1}, SignalingError),
    ],
)
def test_refusals(code: object, kind: type[SignalingError]) -> None:
    async def scenario() -> None:
        async with artico_like([("error", code)]) as (url, _):
            transport, recorder = SocketTransport(url, "alice"), Recorder()
            with pytest.raises(kind):
                await transport.open(recorder)
            assert recorder.silent

    run(scenario)


@pytest.mark.logs_errors
def test_a_faulty_listener_has_no_effect_on_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Faulty(Recorder):
        def on_signal(self, message: dict[str, object]) -> None:
            super().on_signal(message)
            raise RuntimeError("a fault in the listener")

    async def scenario() -> None:
        transport, faulty = SocketTransport(server.url, "alice"), Faulty()
        await transport.open(faulty)
        for _ in range(2):
            assert await transport.send(signal_to("alice")) is True
        await transport.close()

    with ArticoServer(port=0) as server:
        run(scenario)
    assert "a fault in the listener" in caplog.text


# -- with servers that are not signaling servers --------------------------------------------------


@asynccontextmanager
async def page(handler: Any) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 500, 503])
def test_a_web_server_that_is_not_a_signaling_server(status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status)

    async def scenario() -> None:
        async with page(answer) as url:
            with pytest.raises(SignalingError, match=f"HTTP {status}"):
                await SocketTransport(url, "alice").open(Recorder())

    run(scenario)


@pytest.mark.parametrize(
    "words",
    [[], [""], ["hello"], ["0"], ["0{}"], ["0[]"], ["0null"], ['0{"sid":5}'], ["1"], ["2"], ["4"]],
)
def test_a_websocket_server_that_is_not_a_signaling_server(words: list[str]) -> None:
    async def chat(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        for word in words:
            await response.send_str(word)
        await response.close()
        return response

    async def scenario() -> None:
        async with page(chat) as url:
            with pytest.raises(SignalingError):
                await SocketTransport(url, "alice").open(Recorder())

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["accepts", "upgrades", "opens", "connects"])
def test_a_server_that_falls_silent(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_connection, "HANDSHAKE_SECONDS", 0.3)

    async def chat(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse()
        if stage == "accepts":
            await asyncio.sleep(WAIT)
            return web.Response()
        await response.prepare(request)
        if stage in ("opens", "connects"):
            opened = '0{"sid":"x","upgrades":[],"pingInterval":5000,"pingTimeout":5000}'
            await response.send_str(opened)
        if stage == "connects":
            await response.send_str('40{"sid":"y"}')
        async for _ in response:
            pass
        return response

    async def scenario() -> None:
        async with page(chat) as url:
            with pytest.raises(SignalingError):
                await SocketTransport(url, "alice").open(Recorder())

    run(scenario)


def test_no_server_listens() -> None:
    async def scenario() -> None:
        with ArticoServer(port=0) as gone:
            url = gone.url
        with pytest.raises(SignalingError, match=r"refused.*artico-sync serve"):
            await SocketTransport(url, "alice").open(Recorder())

    run(scenario)


def test_an_unknown_host() -> None:
    async def scenario() -> None:
        with pytest.raises(SignalingError, match="host name is unknown"):
            await SocketTransport("http://no-such-host.invalid", "alice").open(Recorder())

    run(scenario)


@pytest.mark.slow
def test_nothing_is_printed() -> None:
    program = """
import asyncio, logging
from artico_sync.server.server import ArticoServer
from artico_sync._engine.signaling.socket import SocketTransport
from tests.unit._engine.signaling.test_socket import Recorder
# Development mode also reports callbacks that are slow on a busy machine.
logging.getLogger("asyncio").setLevel(logging.ERROR)
async def main(server):
    transport = SocketTransport(server.url, "alice")
    await transport.open(Recorder())
    await asyncio.to_thread(server.stop)
    try:
        await transport.open(Recorder())
    except Exception:
        pass
    await transport.close()
asyncio.run(main(ArticoServer(port=0).start()))
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore:::pytest", "-c", program],
        capture_output=True,
        text=True,
        timeout=6 * WAIT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:9000",
        "ftp://localhost",
        "http://",
        "http:///path",
        "http://:9000",
        "http://localhost:port",
        "http://localhost:99999",
        "http://user:hunter2@localhost",
        "http://local host",
        "http://localhost\n",
        "http://[::1",
        "http://" + "a" * 300 + ".example",
        "http://a..b",
        "http://?key=hunter2",
        "http://localhost:port/?key=hunter2",
        "http://a..b/?key=hunter2#hunter2",
    ],
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL") as raised:
        SocketTransport(url, "alice")
    assert "hunter2" not in str(raised.value)


def test_urls_are_parsed() -> None:
    with pytest.raises(TypeError):
        SocketTransport(5, "alice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="token"):
        SocketTransport("http://localhost", "alice", token="line\nend")
    url = ServerUrl.parse("wss://Host.example:8443/some/prefix/?key=a%20b&id=x&EIO=3")
    assert (url.origin, url.path) == ("https://host.example:8443", "some/prefix/socket.io")
    assert url.for_peer("a&b=ü") == "https://host.example:8443/?key=a+b&id=a%26b%3D%C3%BC"
    assert str(url) == "https://host.example:8443/some/prefix"
    assert ServerUrl.parse("http://[::1]:9000").origin == "http://[::1]:9000"


# -- with a network that stops without notice -----------------------------------------------------


class Proxy:
    """Forwards bytes until `blackhole()` is called; new connections always pass."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._dead: set[int] = set()
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: list[asyncio.StreamWriter] = []

    def blackhole(self) -> None:
        """Drop everything on the existing connections."""
        self._dead = set(range(self._count))

    def cut_clients(self) -> None:
        """Cut the existing connections on the clients' side; the server does not notice."""
        self.blackhole()
        for writer in self._clients:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._count = self._count, self._count + 1
        self._clients.append(writer)
        out_reader, out_writer = await asyncio.open_connection(*self._target)
        for source, sink in ((reader, out_writer), (out_reader, writer)):
            task = asyncio.ensure_future(self._pump(number, source, sink))
            self._tasks.add(task)

    async def _pump(
        self, number: int, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    if number not in self._dead:
                        sink.write(data)
            if number in self._dead:
                # Closing is not forwarded either: keep the other side open.
                await asyncio.get_running_loop().create_future()
        finally:
            sink.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def dropping_proxy(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    host, _, port = url.removeprefix("http://").partition(":")
    proxy = Proxy(host, int(port))
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", proxy
    finally:
        listener.close()
        await proxy.close()


def test_raw_peers_and_transports_meet(server: ArticoServer) -> None:
    async def scenario() -> None:
        async with RawPeer(server.url, "raw") as raw:
            await raw.enter()
            async with connected(server.url, "alice") as (alice, at_alice):
                assert await alice.send(signal_to("raw")) is True
                assert (await raw.event())[1][0]["source"] == "alice"
                await raw.signal("alice", {"type": "probe"})
                assert (await at_alice.next())[1]["source"] == "raw"

    run(scenario)
