"""Setting up a call: blocking `call()` to `wait_open()`, the callee answering in a handler.

Against aiortc bare, from a fresh peer connection to its open channel. Both exchange their
signals through the same kind of pipe; the same through a real signaling server is shown too.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from statistics import median
from time import perf_counter
from typing import Any

from artico_sync import ArticoServer
from tests.benchmarks.ends import HANGING_NAME, BareEnd, SyncEnd
from tests.benchmarks.processes import BARE, OURS, Pair, pair
from tests.benchmarks.rows import Row, Scale, compare

PART = "Call set-up"
CALLS = 6
#: Bare aiortc waits five seconds at each end for a server that does not answer.
PATIENCE = 100.0


def measure(scale: Scale) -> list[Row]:
    with ExitStack() as closing:
        silent = closing.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        silent.bind(("127.0.0.1", 0))
        server = closing.enter_context(ArticoServer(port=0))

        def opened(kind: str, options: dict[str, Any]) -> Pair:
            ends = closing.enter_context(pair(kind, caller=options, callee=options))
            ends.callee.run(bare_answer if kind == BARE else sync_answer)
            return ends

        dead = with_server(f"stun:127.0.0.1:{silent.getsockname()[1]}")
        nameless = with_server(f"stun:{HANGING_NAME}:3478")
        bare, ours = opened(BARE, {}), opened(OURS, {})
        served = opened(OURS, {"url": server.url})
        ours_dead, ours_nameless = opened(OURS, dead), opened(OURS, nameless)
        found = [
            tuple(call(ends) for ends in (bare, ours, served, ours_dead, ours_nameless))
            for _ in range(CALLS * scale.rounds)
        ]
        rows = [
            compare(PART, "loopback", "ms", [(one[0], one[1]) for one in found], 0.7),
            compare(
                PART, "loopback, by a signaling server", "ms", [(one[0], one[2]) for one in found]
            ),
        ]
        for index, options, name in (
            (3, dead, "STUN server that never answers"),
            (4, nameless, "DNS that hangs"),
        ):
            against = [(one[1], one[index]) for one in found]
            rows.append(compare(PART, name, "ms", against, 1.5, against="without"))
            if options is dead or scale.full:
                slow = [(call(opened(BARE, options)), median(one[index] for one in found))]
                rows.append(compare(PART, f"{name}, bare", "ms", slow))
    return rows


def with_server(url: str) -> dict[str, Any]:
    return {"rtc_config": {"iceServers": [{"urls": url}]}}


def call(ends: Pair) -> float:
    """Set up a call and end it; milliseconds."""
    ends.caller.begin(bare_call if ends.kind == BARE else sync_call)
    return float(ends.caller.result(PATIENCE))


def sync_answer(end: SyncEnd) -> None:
    end.answer(lambda call: None)


def sync_call(end: SyncEnd) -> float:
    begun = perf_counter()
    call = end.call()
    taken = perf_counter() - begun
    call.hangup()
    return 1000 * taken


async def bare_answer(end: BareEnd) -> None:
    """It answers by itself."""


async def bare_call(end: BareEnd) -> float:
    begun = perf_counter()
    call = await end.call()
    taken = perf_counter() - begun
    await call.close()
    return 1000 * taken
