"""Fixtures of the interop tests: a browser, and peers in its pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import artico_sync
from tests.browser.browser_peer import BrowserPeer
from tests.browser.bundle import BundleError, build_page
from tests.browser.chromium import Chromium, find_chromium, serve
from tests.faults.conftest import network

__all__ = ["MakeBrowserPeer", "network"]

MakeBrowserPeer = Callable[..., BrowserPeer]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails because Chromium leaves a channel connecting is an expected failure.

    It does not depend on what artico_sync sends, and the page cannot use such a channel.
    """
    report = yield
    if call.when == "setup" or (call.when == "call" and report.failed):
        browsers = (getattr(item, "funcargs", {}).get(name) for name in ("browser", "own_browser"))
        stuck = [
            said
            for one in browsers
            if one is not None
            for said in one.take_stuck_channels(to_the_end=report.failed)
        ]
        if stuck and report.failed:
            report.outcome = "skipped"
            report.wasxfail = f"Chromium's own fault: {stuck[0]}"
    return report


def unavailable(reason: str) -> None:
    """Skip the test, or fail it in CI, where a browser must be available."""
    if os.environ.get("CI"):
        pytest.fail(f"the interop tests cannot run: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def page_url(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the page."""
    if shutil.which("npm") is None:
        unavailable("npm is not installed")
    if pytestconfig.pluginmanager.hasplugin("cacheprovider"):
        cache = pytestconfig.cache.mkdir("interop")
    else:
        cache = tmp_path_factory.mktemp("interop")
    try:
        site = build_page(cache)
    except BundleError as error:
        unavailable(str(error))
    with serve(site) as url:
        yield url


@pytest.fixture(scope="session")
def launch_browser(page_url: str) -> Callable[[], Chromium]:
    """Starts a Chromium of one's own, to be closed by whoever started it."""
    executable = find_chromium()
    if executable is None:
        unavailable("Chromium is not installed")
    return lambda: Chromium(str(executable), page_url)


@pytest.fixture(scope="session")
def browser(launch_browser: Callable[[], Chromium]) -> Iterator[Chromium]:
    """The Chromium that all tests share."""
    chromium = launch_browser()
    yield chromium
    chromium.close()


@pytest.fixture
def own_browser(launch_browser: Callable[[], Chromium]) -> Iterator[Chromium]:
    """A Chromium for one test, which may kill it. To be named before `make_browser_peer`."""
    chromium = launch_browser()
    yield chromium
    chromium.close()


@pytest.fixture
def make_browser_peer(
    browser: Chromium, server: artico_sync.ArticoServer
) -> Iterator[MakeBrowserPeer]:
    """Makes peers in pages of their own, ready unless `ready=False`; gives the pages back after."""

    def make(
        id: str | None = None,
        *,
        ready: bool = True,
        answer: bool = False,
        echo: bool = False,
        chromium: Chromium = browser,
    ) -> BrowserPeer:
        peer = BrowserPeer(chromium, server.url, id)
        closing.callback(peer.give_back)
        peer.configure(answer=answer, echo=echo)
        return peer.wait_open() if ready else peer

    with ExitStack() as closing:
        yield make
