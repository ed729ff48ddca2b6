"""The state machine of a call and the errors for its close reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from artico_sync._engine.call_state import (
    CallState,
    CallStateMachine,
    CloseReason,
    closed_error,
)
from artico_sync._protocol.settings import Settings
from artico_sync.errors import CallClosedError, CallRejectedError

SETTINGS = Settings(ring_timeout=0.05, connect_timeout=0.05)


class Machine(CallStateMachine):
    """A state machine that records its reports."""

    def __init__(self, initial: CallState, settings: Settings = SETTINGS) -> None:
        self.changes: list[tuple[CallState, str | None]] = []
        self.timeouts: list[CallState] = []
        super().__init__(
            initial,
            "call:test with 'peer'",
            settings,
            on_change=lambda: self.changes.append((self.current, self.reason)),
            on_timeout=lambda: self.timeouts.append(self.current),
        )


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        await test()

    asyncio.run(asyncio.wait_for(body(), 20))


async def timed_out(machine: Machine) -> None:
    while not machine.timeouts:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("initial", [CallState.CALLING, CallState.RINGING])
def test_ringing_is_limited(initial: CallState) -> None:
    async def test() -> None:
        machine = Machine(initial)
        await timed_out(machine)
        assert machine.timeouts == [initial]
        # The owner decides what follows from a timeout.
        assert machine.current is initial and machine.changes == []

    run(test)


def test_connecting_is_limited_but_an_open_call_is_not() -> None:
    async def test() -> None:
        machine = Machine(CallState.CALLING)
        machine.enter(CallState.CONNECTING)
        await timed_out(machine)
        assert machine.timeouts == [CallState.CONNECTING]
        machine.enter(CallState.CONNECTING)
        machine.enter(CallState.OPEN)
        await asyncio.sleep(0.15)
        assert machine.timeouts == [CallState.CONNECTING]

    run(test)


def test_without_a_ring_timeout_a_call_rings_until_it_is_answered() -> None:
    async def test() -> None:
        machine = Machine(CallState.RINGING, Settings(ring_timeout=None))
        await asyncio.sleep(0.1)
        assert machine.timeouts == []
        machine.enter(CallState.CLOSED, CloseReason.REMOTE)

    run(test)


def test_each_change_is_reported_and_the_reason_is_kept() -> None:
    async def test() -> None:
        machine = Machine(CallState.RINGING)
        machine.enter(CallState.CONNECTING)
        machine.enter(CallState.CLOSING, CloseReason.HANGUP)
        machine.enter(CallState.CLOSED)
        assert machine.changes == [
            (CallState.CONNECTING, None),
            (CallState.CLOSING, CloseReason.HANGUP),
            (CallState.CLOSED, CloseReason.HANGUP),
        ]

    run(test)


def test_an_error_says_why_in_the_peers_words() -> None:
    error = closed_error(CloseReason.REJECTED, "in a meeting", "call:test", "bob")
    assert isinstance(error, CallRejectedError)
    assert "rejected the call: in a meeting" in str(error)
    assert type(closed_error(None, None, "call:test", "bob")) is CallClosedError
