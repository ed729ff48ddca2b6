"""Fixtures of every test: a server, clients that end with the test, and a look at what is left."""

from __future__ import annotations

import asyncio.constants
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import hypothesis
import pytest

import artico_sync
from tests.leaks import ErrorLog, SessionLeakDetector

# A slow machine makes every bound of the tests longer by this factor, and so do tests that run side
# by side and wait for each other's turns.
SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ
TIME_UNIT = float(os.environ.get("ARTICO_SYNC_TEST_TIME_UNIT", "3" if SIDE_BY_SIDE else "1"))
SETTLE_LIMIT = 3.0 * TIME_UNIT

# Nothing outside this machine is asked.
RTC_CONFIG: dict[str, object] = {"iceServers": []}

# A busy machine is no reason for an example to fail.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

MakeArtico = Callable[..., "artico_sync.Artico"]


def pytest_configure() -> None:
    """Ctrl-C works even where a shell in the background has had it ignored; and the programs that
    tests start are in development mode where a test wants them to be."""
    os.environ.pop("PYTHONDEVMODE", None)
    # What asyncio notes of where a handle was made, in development mode: ten frames of it take a
    # fifth of all the time.
    setattr(asyncio.constants, "DEBUG_STACK_DEPTH", 2)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest go first, whatever the order of the rest: else all wait for them at the end."""
    items.sort(key=lambda item: not item.path.match("test_fast_paths.py"))


@pytest.fixture(autouse=True)
def error_log(request: pytest.FixtureRequest) -> Iterator[ErrorLog]:
    """What the test logged as errors; any fails it, unless it is marked `logs_errors`."""
    with ErrorLog() as log:
        yield log
    if log.errors and request.node.get_closest_marker("logs_errors") is None:
        pytest.fail("errors were logged:\n" + "\n".join(log.errors), pytrace=False)


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest, error_log: ErrorLog) -> Iterator[None]:
    """No thread, socket or task is left after a test, unless it is marked `leaves_running`."""
    leaks = SessionLeakDetector()
    yield
    if request.node.get_closest_marker("leaves_running") is not None:
        return
    left = leaks.wait_for_none(SETTLE_LIMIT) + error_log.cancelled
    if left:
        pytest.fail("left behind by the test:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def rtc_config() -> dict[str, object]:
    """A configuration without STUN servers."""
    return dict(RTC_CONFIG)


@pytest.fixture
def server() -> Iterator[artico_sync.ArticoServer]:
    """A running signalling server on a free port."""
    with artico_sync.ArticoServer(port=0) as running:
        yield running


@pytest.fixture
def make_artico(server: artico_sync.ArticoServer) -> Iterator[MakeArtico]:
    """Makes clients of `server`, connected unless `connect=False`; closes them after the test."""

    def make(id: str | None = None, *, connect: bool = True, **options: Any) -> artico_sync.Artico:
        options.setdefault("rtc_config", dict(RTC_CONFIG))
        if "signaling" not in options:
            options.setdefault("url", server.url)
        rtco = artico_sync.Artico(id=id, **options)
        closing.callback(rtco.close)
        return rtco.connect() if connect else rtco

    with ExitStack() as closing:
        yield make
