"""Admission: tokens, origins of web pages, proxies, TLS; and what is logged about it."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict

from artico_sync import Artico, ArticoServer, InvalidIdError, SignalingError
from artico_sync.server.http import client_address
from artico_sync.server.origins import OriginPolicy, normalized
from artico_sync.server.server import ServerLimits
from tests.certificates import make_certificate, trusting
from tests.faults.peer_process import PeerProcess
from tests.unit.server.raw_peer import WAIT, RawPeer, two_peers

TOKENS: dict[str | None, str | bool | None] = {
    "for-alice": "alice",
    "for-any-id": True,
    "revoked": False,
    None: None,
}


def auth(token: str | None) -> str | bool | None:
    """Return the permitted id of a token; unknown tokens have none."""
    return TOKENS.get(token)


@pytest.mark.parametrize(
    ("token", "peer_id", "outcome"),
    [
        ("for-alice", "alice", "open"),
        ("for-alice", "bob", "invalid-id"),
        ("for-any-id", "bob", "open"),
        ("revoked", "bob", "unauthorized"),
        ("never-heard-of", "bob", "unauthorized"),
        (None, "bob", "unauthorized"),
        ("x" * 100_000, "bob", "unauthorized"),
        (5, "bob", "unauthorized"),
        (["for-any-id"], "bob", "unauthorized"),
    ],
)
def test_auth_decides_who_is_admitted_under_which_id(
    token: object, peer_id: str, outcome: str
) -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, peer_id, auth={"token": token}) as peer:
            if outcome == "open":
                await peer.enter()
                assert server.peers == (peer_id,)
            else:
                assert await peer.refused() == outcome
                assert server.peers == ()

    with ArticoServer(port=0, auth=auth) as server:
        asyncio.run(visit(server))


@pytest.mark.parametrize("header", ["Bearer for-alice", "bearer  for-alice "])
def test_the_token_may_be_a_bearer_header(header: str) -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice", headers={"Authorization": header}) as peer:
            await peer.enter()

    with ArticoServer(port=0, auth=auth) as server:
        asyncio.run(visit(server))


def test_other_schemes_are_no_token() -> None:
    async def visit(server: ArticoServer) -> None:
        headers = {"Authorization": "Basic for-alice"}
        async with RawPeer(server.url, "alice", headers=headers) as peer:
            assert await peer.refused() == "unauthorized"

    with ArticoServer(port=0, auth=auth) as server:
        asyncio.run(visit(server))


def test_auth_may_block_without_delaying_other_peers() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(token: str | None) -> bool:
        if token == "slow":
            asked.set()
            assert go_on.wait(WAIT)
        return True

    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "late", auth={"token": "slow"}) as late:
            entering = asyncio.ensure_future(late.enter())
            assert await asyncio.to_thread(asked.wait, WAIT)
            async with two_peers(server) as (alice, bob):
                await alice.signal("bob", {"type": "sdp"}, request=1)
                assert await alice.acknowledged(1) == {"delivered": True}
                assert "late" not in server.peers
            go_on.set()
            await entering
            assert "late" in server.peers

    with ArticoServer(port=0, auth=slow) as server:
        asyncio.run(visit(server))


@pytest.mark.slow
def test_stop_does_not_wait_for_auth() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def stuck(token: str | None) -> bool:
        asked.set()
        return go_on.wait(8 * WAIT)

    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice:
            await alice.send_frame("40")
            assert await asyncio.to_thread(asked.wait, WAIT)
            await asyncio.wait_for(asyncio.to_thread(server.stop, 0.1), 4 * WAIT)
            await alice.gone()

    server = ArticoServer(port=0, auth=stuck).start()
    try:
        asyncio.run(visit(server))
    finally:
        go_on.set()


@pytest.mark.slow
def test_auth_that_never_decides_rejects() -> None:
    go_on = threading.Event()

    def stuck(token: str | None) -> bool:
        return go_on.wait(8 * WAIT)

    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice:
            assert await alice.refused() == "unauthorized"

    limits = ServerLimits(handshake_timeout=4.0)
    with ArticoServer(port=0, auth=stuck, limits=limits) as server:
        asyncio.run(visit(server))
        go_on.set()


@pytest.mark.logs_errors
@pytest.mark.parametrize("verdict", [RuntimeError("database is down"), "", 1, b"alice", ["alice"]])
def test_auth_that_fails_rejects(verdict: object, caplog: pytest.LogCaptureFixture) -> None:
    def faulty(token: str | None) -> str | bool | None:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict  # type: ignore[return-value]

    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice", auth={"token": "hunter2"}) as alice:
            assert await alice.refused() == "unauthorized"

    with ArticoServer(port=0, auth=faulty) as server:
        asyncio.run(visit(server))
    assert "hunter2" not in caplog.text


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("engineio.server", "socketio.server", "aiohttp.access"):
        caplog.set_level(logging.DEBUG, logger=name)
    sdp = "a=ice-pwd:verysecretpassword"

    async def visit(server: ArticoServer) -> str:
        async with (
            RawPeer(server.url, "alice", auth={"token": "for-alice"}) as alice,
            RawPeer(
                server.url,
                "bob",
                headers={"Authorization": "Bearer for-any-id"},
                path="/socket.io/?secret=in-the-query",
            ) as bob,
        ):
            await alice.enter()
            await bob.enter()
            data = {"type": "offer", "sdp": sdp}
            await alice.signal("bob", {"type": "sdp", "data": data})
            assert (await bob.event())[0] == "signal"
            await alice.emit("signal", {"target": 5, "session": sdp, "signal": sdp})
            await alice.send_frame("42" + sdp)
            await alice.send_frame(sdp)
            await alice.signal("bob", {"type": "sdp", "data": data}, request=1)
            await alice.acknowledged(1)
            return str(alice.open["resume"])

    with ArticoServer(port=0, auth=auth) as server:
        resume = asyncio.run(visit(server))
    assert "'alice' is connected" in caplog.text
    assert "dropped" in caplog.text
    for secret in ("verysecret", "for-alice", "for-any-id", "in-the-query", resume):
        assert secret not in caplog.text


# -- pages ------------------------------------------------------------------------------------

POLICY_CASES = [
    # origin, host the request was sent to, allowed by default, allowed by a loopback-only server
    (None, "localhost:9000", True, True),
    (None, "anything.example", True, True),
    ("http://localhost:5173", "localhost:9000", True, True),
    ("http://localhost:5173", "127.0.0.1:9000", True, True),
    ("http://127.0.0.1:5173", "localhost:9000", True, True),
    ("http://[::1]:5173", "127.0.0.1:9000", True, True),
    ("http://app.localhost:5173", "[::1]:9000", True, True),
    ("https://app.example", "app.example", True, False),
    ("https://app.example:8443", "app.example:9000", True, False),
    ("HTTPS://APP.example", "app.EXAMPLE:9000", True, False),
    ("https://evil.example", "localhost:9000", False, False),
    ("https://evil.example", "app.example", False, False),
    ("https://app.example.evil.example", "app.example", False, False),
    ("https://localhost.evil.example", "localhost:9000", False, False),
    ("http://127.0.0.1.evil.example", "127.0.0.1:9000", False, False),
    ("http://localhost:5173", "app.example", False, False),
    ("null", "localhost:9000", False, False),
    ("", "localhost:9000", False, False),
    ("http://[", "localhost:9000", False, False),
    ("http://localhost:99999999", "localhost:9000", False, False),
    ("https://app.example", None, False, False),
]


@pytest.mark.parametrize(("origin", "host", "default", "loopback"), POLICY_CASES)
def test_allowed_pages(origin: str | None, host: str | None, default: bool, loopback: bool) -> None:
    assert OriginPolicy().allows(origin, host) is default
    assert OriginPolicy(loopback_only=True).allows(origin, host) is loopback
    assert OriginPolicy("*").allows(origin, host) is True


def test_listed_origins_are_compared_whole() -> None:
    policy = OriginPolicy(["https://app.example", "http://a.example:8080/", "null"])
    for origin in ("https://app.example", "https://APP.example:443", "http://a.example:8080"):
        assert policy.allows(origin, "server.example")
    assert policy.allows("null", "server.example")
    for origin in ("http://app.example", "https://app.example:444", "https://sub.app.example"):
        assert not policy.allows(origin, "server.example")
    assert normalized("https://[2001:DB8::1]:443/") == "https://[2001:db8::1]"


@pytest.mark.parametrize(
    ("origin", "allowed_origins", "passes"),
    [
        ("http://localhost:5173", None, True),
        ("https://evil.example", None, False),
        ("https://app.example", ["https://app.example"], True),
        ("https://evil.example", ["https://app.example"], False),
        ("https://evil.example", "*", True),
    ],
)
def test_a_page_of_another_origin_is_refused(
    origin: str, allowed_origins: object, passes: bool
) -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "page", headers={"Origin": origin}) as page:
            await page.enter()

    with ArticoServer(port=0, allowed_origins=allowed_origins) as server:  # type: ignore[arg-type]
        if passes:
            asyncio.run(visit(server))
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                asyncio.run(visit(server))


def test_dns_rebinding_is_refused(server: ArticoServer) -> None:
    async def visit() -> None:
        headers = {"Origin": "http://rebound.example:9000", "Host": "rebound.example:9000"}
        async with RawPeer(server.url, "page", headers=headers) as page:
            await page.enter()

    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        asyncio.run(visit())


def test_a_proxy_passes_the_host_and_the_address() -> None:
    async def visit(server: ArticoServer) -> None:
        headers = {
            "Origin": "https://app.example",
            "X-Forwarded-Host": "app.example",
            "X-Forwarded-For": "203.0.113.9",
        }
        async with RawPeer(server.url, "page", headers=headers) as page:
            await page.enter()

    with ArticoServer(port=0, behind_proxy=True) as server:
        asyncio.run(visit(server))
    with ArticoServer(port=0) as server:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            asyncio.run(visit(server))


def test_only_what_the_proxy_itself_added_counts() -> None:
    def no_header(name: str) -> None:
        return None

    headers = {"x-forwarded-for": "198.51.100.1, 203.0.113.9"}
    assert client_address("10.0.0.1", headers.get, True) == "203.0.113.9"
    assert client_address("10.0.0.1", headers.get, False) == "10.0.0.1"
    assert client_address("10.0.0.1", no_header, True) == "10.0.0.1"
    assert client_address(None, no_header, False) == "unknown"


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("unknown", "unknown"),
    ],
)
def test_the_port_is_no_part_of_an_address(entry: str, address: str) -> None:
    headers = {"x-forwarded-for": f"198.51.100.1, {entry}"}
    assert client_address("10.0.0.1", headers.get, True) == address


def two_lines(number: int) -> CIMultiDict[str]:
    """Return the headers from a proxy that adds its own line below the client's."""
    lines = [("X-Forwarded-For", f"10.9.9.{number}"), ("X-Forwarded-For", "198.51.100.7")]
    return CIMultiDict(lines)


