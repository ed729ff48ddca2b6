"""Fixtures of all tests: a server, clients that are closed after the test, and checks for leaks."""

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

# The factor for all time limits of the tests. Tests that run side by side slow each other down.
SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ
TIME_UNIT = float(os.environ.get("ARTICO_SYNC_TEST_TIME_UNIT", "3" if SIDE_BY_SIDE else "1"))
SETTLE_LIMIT = 3.0 * TIME_UNIT

# No server outside this machine is contacted.
RTC_CONFIG: dict[str, object] = {"iceServers": []}

# Examples of hypothesis do not fail because the machine is busy.
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")

MakeArtico = Callable[..., "artico_sync.Artico"]


def pytest_configure() -> None:
    """Restore Ctrl-C, which shells disable for processes in the background, and let each test
    choose the development mode of the programs it starts."""
    os.environ.pop("PYTHONDEVMODE", None)
    # In development mode, asyncio records the stack of each handle's creation: ten frames would
    # take a fifth of the run time.
    setattr(asyncio.constants, "DEBUG_STACK_DEPTH", 2)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that not all processes wait for one at the end."""
    items.sort(key=lambda item: not item.path.match("test_fast_paths.py"))


@pytest.fixture(autouse=True)
def error_log(request: pytest.FixtureRequest) -> Iterator[ErrorLog]:
    """Collect logged errors, which fail the test unless it is marked `logs_errors`."""
    with ErrorLog() as log:
        yield log
    if log.errors and request.node.get_closest_marker("logs_errors") is None:
        pytest.fail("errors were logged:\n" + "\n".join(log.errors), pytrace=False)


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest, error_log: ErrorLog) -> Iterator[None]:
    """Fail the test if it leaves a thread, socket or task, unless it is marked `leaves_running`."""
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
    """A running signaling server on a free port."""
    with artico_sync.ArticoServer(port=0) as running:
        yield running


@pytest.fixture
def make_artico(server: artico_sync.ArticoServer) -> Iterator[MakeArtico]:
    """A function that makes clients of `server`, connected unless `connect=False`."""

    def make(id: str | None = None, *, connect: bool = True, **options: Any) -> artico_sync.Artico:
        options.setdefault("rtc_config", dict(RTC_CONFIG))
        if "signaling" not in options:
            options.setdefault("url", server.url)
        rtco = artico_sync.Artico(id=id, **options)
        closing.callback(rtco.close)
        return rtco.connect() if connect else rtco

    with ExitStack() as closing:
        yield make
