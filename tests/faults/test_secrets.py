"""Passwords appear neither in the log nor in anything shown to users."""

from __future__ import annotations

import logging
import re
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from artico_sync import Artico, ArticoServer, SignalingError
from artico_sync.cli import main
from artico_sync.signaling import MemorySignaling, Message
from tests.conftest import RTC_CONFIG, TIME_UNIT
from tests.faults.network import Network
from tests.ice_faults import silent_server

LIMIT = 30.0 * TIME_UNIT
#: Loggers of this library; aiortc, aioice and websockets have debug logs of their own.
OURS = "artico_sync"


def own_log(caplog: pytest.LogCaptureFixture) -> str:
    """All that this library logged, as text."""
    formatter = logging.Formatter("%(message)s")
    return "\n".join(
        formatter.format(record) for record in caplog.records if record.name.startswith(OURS)
    )


@pytest.mark.slow
def test_ice_passwords_are_shown_nowhere(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    first, second = network.relay(), network.relay()
    alice, bob, signals = network.clients(first)
    secrets: set[str] = set()

    def spy(message: Message) -> Message:
        sdp = (message["signal"].get("data") or {}).get("sdp", "")
        secrets.update(re.findall(r"a=ice-pwd:(\S+)", sdp))
        return message

    signals.alices.filter = signals.bobs.filter = spy
    call = alice.call("bob")
    incoming = bob.wait_for("call", LIMIT).answer().wait_open(LIMIT)
    call.wait_open(LIMIT)
    # A restart, invalid signals, and an end, each of which is logged.
    signals.use(second)
    first.cut()
    call.send("moved")
    assert incoming.recv(LIMIT) == "moved"
    password = sorted(secrets)[0]
    for signal in (
        {"type": "sdp", "data": {"type": "offer", "sdp": f"v=0\r\na=ice-pwd:{password}\r\n"}},
        {"type": "sdp", "data": {"type": "answer", "sdp": f"a=ice-pwd:{password}\r\nm=x"}},
        {"type": "candidate", "data": {"candidate": f"candidate:{password}", "sdpMid": "0"}},
    ):
        message = {"target": "bob", "session": call.session, "signal": signal}
        MemorySignaling.signal(signals.alices, message)
    shown = [str(call.stats()), str(incoming.stats()), repr(call), repr(alice), call._repr_html_()]
    call.hangup()
    incoming.wait_closed(LIMIT)
    assert len(secrets) >= 4
    log = own_log(caplog)
    assert "restart" in log or "another" in log
    for secret in secrets:
        assert secret not in log
        assert not any(secret in text for text in shown)


def test_tokens_and_turn_passwords_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token, credential = "tokentokentoken", "turnturnturnturn"
    with silent_server() as port, ArticoServer(port=0, auth=lambda shown: shown == token) as server:
        turn = {
            "urls": f"turn:127.0.0.1:{port}?transport=udp",
            "username": "user",
            "credential": credential,
        }
        rtc_config = {"iceServers": [turn, {**turn, "urls": "turns:localhost?transport=udp"}]}
        with (
            Artico(server.url, token=token, id="alice", rtc_config=rtc_config) as alice,
            Artico(server.url, token=token, id="bob", rtc_config=rtc_config) as bob,
        ):
            call = alice.call("bob")
            incoming = bob.wait_for("call", LIMIT).answer().wait_open(LIMIT)
            call.wait_open(LIMIT)
            shown = [str(call.stats()), repr(alice), repr(call), alice._repr_html_()]
            call.hangup()
            incoming.wait_closed(LIMIT)
        with pytest.raises(SignalingError) as refused:
            Artico(server.url, token=f"not {token}", rtc_config=dict(RTC_CONFIG)).connect()
        shown.append(str(refused.value))
    log = own_log(caplog)
    assert log
    for secret in (token, credential):
        assert secret not in log
        assert not any(secret in text for text in shown)


@contextmanager
def answering(words: bytes) -> Iterator[int]:
    """Yield the port of a server that sends the same answer to every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(words)

        thread = threading.Thread(target=serve, name="answering")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT)


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", b"nonsense\r\n\r\n", b""]
)
def test_a_failed_connect_tells_neither_query_nor_token(
    words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    query, token = "queryqueryquery", "tokentokentoken"
    with answering(words) as port:
        rtco = Artico(f"http://127.0.0.1:{port}/?key={query}", token=token)
        with pytest.raises(SignalingError) as failed:
            rtco.connect(LIMIT)
    error: BaseException | None = failed.value
    shown = traceback.format_exception(failed.value)
    while error is not None:
        shown.append(repr(error))
        error = error.__cause__ or error.__context__
    shown += [own_log(caplog), repr(rtco)]
    assert not [text for text in shown if query in text or token in text]


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_the_command_line_shows_no_query(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n") as port:
        url = f"http://127.0.0.1:{port}/"
        main(["call", "bob", "--no-stun", "--url", f"{url}?key=queryqueryquery", *options])
    printed = "".join(capsys.readouterr())
    assert url.rstrip("/") in printed
    assert "queryqueryquery" not in printed


@pytest.mark.logs_errors
def test_a_failing_call_tells_no_password_in_its_errors(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    alice, bob, signals = network.clients(network.relay(loss=1.0), connect_timeout=0.5)
    secrets: set[str] = set()

    def spy(message: Message) -> Message:
        sdp = (message["signal"].get("data") or {}).get("sdp", "")
        secrets.update(re.findall(r"a=ice-pwd:(\S+)", sdp))
        return message

    signals.alices.filter = signals.bobs.filter = spy
    call = alice.call("bob")
    bob.wait_for("call", LIMIT).answer()
    with pytest.raises(Exception, match="connection") as failed:
        call.wait_open(LIMIT)
    assert secrets
    for secret in secrets:
        assert secret not in own_log(caplog) + str(failed.value)