def test_the_last_line_of_several_is_the_proxys() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice", headers=two_lines(1)) as alice:
            await alice.enter()
            async with RawPeer(server.url, "bob", headers=two_lines(2)):
                pytest.fail("two peers were admitted from one address")

    limits = ServerLimits(max_peers_per_address=1)
    with ArticoServer(port=0, behind_proxy=True, limits=limits) as server:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            asyncio.run(visit(server))


# -- TLS ----------------------------------------------------------------------------------------


def test_serves_https_with_certificate_files(tmp_path: Path) -> None:
    certfile, keyfile = make_certificate(tmp_path)

    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice", tls=trusting(certfile)) as alice:
            await alice.enter()

    with ArticoServer(port=0, certfile=str(certfile), keyfile=str(keyfile)) as server:
        assert server.url.startswith("https://")
        asyncio.run(visit(server))


@pytest.mark.slow
def test_a_call_over_https_with_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certfile, keyfile = make_certificate(tmp_path)
    # Read when a program starts; users with their own certificate authority set it.
    monkeypatch.setenv("SSL_CERT_FILE", str(certfile))
    with (
        ArticoServer(port=0, certfile=str(certfile), keyfile=str(keyfile), auth=auth) as server,
        PeerProcess(server.url, "alice", token="for-alice") as alice,
    ):
        alice.wait_for("ready")
        with PeerProcess(server.url, "bob", "alice", token="for-any-id") as bob:
            bob.wait_for("open")
            assert server.peers == ("alice", "bob")
            bob.order("send", "over TLS")
            assert alice.wait_for("data") == "over TLS"


@pytest.mark.parametrize(
    ("token", "error"),
    [("for-alice", InvalidIdError), ("revoked", SignalingError), (None, SignalingError)],
)
def test_a_client_learns_why_it_is_rejected(token: str | None, error: type[SignalingError]) -> None:
    with ArticoServer(port=0, auth=auth) as server:
        rtco = Artico(server.url, id="bob", token=token, rtc_config={"iceServers": []})
        with pytest.raises(error) as refused:
            rtco.connect(WAIT)
        assert type(refused.value) is error and (token is None or token not in str(refused.value))
        assert server.peers == ()


def test_serves_https_with_a_context(tmp_path: Path) -> None:
    certfile, keyfile = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certfile, keyfile)

    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice", tls=trusting(certfile)) as alice:
            await alice.enter()

    with ArticoServer(port=0, ssl=context) as server:
        asyncio.run(visit(server))
    with pytest.raises(ValueError, match="not both"):
        ArticoServer(ssl=context, certfile=str(certfile))


def test_a_certificate_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("not a certificate")
    with pytest.raises(ValueError, match=r"cert\.pem"):
        ArticoServer(certfile=str(path))
