"""A peer in a real browser, @rtco/client under a blocking interface."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page

from tests.browser.chromium import Chromium

WAIT_LIMIT = 15.0
EVENTS = {"open", "close", "error", "stream", "removestream", "track", "removetrack"}


@dataclass(frozen=True)
class Event:
    """One thing the page saw: an event of its Artico (session `""`) or of a call."""

    session: str
    name: str
    args: tuple[Any, ...]


class BrowserPeer:
    """One page with one Artico in it. Times are in seconds."""

    def __init__(self, browser: Chromium, url: str, id: str | None = None) -> None:
        self._browser = browser
        self.page: Page = browser.open_page()
        self.invoke("start", url, id)

    def invoke(self, method: str, *args: Any) -> Any:
        """Call one of the functions of page.js; an exception there is raised here."""
        return self._browser.run(self._invoke, method, args)

    def _invoke(self, method: str, args: tuple[Any, ...]) -> Any:
        script = "([method, args]) => window.interop[method](...args)"
        try:
            return self.page.evaluate(script, [method, list(args)])
        except PlaywrightError as error:
            with suppress(PlaywrightError):  # a closed page has no log
                error.add_note(f"the page has seen {self.page.evaluate('window.interop.log()')}")
            raise

    def wait_event(
        self, name: str, session: str = "", *, count: int = 1, timeout: float = WAIT_LIMIT
    ) -> Event:
        """Block until the event of that name came for the `count`th time."""
        found = self.invoke("event", session, name, count, timeout * 1000)
        return Event(found["session"], found["name"], tuple(found["args"]))

    def events(self, session: str | None = None) -> list[Event]:
        """All that happened, in order; of one session if given."""
        found = [
            Event(one["session"], one["name"], tuple(one["args"])) for one in self.invoke("log")
        ]
        return found if session is None else [one for one in found if one.session == session]

    def wait_open(self) -> BrowserPeer:
        """Block until signaling is ready."""
        self.wait_event("open")
        return self

    @property
    def id(self) -> str:
        found = self.invoke("id")
        assert isinstance(found, str)
        return found

    @property
    def state(self) -> str:
        found = self.invoke("state")
        assert isinstance(found, str)
        return found

    def configure(self, *, answer: bool = False, echo: bool = False) -> None:
        """Answer every call from now on, send every message back."""
        self.invoke("configure", "yes" if answer else "no", echo)

    def call(self, target: str, metadata: str | None = None) -> BrowserCall:
        """Call a peer; return at once."""
        return BrowserCall(self, self.invoke("call", target, metadata))

    def wait_call(self, count: int = 1, timeout: float = WAIT_LIMIT) -> BrowserCall:
        """Block until the `count`th call came in."""
        event = self.wait_event("call", count=count, timeout=timeout)
        return BrowserCall(self, event.args[0])

    @property
    def incoming(self) -> int:
        """Return the number of incoming calls so far."""
        return sum(event.name == "call" for event in self.events(""))

    def stop(self) -> None:
        """Leave the signaling server, as a page does with `artico.close()`."""
        self.invoke("stop")

    def close(self) -> None:
        """Close the page, as a user closes a tab. Has no effect if it crashed."""
        self._browser.close_page(self.page)

    def give_back(self) -> None:
        """Release the page, even if it crashed."""
        self._browser.give_back(self.page)

    def crash(self) -> None:
        """Crash the page's process."""
        self._browser.run(self._crash)

    def _crash(self) -> None:
        with self.page.expect_event("crash"):
            try:
                self.page.goto("chrome://crash")
            except PlaywrightError:
                # Expected: the page cannot respond any more.
                return


class BrowserCall:
    """One call of a BrowserPeer."""

    def __init__(self, peer: BrowserPeer, session: str) -> None:
        self.peer = peer
        self.session = session

    @property
    def properties(self) -> dict[str, Any]:
        """session, metadata, target, initiator, ready."""
        found = self.peer.invoke("properties", self.session)
        assert isinstance(found, dict)
        return found

    def answer(self) -> BrowserCall:
        self.peer.invoke("answer", self.session)
        return self

    def hangup(self) -> None:
        self.peer.invoke("hangup", self.session)

    def wait_open(self, timeout: float = WAIT_LIMIT) -> BrowserCall:
        self.wait_event("open", timeout=timeout)
        return self

    def wait_closed(self, timeout: float = WAIT_LIMIT) -> None:
        self.wait_event("close", timeout=timeout)

    def wait_event(self, name: str, *, count: int = 1, timeout: float = WAIT_LIMIT) -> Event:
        return self.peer.wait_event(name, self.session, count=count, timeout=timeout)

    def events(self) -> list[str]:
        """The names of the events of this call, in order; neither messages nor the page's notes."""
        return [event.name for event in self.peer.events(self.session) if event.name in EVENTS]

    def send(self, *texts: str) -> None:
        """Send the texts in order."""
        self.peer.invoke("send", self.session, list(texts))

    def send_built(self, unit: str, times: int) -> None:
        """Send `unit` repeated, made in the page."""
        self.peer.invoke("sendBuilt", self.session, unit, times)

    def send_numbered(self, count: int, size: int) -> None:
        """Send `count` texts of `size` characters, made in the page: a number, a space and x's."""
        self.peer.invoke("sendNumbered", self.session, count, size)

    def receive(self, count: int, timeout: float = WAIT_LIMIT) -> list[str]:
        """Block until at least `count` messages came; the first `count` of them."""
        found = self.peer.invoke("receive", self.session, count, timeout * 1000)
        assert isinstance(found, list)
        return found

    @property
    def received(self) -> list[str]:
        """All messages that came so far."""
        found = self.peer.invoke("received", self.session)
        assert isinstance(found, list)
        return found
