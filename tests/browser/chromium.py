"""A Chromium and the one thread that drives it, so that no other thread runs Playwright's loop."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Playwright,
    sync_playwright,
)
from playwright.sync_api import Error as PlaywrightError

from tests.leaks import SESSION_LOOPS

P = ParamSpec("P")
T = TypeVar("T")

PLACES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
START_LIMIT_MS = 30_000
# Milliseconds to collect the messages of pages; longer than pages delay them.
LISTENING_MS = 2500
# A new page with its process costs five times as much as loading into an existing one. Closed
# connections count against a process until its garbage collection, so the uses of one are limited.
USES = 20
STUCK_CHANNEL = (Path(__file__).parent / "stuck_channel.js").read_text(encoding="utf-8")


def find_chromium() -> str | None:
    """Return the path of a Chromium on this machine: $ARTICO_SYNC_CHROMIUM, or the usual names."""
    named = os.environ.get("ARTICO_SYNC_CHROMIUM")
    if named:
        return named if Path(named).exists() else None
    return next((path for name in PLACES if (path := shutil.which(name))), None)


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Serve a folder on a loopback port, from a process of its own; gives its URL."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "--directory", str(site)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            greeting = process.stdout.readline()
            found = re.search(r"http://[\d.]+:\d+/", greeting)
            if found is None:
                raise RuntimeError(f"the server of the pages did not start: {greeting!r}")
            yield found.group()
        finally:
            process.terminate()


class Chromium:
    """One browser; every method may be called from any thread and blocks."""

    def __init__(self, executable: str, page_url: str) -> None:
        self._executable = executable
        self._page_url = page_url
        self._stuck_channels: list[str] = []
        self._idle: list[Page] = []
        self._uses: WeakKeyDictionary[Page, int] = WeakKeyDictionary()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="interop-browser")
        self._playwright: Playwright = self.run(self._start_playwright)
        self._browser: Browser = self.run(self._launch)

    def run(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Run `function` on the browser's thread, the only one that may touch its objects."""
        return self._thread.submit(function, *args, **options).result()

    @staticmethod
    def _start_playwright() -> Playwright:
        playwright = sync_playwright().start()
        # It is this thread's from here on, and runs for as long as the browser is used.
        SESSION_LOOPS.add(asyncio.get_running_loop())
        return playwright

    def _launch(self) -> Browser:
        return self._playwright.chromium.launch(
            executable_path=self._executable, args=FLAGS, timeout=START_LIMIT_MS
        )

    def open_page(self) -> Page:
        """A page of its own, freshly loaded, which shares no process with other pages."""
        return self.run(self._open_page)

    def _open_page(self) -> Page:
        page = self._idle.pop() if self._idle else self._make_page()
        self._uses[page] = self._uses.get(page, 0) + 1
        page.goto(self._page_url)
        return page

    def _make_page(self) -> Page:
        context = self._browser.new_context()
        context.add_init_script(STUCK_CHANNEL)
        page = context.new_page()
        page.on("console", self._on_console)
        return page

    def close_page(self, page: Page) -> None:
        """Close a page, as a user closes a tab. Has no effect if it or the browser has ended."""
        self.run(self._close_page, page)

    def _close_page(self, page: Page) -> None:
        try:
            page.context.close()
        except PlaywrightError:
            # A browser that was killed has nothing left to close.
            if self._browser.is_connected():
                raise

    def give_back(self, page: Page) -> None:
        """Empty a page and keep it for the next test. Has no effect if it has ended."""
        self.run(self._give_back, page)

    def _give_back(self, page: Page) -> None:
        if self._uses[page] < USES:
            with suppress(PlaywrightError):  # one that crashed or was closed
                page.goto("about:blank")
                self._idle.append(page)
                return
        self._close_page(page)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.text.startswith("stuck channel: "):
            self._stuck_channels.append(message.text)

    def take_stuck_channels(self, *, to_the_end: bool = False) -> list[str]:
        """The channels that it left connecting though they are open, since this was last asked.

        Args:
            to_the_end: Also those that have been so for less than it takes to be noticed.
        """
        return self.run(self._take_stuck_channels, to_the_end)

    def _take_stuck_channels(self, to_the_end: bool) -> list[str]:
        pages = [page for context in self._browser.contexts for page in context.pages]
        for page in pages[:1] if to_the_end else ():
            # Playwright delivers events while it waits; a busy page may not evaluate a script.
            with suppress(PlaywrightError):
                page.wait_for_timeout(LISTENING_MS)
        found, self._stuck_channels = self._stuck_channels, []
        return found

    def kill(self) -> None:
        """Kill the browser's process."""
        self.run(os.kill, self._process_id(), signal.SIGKILL)

    def _process_id(self) -> int:
        return self.run(self._ask_process_id)

    def _ask_process_id(self) -> int:
        session = self._browser.new_browser_cdp_session()
        processes: list[dict[str, Any]] = session.send("SystemInfo.getProcessInfo")["processInfo"]
        return next(int(process["id"]) for process in processes if process["type"] == "browser")

    def close(self) -> None:
        """End the browser and its thread."""
        try:
            self.run(self._browser.close)
        finally:
            self.run(self._playwright.stop)
            self._thread.shutdown()
