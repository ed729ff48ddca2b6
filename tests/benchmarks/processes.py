"""Two ends of calls in two processes, controlled by the benchmark."""

from __future__ import annotations

import multiprocessing
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from tests.benchmarks.ends import run_end
from tests.datagram_relay import Relay

BARE, OURS = KINDS = ("bare", "ours")
#: Seconds an order may take; bare aiortc stalls for several.
LIMIT = 120.0
ENDING = 10.0

_CANDIDATE = re.compile(r"(candidate:\S+ \d+ udp \d+ )(\S+) (\d+)( typ)", re.IGNORECASE)
_SPAWN = multiprocessing.get_context("spawn")


class End:
    """One of the processes."""

    def __init__(self, kind: str, name: str, signals: Connection, options: dict[str, Any]) -> None:
        self._orders, child_end = _SPAWN.Pipe()
        self._name = f"{kind} {name}"
        self._process = _SPAWN.Process(
            target=run_end, args=(kind, name, child_end, signals, options), daemon=True
        )
        self._process.start()
        child_end.close()
        signals.close()

    def wait_ready(self) -> None:
        self.result()

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Give an order; `result` waits for its end."""
        self._orders.send((function, arguments))

    def result(self, limit: float = LIMIT) -> Any:
        """Return the result of the order.

        Raises:
            RuntimeError: It failed, or took too long.
        """
        if not self._orders.poll(limit):
            raise RuntimeError(f"{self._name}: nothing within {limit:g} s")
        try:
            done, result = self._orders.recv()
        except EOFError:
            raise RuntimeError(f"{self._name}: the process has ended") from None
        if not done:
            raise RuntimeError(f"{self._name} failed:\n{result}")
        return result

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.begin(function, *arguments)
        return self.result()

    def close(self) -> None:
        if self._process.is_alive():
            try:
                self._orders.send(None)
            except OSError:
                self._process.kill()
            self._process.join(ENDING)
        self._process.kill()
        self._process.join()
        self._orders.close()


class Pair:
    """A caller and a callee of one kind."""

    def __init__(
        self,
        kind: str,
        relay: Relay | None,
        caller: dict[str, Any] | None = None,
        callee: dict[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        if relay is None:
            one, other = _SPAWN.Pipe()
        else:
            (one, first), (other, second) = _SPAWN.Pipe(), _SPAWN.Pipe()
            for source, target, side in ((first, second, "a"), (second, first, "b")):
                threading.Thread(
                    target=_carry, args=(source, target, relay, side), daemon=True
                ).start()
        self.callee = End(kind, "callee", other, callee or {})
        self.caller = End(kind, "caller", one, caller or {})
        self.callee.wait_ready()
        self.caller.wait_ready()

    def close(self) -> None:
        self.caller.close()
        self.callee.close()


def _carry(source: Connection, target: Connection, relay: Relay, side: str) -> None:
    """Pass signals on, with the relay's ports in place of the peer's own."""

    def replace(found: re.Match[str]) -> str:
        head, host, port, tail = found.groups()
        return f"{head}{host} {relay.forward_to((host, int(port)), side)}{tail}"

    while True:
        try:
            message = source.recv()
            data = message["signal"].get("data") or {}
            for key in ("sdp", "candidate"):
                if isinstance(data.get(key), str):
                    data[key] = _CANDIDATE.sub(replace, data[key])
            target.send(message)
        except (EOFError, OSError):
            return


@contextmanager
def pair(kind: str, network: dict[str, float] | None = None, **options: Any) -> Iterator[Pair]:
    """Two ends of one kind, on loopback or on a network with the properties of a `Relay`."""
    with ExitStack() as closing:
        relay = None
        if network is not None:
            relay = closing.enter_context(Relay(**network))  # type: ignore[arg-type]
        ends = Pair(kind, relay, **options)
        closing.callback(ends.close)
        yield ends


@contextmanager
def pairs(network: dict[str, float] | None = None, **options: Any) -> Iterator[tuple[Pair, Pair]]:
    """Start two ends of bare aiortc and two of artico_sync, to be measured alternately."""
    with pair(BARE, network, **options) as bare, pair(OURS, network, **options) as ours:
        yield bare, ours
