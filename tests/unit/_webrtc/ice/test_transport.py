"""The ICE transport: two peers connected over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from aioice import stun
from aiortc import (
    InvalidStateError,
    RTCConfiguration,
    RTCIceCandidate,
    RTCIceParameters,
    RTCIceServer,
    RTCIceTransportPolicy,
)
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport

from artico_sync._bridge.threads import DaemonExecutor
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice import gatherer as gathering
from artico_sync._webrtc.ice import servers as ice_servers
from artico_sync._webrtc.ice import transport as ice
from artico_sync._webrtc.ice.transport import IceTransport, create_ice_transport
from tests.ice_faults import LOOPBACK, Path, StunServer, TurnServer, silent_server

NO_SERVERS = RTCConfiguration(iceServers=[])
MAPPED = ("203.0.113.7", 4321)
#: A tenth of the real thresholds.
QUICK = Settings(silence_timeout=0.6, gathering_timeout=1.0)
#: Seconds after which a wait has failed.
LIMIT = 10.0


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "host_addresses", lambda: [LOOPBACK])
    monkeypatch.setattr(ice, "OLD_PAIR_GRACE_SECONDS", 0.05)


class Peer:
    """A transport, with a record of its reports."""

    def __init__(
        self, settings: Settings = QUICK, configuration: RTCConfiguration = NO_SERVERS
    ) -> None:
        self.candidates: list[RTCIceCandidate] = []
        self.silences: list[float] = []
        self.lost = asyncio.Event()
        self.silent = asyncio.Event()
        self.found = asyncio.Event()
        self.transport = create_ice_transport(configuration, settings, self._found)
        self.transport.on_silence = self._silence
        self.transport.on_lost = self.lost.set

    def _found(self, candidate: RTCIceCandidate) -> None:
        self.candidates.append(candidate)
        self.found.set()

    def _silence(self, seconds: float) -> None:
        self.silences.append(seconds)
        (self.silent.set if seconds else self.silent.clear)()

    @property
    def gatherer(self) -> ice.IceGatherer:
        gatherer = self.transport.iceGatherer
        assert isinstance(gatherer, ice.IceGatherer)
        return gatherer

    async def gather(self) -> None:
        await self.gatherer.gather()

    async def learn(self, other: Peer) -> None:
        for candidate in other.gatherer.getLocalCandidates():
            await self.transport.addRemoteCandidate(candidate)

    async def start(self, other: Peer) -> None:
        await self.transport.start(other.gatherer.getLocalParameters())

    async def send(self, data: bytes) -> None:
        await self.transport.send_datagram(data)

    async def receive(self) -> bytes:
        return await asyncio.wait_for(self.transport.receive_datagram(), LIMIT)


def controlling(settings: Settings = QUICK, configuration: RTCConfiguration = NO_SERVERS) -> Peer:
    peer = Peer(settings, configuration)
    peer.transport.agent.ice_controlling = True
    return peer


async def join(one: Peer, other: Peer) -> None:
    await asyncio.gather(one.gather(), other.gather())
    await one.learn(other)
    await other.learn(one)
    await asyncio.wait_for(asyncio.gather(one.start(other), other.start(one)), LIMIT)
    assert (one.transport.state, other.transport.state) == ("completed", "completed")


async def stop(*peers: Peer) -> None:
    for peer in peers:
        await asyncio.wait_for(peer.transport.stop(), LIMIT)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left


@asynccontextmanager
async def connected(settings: Settings = QUICK) -> AsyncIterator[tuple[Peer, Peer]]:
    one, other = controlling(settings), Peer(settings)
    await join(one, other)
    yield one, other
    await stop(one, other)


@asynccontextmanager
async def over_path(settings: Settings = QUICK) -> AsyncIterator[tuple[Peer, Peer, Path]]:
    """Connect two peers whose datagrams all go through a path that can be cut."""
    one, other = controlling(settings), Peer(settings)
    await asyncio.gather(one.gather(), other.gather())
    (candidate,) = other.gatherer.getLocalCandidates()
    async with Path((candidate.ip, candidate.port)) as path:
        await one.transport.addRemoteCandidate(dataclasses.replace(candidate, port=path.port))
        await asyncio.wait_for(asyncio.gather(one.start(other), other.start(one)), LIMIT)
        yield one, other, path
        await stop(one, other)


async def round_trip(one: Peer, other: Peer) -> None:
    await one.send(b"\x16there")
    assert await other.receive() == b"\x16there"
    await other.send(b"\x16back")
    assert await one.receive() == b"\x16back"


# Connecting


@pytest.mark.parametrize("accelerate", [True, False])
def test_connects_and_carries_datagrams(accelerate: bool) -> None:
    async def main() -> None:
        settings = dataclasses.replace(QUICK, accelerate=accelerate)
        async with connected(settings) as (one, other):
            assert (one.transport.role, other.transport.role) == ("controlling", "controlled")
            await round_trip(one, other)
            assert one.gatherer.state == "completed"
            for number in range(500):
                await one.send(b"\x80%d" % number)
            assert [await other.receive() for _ in range(500)] == [
                b"\x80%d" % number for number in range(500)
            ]

    asyncio.run(main())


def test_both_controlling_is_resolved() -> None:
    async def main() -> None:
        one, other = controlling(), controlling()
        await join(one, other)
        await round_trip(one, other)
        assert {one.transport.role, other.transport.role} == {"controlling", "controlled"}
        await stop(one, other)

    asyncio.run(main())


def test_candidate_that_comes_late_connects_without_idle_work() -> None:
    async def main() -> None:
        one, other = controlling(), Peer()
        await asyncio.gather(one.gather(), other.gather())
        both = asyncio.gather(one.start(other), other.start(one))
        await asyncio.sleep(0.05)
        assert one.transport.agent._scheduler._timer is None
        await one.learn(other)
        await asyncio.wait_for(both, LIMIT)
        await round_trip(one, other)
        await stop(one, other)

    asyncio.run(main())


def test_end_of_candidates_ends_nothing() -> None:
    async def main() -> None:
        one, other = controlling(), Peer()
        await asyncio.gather(one.gather(), other.gather())
        await one.transport.addRemoteCandidate(None)
        starting = asyncio.ensure_future(one.start(other))
        await asyncio.sleep(0.05)
        assert one.transport.state == "checking"
        await one.learn(other)
        await asyncio.wait_for(asyncio.gather(starting, other.start(one)), LIMIT)
        await stop(one, other)

    asyncio.run(main())


def test_path_stats_show_the_pair() -> None:
    async def main() -> None:
        async with connected() as (one, other):
            async with asyncio.timeout(LIMIT):
                # The first response is not measured if it was late.
                while (stats := one.transport.path_stats())["round_trip_time"] is None:
                    await asyncio.sleep(0.01)
            remote = other.gatherer.getLocalCandidates()[0]
            assert stats["remote"] == {
                "type": "host",
                "address": LOOPBACK,
                "port": remote.port,
                "protocol": "udp",
            }
            round_trip_time = stats["round_trip_time"]
            assert isinstance(round_trip_time, float) and 0 < round_trip_time < LIMIT
        assert one.transport.path_stats() == {}

    asyncio.run(main())


# Gathering


def with_servers(*urls: str, policy: RTCIceTransportPolicy | None = None) -> RTCConfiguration:
    servers = [RTCIceServer(url, username="u", credential="c") for url in urls]
    return RTCConfiguration(
        iceServers=servers, iceTransportPolicy=policy or RTCIceTransportPolicy.ALL
    )


def test_silent_servers_do_not_delay_the_connection() -> None:
    async def main(port: int) -> None:
        configuration = with_servers(
            f"stun:{LOOPBACK}:{port}",
            f"turn:{LOOPBACK}:{port}",
            f"turn:{LOOPBACK}:{port}?transport=tcp",
            f"turns:{LOOPBACK}:{port}?transport=tcp",
        )
        settings = dataclasses.replace(QUICK, gathering_timeout=3 * LIMIT)
        one, other = controlling(settings, configuration), Peer(settings, configuration)
        await join(one, other)
        # aioice would query them for half a minute.
        assert one.gatherer.state == other.gatherer.state == "gathering"
        await stop(one, other)

    with silent_server() as port:
        asyncio.run(main(port))


def test_gathering_has_a_timeout() -> None:
    async def main(port: int) -> None:
        settings = dataclasses.replace(QUICK, gathering_timeout=0.05)
        peer = Peer(settings, with_servers(f"stun:{LOOPBACK}:{port}"))
        completed = asyncio.Event()
        peer.gatherer.on("statechange", lambda: completed.set())
        await peer.gather()
        while peer.gatherer.state != "completed":
            completed.clear()
            await asyncio.wait_for(completed.wait(), LIMIT)
        await stop(peer)

    with silent_server() as port:
        asyncio.run(main(port))


def test_every_stun_server_is_queried() -> None:
    async def main(port: int) -> None:
        async with StunServer(MAPPED) as server:
            configuration = with_servers(
                f"stun:{LOOPBACK}:{port}", "stun:bad:bad:bad", f"stun:localhost:{server.port}"
            )
            peer = Peer(QUICK, configuration)
            await peer.gather()
            await asyncio.wait_for(peer.found.wait(), LIMIT)
            (candidate,) = peer.candidates
            assert (candidate.type, candidate.ip, candidate.port) == ("srflx", *MAPPED)
            assert candidate.relatedAddress == LOOPBACK
            assert candidate in peer.gatherer.getLocalCandidates()
            await stop(peer)

    with silent_server() as port:
        asyncio.run(main(port))


def test_candidates_of_servers_are_kept_alive_until_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ice_servers, "KEEP_ALIVE_INTERVAL_SECONDS", 0.02)

    async def main(port: int) -> None:
        async with StunServer(MAPPED) as stun_server, TurnServer() as turn_server:
            urls = (
                f"stun:{LOOPBACK}:{stun_server.port}",
                f"turn:{LOOPBACK}:{turn_server.port}",
                f"stun:{LOOPBACK}:{port}",
            )
            one, other = controlling(QUICK, with_servers(*urls)), Peer()
            await asyncio.gather(one.gather(), other.gather())
            async with asyncio.timeout(LIMIT):
                while stun_server.asked < 4 or turn_server.indications < 3:
                    await asyncio.sleep(0.01)
                assert len(one.candidates) == 2
                await join(one, other)
                names = {"keep candidates alive"}
                while names & {task.get_name() for task in asyncio.all_tasks()}:
                    await asyncio.sleep(0.01)
            await round_trip(one, other)
            await stop(one, other)

    with silent_server() as port:
        asyncio.run(main(port))


def test_hanging_lookups_do_not_delay_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def hang(host: str, port: int) -> list[tuple[str, int]]:
        never.wait(LIMIT)
        return []

    monkeypatch.setattr(ice_servers, "look_up", hang)

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(DaemonExecutor())
        configuration = with_servers("stun:name.invalid", "turn:name.invalid")
        began = time.perf_counter()
        for _ in range(10):
            one, other = controlling(QUICK, configuration), Peer(QUICK, configuration)
            await join(one, other)
            await stop(one, other)
        assert time.perf_counter() - began < 0.7 * 10 * QUICK.gathering_timeout

    asyncio.run(main())
    never.set()


def test_relay_only_goes_over_turn() -> None:
    async def main() -> None:
        async with TurnServer() as server:
            url = f"turn:{LOOPBACK}:{server.port}"
            configuration = with_servers(url, policy=RTCIceTransportPolicy.RELAY)
            one, other = controlling(QUICK, configuration), Peer(QUICK, configuration)
            await join(one, other)
            (candidate,) = one.gatherer.getLocalCandidates()
            assert (candidate.type, candidate.relatedAddress) == ("relay", "0.0.0.0")
            assert [found.type for found in one.candidates] == ["relay"]
            await round_trip(one, other)
            await stop(one, other)
            assert not server.allocations

    asyncio.run(main())


def test_unreachable_turn_server_does_not_delay_closing() -> None:
    async def main() -> None:
        async with TurnServer() as server:
            peer = Peer(QUICK, with_servers(f"turn:{LOOPBACK}:{server.port}"))
            await peer.gather()
            await asyncio.wait_for(peer.found.wait(), LIMIT)
            server.dead = True
            await stop(peer)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "value"),
    [(0x000D, b""), (0x0020, b"\0\1"), (0x0009, b"\0"), (0x000C, b"\0"), (0x0015, b"\xff")],
)
def test_malformed_messages_of_a_turn_server_are_ignored(kind: int, value: bytes) -> None:
    async def main() -> None:
        raised: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        async with TurnServer() as server:
            peer = Peer(QUICK, with_servers(f"turn:{LOOPBACK}:{server.port}"))
            await peer.gather()
            await asyncio.wait_for(peer.found.wait(), LIMIT)
            attribute = struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)
            header = struct.pack("!HHI12s", 0x0101, len(attribute), stun.COOKIE, bytes(12))
            (client,) = server.allocations
            server.send(header + attribute, client)
            server.send(b"", client)
            await stop(peer)  # the server confirms the deletion after its earlier messages
            assert not raised and not server.allocations

    asyncio.run(main())


def test_relay_only_without_a_server_has_no_candidates() -> None:
    async def main(port: int) -> None:
        relay = RTCIceTransportPolicy.RELAY
        for urls in ((), (f"stun:{LOOPBACK}:{port}",)):
            peer = Peer(QUICK, with_servers(*urls, policy=relay))
            await asyncio.wait_for(peer.gather(), 1.0)
            assert peer.gatherer.getLocalCandidates() == []
            await stop(peer)
        peer = Peer(Settings(), with_servers(f"turn:{LOOPBACK}:{port}", policy=relay))
        gathering = asyncio.ensure_future(peer.gather())
        await asyncio.sleep(0.01)
        assert not gathering.done()
        await peer.transport.stop()
        await gathering
        await stop(peer)

    with silent_server() as port:
        asyncio.run(main(port))


def test_loopback_only_if_there_is_no_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for found, expected in (
        ([], [LOOPBACK]),
        (["192.0.2.1", "fd00::1", "192.0.2.1"], ["192.0.2.1", "fd00::1"]),
    ):
        monkeypatch.setattr(gathering, "get_host_addresses", lambda found=found, **_: found)
        assert gathering.list_addresses() == expected


def test_many_calls_at_once_share_one_list_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    listings: list[int] = []

    def list_addresses() -> list[str]:
        listings.append(1)
        return [LOOPBACK]

    monkeypatch.setattr(gathering, "list_addresses", list_addresses)

    async def main() -> None:
        for _ in range(3):
            assert gathering.host_addresses() == [LOOPBACK]
        assert len(listings) == 1
        monkeypatch.setattr(gathering, "LISTING_AGE_SECONDS", -1.0)
        gathering.host_addresses()
        assert len(listings) == 2

    asyncio.run(main())


# Remote candidates

USABLE = RTCIceCandidate(1, "f", LOOPBACK, 5000, 2130706431, "udp", "host")
ODD = [
    {"ip": "c0ffee00-1111-2222-3333-444455556666.local"},
    {"ip": "name.example"},
    {"ip": ""},
    {"ip": "999.1.1.1"},
    {"ip": "0.0.0.0"},
    {"ip": "224.0.0.251"},
    {"ip": "fe80::1%eth0"},
    {"ip": "fe80::1"},
    {"ip": "2001:db8::1"},
    {"ip": "::ffff:127.0.0.1"},
    {"protocol": "tcp", "port": 9, "tcpType": "active"},
    {"protocol": "smoke"},
    {"component": 2},
    {"component": 0},
    {"port": 0},
    {"port": 70000},
    {"port": -1},
    {"priority": -1},
    {"priority": 2**70},
    {"type": "unheard-of"},
    {"type": "prflx"},
    {"foundation": "x" * 10000},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_unusual_candidates_have_no_effect(odd: dict[str, object]) -> None:
    async def main() -> None:
        one, other = controlling(), Peer()
        await asyncio.gather(one.gather(), other.gather())
        starting = asyncio.gather(one.start(other), other.start(one))
        for peer in (one, other):
            candidate = dataclasses.replace(USABLE, **odd)  # type: ignore[arg-type]
            await asyncio.wait_for(peer.transport.addRemoteCandidate(candidate), 0.1)
        await one.learn(other)
        await asyncio.wait_for(starting, LIMIT)
        await round_trip(one, other)
        await stop(one, other)

    asyncio.run(main())


def test_number_of_candidates_is_bounded() -> None:
    async def main() -> None:
        peer = Peer(dataclasses.replace(QUICK, maximum_candidates=20))
        await peer.gather()
        for port in range(1, 100):
            await peer.transport.addRemoteCandidate(dataclasses.replace(USABLE, port=port))
        assert len(peer.transport.getRemoteCandidates()) == 20
        await stop(peer)

    asyncio.run(main())


# Closing


@pytest.mark.parametrize("accelerate", [True, False])
@pytest.mark.parametrize("passes", [*range(12), 15, 20, 30])
def test_stop_at_any_time(passes: int, accelerate: bool) -> None:
    async def main(port: int) -> None:
        configuration = with_servers(f"stun:{LOOPBACK}:{port}", f"turn:{LOOPBACK}:{port}")
        settings = dataclasses.replace(QUICK, accelerate=accelerate)
        one, other = controlling(settings, configuration), Peer(settings, configuration)
        running = asyncio.ensure_future(join(one, other))
        for _ in range(passes):
            await asyncio.sleep(0)
        await asyncio.gather(one.transport.stop(), one.transport.stop(), other.transport.stop())
        await asyncio.wait([running], timeout=LIMIT)
        if not running.cancelled():
            assert isinstance(running.exception(), InvalidStateError | AssertionError | None)
        await one.transport.stop()
        with pytest.raises(ConnectionError):
            await one.transport.receive_datagram()
        await stop(one, other)

    with silent_server() as port:
        asyncio.run(main(port), debug=True)


def test_stop_ends_a_pending_receive() -> None:
    async def main() -> None:
        async with connected() as (one, _):
            receiving = asyncio.ensure_future(one.transport.receive_datagram())
            await asyncio.sleep(0)
            await one.transport.stop()
            with pytest.raises(ConnectionError):
                await receiving
            with pytest.raises(ConnectionError):
                await one.send(b"\x16late")

    asyncio.run(main())


def test_cancelled_start_leaves_nothing() -> None:
    async def main() -> None:
        one, other = controlling(), Peer()
        await asyncio.gather(one.gather(), other.gather())
        await one.transport.addRemoteCandidate(USABLE)
        starting = asyncio.ensure_future(one.start(other))
        await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await stop(one, other)

    asyncio.run(main())


# Silence


@pytest.mark.slow
def test_a_silent_peer_is_lost() -> None:
    async def main() -> None:
        async with over_path() as (one, other, path):
            await round_trip(one, other)
            while one.silent.is_set():  # possible on a busy machine
                await asyncio.sleep(0.005)
            path.cut, before = True, len(one.silences)
            began = time.perf_counter()
            await asyncio.wait_for(asyncio.gather(one.lost.wait(), other.lost.wait()), LIMIT)
            assert QUICK.silence_timeout * 0.8 < time.perf_counter() - began
            assert one.transport.state == other.transport.state == "failed"
            # The silence is reported before the loss, and never its end. The values need not grow:
            # time in which the loop was suspended does not count.
            reported = one.silences[before:]
            assert 0 < reported[0] < QUICK.silence_timeout and 0.0 not in reported

    asyncio.run(main())


@pytest.mark.slow
def test_a_handler_that_raises_does_not_end_the_consent_checks() -> None:
    async def main() -> None:
        reported: list[float] = []
        raised: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))

        def fail(seconds: float) -> None:
            reported.append(seconds)
            raise OSError(errno.EMFILE, "too many open files")

        async with over_path() as (one, _, path):
            one.transport.on_silence = fail
            path.cut = True
            await asyncio.wait_for(one.lost.wait(), LIMIT)
            assert len(raised) == len(reported) > 1

    asyncio.run(main())


@pytest.mark.slow
def test_a_short_cut_is_survived() -> None:
    async def main() -> None:
        async with over_path(dataclasses.replace(QUICK, silence_timeout=1.2)) as (one, other, path):
            path.cut = True
            await asyncio.wait_for(asyncio.gather(one.silent.wait(), other.silent.wait()), LIMIT)
            await asyncio.sleep(0.4)
            path.cut = False
            while one.silent.is_set() or other.silent.is_set():
                await asyncio.sleep(0.01)
            await round_trip(one, other)
            assert not one.lost.is_set() and not other.lost.is_set()
            assert one.transport.state == "completed"

    asyncio.run(main())


@pytest.mark.slow
def test_time_in_which_the_loop_was_suspended_is_not_silence() -> None:
    async def main() -> None:
        async with over_path() as (one, other, _):
            time.sleep(QUICK.silence_timeout * 2)  # noqa: ASYNC251 - a suspended process
            await round_trip(one, other)
            await asyncio.sleep(QUICK.silence_timeout)
            assert not one.lost.is_set() and not other.lost.is_set()

    asyncio.run(main())


@pytest.mark.slow
def test_an_idle_path_stays_with_few_consent_checks() -> None:
    async def main() -> None:
        async with over_path() as (one, other, path):
            carried = path.carried
            await asyncio.sleep(QUICK.silence_timeout * 3)
            assert not one.lost.is_set() and one.transport.state == "completed"
            # Of both sides together: one request shows both of them that the path works.
            assert path.carried - carried < 60

    asyncio.run(main())


def test_another_path_takes_over() -> None:
    async def main() -> None:
        one, other = controlling(), Peer()
        await asyncio.gather(one.gather(), other.gather())
        (candidate,) = other.gatherer.getLocalCandidates()
        target = (candidate.ip, candidate.port)
        async with Path(target) as first, Path(target) as second:
            for path in (first, second):
                known = dataclasses.replace(candidate, port=path.port, foundation=str(path.port))
                await one.transport.addRemoteCandidate(known)
            await asyncio.wait_for(asyncio.gather(one.start(other), other.start(one)), LIMIT)
            before = [peer.transport.path_stats()["remote"] for peer in (one, other)]
            used = before[0]
            changes: list[Peer] = []
            for peer in (one, other):
                peer.transport.agent.path.on_change = partial(changes.append, peer)
            for path in (first, second):
                path.cut = isinstance(used, dict) and used["port"] == path.port
            assert first.cut or second.cut
            for peer, old in zip((one, other), before, strict=True):
                while peer.transport.path_stats()["remote"] == old:
                    assert not peer.lost.is_set()
                    await asyncio.sleep(0.005)
            await round_trip(one, other)
            assert one in changes and other in changes
            await stop(one, other)

    asyncio.run(main())


def test_a_path_that_the_system_refuses_is_reported() -> None:
    async def main() -> None:
        async with connected() as (one, other):
            reports: list[int] = []
            one.transport.on_restart_needed = lambda: reports.append(1)
            protocol = one.transport.agent.sockets[0]
            protocol.error_received(OSError(errno.EMSGSIZE, "too large"))
            assert not reports
            for _ in range(3):
                protocol.error_received(OSError(errno.ENETUNREACH, "no network"))
            assert reports == [1]
            await restart(one, other)
            protocol.error_received(OSError(errno.ENETUNREACH, "no network"))
            assert reports == [1]

    asyncio.run(main())


# ICE restart


async def restart(asking: Peer, answering: Peer) -> None:
    """Restart both transports in the order of an offer and an answer, without descriptions."""
    await asking.transport.prepare_restart()
    offered = asking.gatherer.getLocalParameters(), asking.gatherer.getLocalCandidates()
    await answering.transport.prepare_restart()
    answered = answering.gatherer.getLocalParameters(), answering.gatherer.getLocalCandidates()
    for peer, (_, candidates) in ((answering, offered), (asking, answered)):
        for candidate in candidates:
            await peer.transport.addRemoteCandidate(candidate)
    await asyncio.wait_for(
        asyncio.gather(
            answering.transport.finish_restart(offered[0]),
            asking.transport.finish_restart(answered[0]),
        ),
        LIMIT,
    )


@pytest.mark.slow
@pytest.mark.parametrize("by_controlling", [True, False])
@pytest.mark.parametrize("dead", [True, False])
def test_restart_under_dtls(by_controlling: bool, dead: bool) -> None:
    # Enough time for a restart on a busy machine.
    settings = dataclasses.replace(QUICK, silence_timeout=2.0)

    async def main() -> None:
        async with over_path(settings) as (one, other, path):
            before = one.gatherer.getLocalParameters()
            sessions = [
                RTCDtlsTransport(peer.transport, [RTCCertificate.generateCertificate()])
                for peer in (one, other)
            ]
            received: asyncio.Queue[bytes] = asyncio.Queue()

            class Receiver:
                async def _handle_data(self, data: bytes) -> None:
                    received.put_nowait(data)

            for session in sessions:
                session._register_data_receiver(Receiver())
            await asyncio.gather(
                sessions[0].start(sessions[1].getLocalParameters()),
                sessions[1].start(sessions[0].getLocalParameters()),
            )
            if dead:
                path.cut = True
                await asyncio.wait_for(one.silent.wait(), LIMIT)
            await restart(*((one, other) if by_controlling else (other, one)))
            path.cut = True
            after = one.gatherer.getLocalParameters()
            assert before.usernameFragment != after.usernameFragment
            assert before.password != after.password
            for session in sessions:
                await session._send_data(b"hello")
                assert await asyncio.wait_for(received.get(), LIMIT) == b"hello"
            await asyncio.sleep(settings.silence_timeout * 1.5)
            assert not one.lost.is_set() and not other.lost.is_set()
            assert one.transport.state == other.transport.state == "completed"
            assert (one.transport.role, other.transport.role) == ("controlling", "controlled")
            for session in sessions:
                assert session.state == "connected"
                await session.stop()

    asyncio.run(main())


@pytest.mark.parametrize("both_nominate", [True, False])
def test_a_restart_after_which_both_have_the_same_role(both_nominate: bool) -> None:
    """Chromium changes its role with a restart; one side switches roles on all its agents."""

    async def main() -> None:
        async with connected() as (one, other):
            for _ in range(5):
                for peer in (one, other):
                    peer.transport.set_role(both_nominate)
                await asyncio.wait_for(restart(one, other), LIMIT)
                roles = {peer.transport.agent.ice_controlling for peer in (one, other)}
                assert roles == {True, False}
                await round_trip(one, other)

    asyncio.run(main())


def test_all_connections_of_a_transport_change_their_role_together() -> None:
    async def main() -> None:
        async with connected() as (one, _):
            transport = one.transport
            old = transport.agent
            await transport.prepare_restart()
            new = one.gatherer.agent
            assert new is not old
            for controlling in (False, True):
                new.switch_role(controlling)
                assert (old.ice_controlling, transport.role) == (
                    controlling,
                    "controlling" if controlling else "controlled",
                )
                old.switch_role(not controlling)
                assert new.ice_controlling is not controlling

    asyncio.run(main())


async def prepare_restarts(one: Peer, other: Peer) -> tuple[RTCIceParameters, RTCIceParameters]:
    """Prepare a restart on both sides, and return the parameters of each."""
    for peer in (one, other):
        await peer.transport.prepare_restart()
    await one.learn(other)
    await other.learn(one)
    return one.gatherer.getLocalParameters(), other.gatherer.getLocalParameters()


def test_a_restart_waits_for_the_first_check_of_the_offerer() -> None:
    async def main() -> None:
        async with connected() as (one, other):
            offered, answered = await prepare_restarts(one, other)
            answering = asyncio.ensure_future(other.transport.finish_restart(offered, LIMIT))
            checked = other.gatherer.agent
            await asyncio.sleep(0.1)  # no event shows that nothing happens
            assert not checked._check_times._started_at
            await asyncio.wait_for(one.transport.finish_restart(answered), LIMIT / 2)
            await asyncio.wait_for(answering, LIMIT / 2)
            await round_trip(one, other)

    asyncio.run(main())


def test_a_restart_waits_for_a_check_for_a_limited_time() -> None:
    async def main() -> None:
        async with connected() as (one, other):
            offered, answered = await prepare_restarts(one, other)
            await asyncio.wait_for(
                asyncio.gather(
                    one.transport.finish_restart(answered, 0.05),
                    other.transport.finish_restart(offered, 0.05),
                ),
                LIMIT,
            )
            await round_trip(one, other)

    asyncio.run(main())


def test_restart_keeps_a_pending_receive() -> None:
    async def main() -> None:
        async with connected() as (one, other):
            receiving = asyncio.ensure_future(other.receive())
            await restart(one, other)
            await one.send(b"\x16after")
            assert await receiving == b"\x16after"
            await restart(other, one)
            await round_trip(one, other)

    asyncio.run(main())


def test_a_cancelled_restart_leaves_the_old_agent() -> None:
    async def main() -> None:
        async with connected() as (one, other):
            before = one.gatherer.getLocalParameters()
            await one.transport.cancel_restart()
            await one.transport.prepare_restart()
            offered = one.gatherer.getLocalParameters()
            await one.transport.prepare_restart()
            assert one.gatherer.getLocalParameters() == offered != before
            await one.transport.cancel_restart()
            assert one.gatherer.getLocalParameters() == before
            with pytest.raises(InvalidStateError):
                await one.transport.finish_restart(other.gatherer.getLocalParameters())
            await round_trip(one, other)
            await restart(other, one)

    asyncio.run(main())


@pytest.mark.slow
def test_a_restart_delays_others_for_a_limited_time() -> None:
    async def main() -> None:
        async with connected(dataclasses.replace(QUICK, silence_timeout=3.0)) as (one, _):

            def waits() -> bool:
                return one.transport.is_restarting

            assert not waits()
            await one.transport.prepare_restart()
            assert waits()
            async with asyncio.timeout(LIMIT):
                while waits():
                    await asyncio.sleep(0.01)
            await one.transport.cancel_restart()
            await one.transport.prepare_restart()
            assert waits()

    asyncio.run(main())


def test_restart_that_cannot_connect_keeps_the_old_path() -> None:
    async def main() -> None:
        async with connected(dataclasses.replace(QUICK, connect_timeout=0.2)) as (one, other):
            before = one.gatherer.getLocalParameters()
            await one.transport.prepare_restart()
            with pytest.raises(ConnectionError):
                await one.transport.finish_restart(other.gatherer.getLocalParameters())
            assert one.gatherer.getLocalParameters() == before
            await round_trip(one, other)

    asyncio.run(main())


@pytest.mark.parametrize("passes", [0, 1, 2, 4, 8])
def test_stop_during_a_restart(passes: int) -> None:
    async def main() -> None:
        async with connected() as (one, other):
            running = asyncio.ensure_future(restart(one, other))
            for _ in range(passes):
                await asyncio.sleep(0)
            await stop_both(one, other)
            await asyncio.wait([running], timeout=LIMIT)
            if not running.cancelled():
                assert isinstance(running.exception(), ConnectionError | InvalidStateError | None)

    async def stop_both(*peers: Peer) -> None:
        await asyncio.gather(*(peer.transport.stop() for peer in peers))

    asyncio.run(main(), debug=True)


def test_restart_before_the_first_connection_is_made() -> None:
    async def main() -> None:
        one, other = controlling(), Peer()
        await asyncio.gather(one.gather(), other.gather())
        starting = asyncio.gather(one.start(other), other.start(one))
        await asyncio.sleep(0)
        await restart(one, other)
        await asyncio.wait_for(starting, LIMIT)
        assert one.transport.state == other.transport.state == "completed"
        await round_trip(one, other)
        await stop(one, other)

    asyncio.run(main())


# Private names of the packages


def test_private_names_of_the_packages() -> None:
    from aioice.turn import TurnTransport

    assert callable(getattr(IceTransport, "_RTCIceTransport__setState"))
    assert callable(getattr(ice.IceGatherer, "_RTCIceGatherer__setState"))
    names = TurnTransport.__init__.__code__.co_names
    assert {"_TurnTransport__close_task", "_TurnTransport__send_tasks"} <= set(names)
