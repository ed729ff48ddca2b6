"""ICE restarts by negotiation."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from aiortc import RTCIceCandidate

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.transport import IceAgent
from artico_sync._webrtc.sctp.transport import SctpTransport
from tests.negotiating import (
    End,
    Signal,
    Still,
    settle,
    until,
    with_call,
)


@pytest.mark.parametrize("side", ["caller", "callee", "both"])
def test_an_ice_restart_keeps_the_call(side: str) -> None:
    async def test(caller: End, callee: End) -> None:
        before = caller.connection.remote_username, callee.connection.remote_username
        if side != "callee":
            caller.negotiation.restart_ice()
        if side != "caller":
            callee.negotiation.restart_ice()
        await settle(caller, callee)
        after = caller.connection.remote_username, callee.connection.remote_username
        assert before[0] != after[0] and before[1] != after[1]
        for end in (caller, callee):
            await until(lambda: end.connection.ice_transport.state == "completed")
        caller.say("over the new path")
        callee.say("and back")
        await until(lambda: "over the new path" in callee.texts and "and back" in caller.texts)
        track = Still("audio")
        callee.negotiation.add_track(track, "one")
        await settle(caller, callee)
        assert caller.streams == {track.id: "one"}

    with_call(test)


def test_a_path_reported_lost_again_and_again_makes_one_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(caller: End, callee: End) -> None:
        transport = caller.connection.ice_transport
        first, offers = transport.agent, len(caller.descriptions("offer"))
        arrives = asyncio.Event()
        connect = IceAgent.connect

        async def connect_slowly(connection: IceAgent) -> None:
            await arrives.wait()
            await connect(connection)

        monkeypatch.setattr(IceAgent, "connect", connect_slowly)
        assert first.on_broken is not None
        first.on_broken()
        await until(lambda: transport._restart is not None)
        await settle(caller, callee)
        for _ in range(3):
            first.on_broken()
            await settle(caller, callee)
        assert len(caller.descriptions("offer")) == offers + 1
        with monkeypatch.context() as elsewhere:
            # The addresses offered for that restart are gone, so it cannot succeed.
            elsewhere.setattr(IceAgent, "is_outdated", True)
            first.on_broken()
            await until(lambda: len(caller.descriptions("offer")) == offers + 2)
        await settle(caller, callee)
        arrives.set()
        await until(lambda: transport.agent is not first)

    with_call(test, Settings(silence_timeout=60.0, offer_timeout=60.0))


def test_addresses_that_change_while_a_restart_is_offered_make_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(caller: End, callee: End) -> None:
        held: list[Signal] = []
        deliver, callee.deliver = callee.deliver, held.append
        assert deliver is not None
        offers = len(caller.descriptions("offer"))
        caller.negotiation.restart_ice()
        await until(lambda: held)
        assert len(caller.descriptions("offer")) == offers + 1
        caller.negotiation.restart_ice()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(IceAgent, "is_outdated", True)
            caller.negotiation.restart_ice()
        callee.deliver = deliver
        for signal in held:
            deliver(signal)
        await until(lambda: len(caller.descriptions("offer")) == offers + 2)
        await settle(caller, callee)
        assert len(caller.descriptions("offer")) == offers + 2

    with_call(test, Settings(offer_timeout=60.0))


def test_restarts_of_both_sides_that_arrive_together_are_distinguished() -> None:
    async def test(caller: End, callee: End) -> None:
        transports = [end.connection.ice_transport for end in (caller, callee)]
        first = [transport.agent for transport in transports]
        deliver, held = callee.deliver, list[Signal]()
        assert deliver is not None
        callee.deliver = held.append
        caller.negotiation.restart_ice()
        await until(lambda: any(signal["type"] == "sdp" for signal in held))
        callee.negotiation.restart_ice()
        await until(lambda: sum(signal["type"] == "sdp" for signal in held) == 2)
        usernames = {first[0].local_username, transports[0]._gatherer.agent.local_username}
        callee.deliver = deliver
        for signal in held:
            deliver(signal)
        await settle(caller, callee)
        # The answer to the callee's offer restarts as well, with credentials of its own.
        assert callee.connection.remote_username not in usernames
        await until(lambda: all(t.agent not in first for t in transports))
        await until(lambda: all(t._restart is None for t in transports))
        used = [transport.agent for transport in transports]
        assert used[0].remote_username == used[1].local_username

    with_call(test)


def test_data_transports_are_notified_of_another_path(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[SctpTransport] = []
    monkeypatch.setattr(SctpTransport, "on_path_change", lambda transport: told.append(transport))

    async def test(caller: End, callee: End) -> None:
        transports = [end.connection.sctp_transport for end in (caller, callee)]
        for _ in range(2):
            for end in (caller, callee):
                moved = end.connection.ice_transport.agent.path.on_change
                assert moved is not None
                moved()
            assert all(transport in told for transport in transports)
            told.clear()
            caller.negotiation.restart_ice()
            await settle(caller, callee)
            await until(lambda: all(transport in told for transport in transports))
            told.clear()

    with_call(test)


@pytest.mark.slow
@pytest.mark.parametrize("again", [True, False])
def test_a_restart_that_came_to_nothing_leaves_no_trace(again: bool) -> None:
    async def test(caller: End, callee: End) -> None:
        ends = (caller, callee)
        transports = [end.connection.ice_transport for end in ends]
        first = [transport.agent for transport in transports]
        carriers = caller.deliver, callee.deliver
        caller.deliver, callee.deliver = [without_candidates(end) for end in (callee, caller)]
        if not again:
            caller.connection.on_restart_needed = callee.connection.on_restart_needed = None
        caller.negotiation.restart_ice()
        await until(lambda: all(transport._restart for transport in transports))
        await until(lambda: all(transport._next is None for transport in transports) or again)
        caller.deliver, callee.deliver = carriers
        if again:
            await until(lambda: all(t.agent not in first for t in transports))
        for count in range(1, 4):
            caller.negotiation.add_track(Still("audio"), f"caller-{count}")
            await until(lambda: len(callee.streams) == count)
            await settle(*ends)
            callee.negotiation.add_track(Still("audio"), f"callee-{count}")
            await until(lambda: len(caller.streams) == count)
            await settle(*ends)
        assert caller.errors == callee.errors == []
        assert again or [transport.agent for transport in transports] == first

    with_call(test, Settings(connect_timeout=0.5 if again else 3.0))


def without_candidates(end: End) -> Callable[[Signal], None]:
    """Deliver signals to an end, but no candidates."""

    def carry(signal: Signal) -> None:
        if signal["type"] == "sdp":
            text = re.sub(r"a=candidate:.*\r\n", "", signal["data"]["sdp"])
            end.inbox.put_nowait({**signal, "data": {**signal["data"], "sdp": text}})

    return carry


def test_a_restart_that_came_to_nothing_for_one_side_only_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(caller: End, callee: End) -> None:
        transports = [end.connection.ice_transport for end in (caller, callee)]
        first = [transport.agent for transport in transports]
        connect = IceAgent.connect

        async def connect_for_one(connection: IceAgent) -> None:
            if connection is transports[1]._next:
                await until(lambda: transports[0].agent is not first[0])
                raise ConnectionError("not this one")
            await connect(connection)

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(IceAgent, "connect", connect_for_one)
            meanwhile.setattr(callee.connection, "on_restart_needed", None)
            caller.negotiation.restart_ice()
            await until(lambda: transports[0].agent is not first[0])
            await until(lambda: transports[1]._next is None)
        caller.negotiation.add_track(Still("audio"), "one")
        await settle(caller, callee)
        await until(lambda: transports[1].agent is not first[1])
        assert list(callee.streams.values()) == ["one"] and caller.errors == []

    with_call(test, Settings(offer_timeout=60.0))


def test_each_ice_restart_may_have_its_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(caller: End, callee: End) -> None:
        taken: list[int] = []

        async def add(candidate: RTCIceCandidate) -> None:
            taken.append(candidate.port)

        async def trickle(port: int) -> None:
            text = f"candidate:1 1 udp 1 192.0.2.7 {port} typ host"
            data = {"candidate": text, "usernameFragment": caller.connection.remote_username}
            await caller.negotiation.receive({"type": "candidate", "data": data})

        for generation in range(1, 4):
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(caller.connection, "add_candidate", add)
                for number in range(6):
                    await trickle(1000 * generation + number)
            assert taken == [1000 * generation + number for number in range(4)]
            taken.clear()
            callee.negotiation.restart_ice()
            await settle(caller, callee)

    with_call(test, Settings(maximum_candidates=4))
