"""ICE restarts in calls with a page, requested by either side: the call continues without a new
connection, and no message is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from artico_sync import Artico, ArticoServer, Call, MediaStream
from artico_sync.media import RemoteTrack
from artico_sync.signaling import Message
from tests.browser.browser_media import PageMedia, page_stream
from tests.browser.browser_peer import BrowserCall
from tests.browser.conftest import MakeBrowserPeer
from tests.call_media import FPS, pictures, remote_track, wait_for_color
from tests.conftest import RTC_CONFIG, TIME_UNIT, MakeArtico
from tests.datagram_relay import Relay
from tests.faults.network import Network, RelayedSocketSignaling
from tests.media_content import BLUE, GREEN, RED

LIMIT = 30.0 * TIME_UNIT
#: Seconds between two numbers sent.
INTERVAL = 0.005
CALLERS = pytest.mark.parametrize("caller", ["python", "page"])


def is_offer(message: Message) -> bool:
    data = message["signal"].get("data")
    return isinstance(data, dict) and data.get("type") == "offer"


def connect(
    rtco: Artico, make_browser_peer: MakeBrowserPeer, caller: str
) -> tuple[Call, BrowserCall]:
    """Both ends of an open call with a page."""
    page = make_browser_peer("page", answer=True)
    if caller == "python":
        call = rtco.call("page").wait_open(LIMIT)
        return call, page.wait_call().wait_open()
    page_call = page.call("python")
    call = rtco.wait_for("call", LIMIT).answer().wait_open(LIMIT)
    return call, page_call.wait_open()


class Flow:
    """Numbers and video both ways, all the time; use as a context manager, which checks at its end
    that every number came, in order, and that the video goes on."""

    def __init__(self, call: Call, page_call: BrowserCall) -> None:
        self._call = call
        self._page_call = page_call
        self._page = PageMedia(page_call)
        self._over = threading.Event()
        self._sent = 0
        self._sender = threading.Thread(target=self._send, name="sender")
        self._errors: list[Exception] = []

    def __enter__(self) -> Flow:
        self._call.on("error", self._errors.append)
        self._camera = pictures(RED)
        self._call.add_stream(MediaStream([self._camera]), "from Python")
        self._page.see(self._camera.id, RED)
        shown = page_stream(self._page_call.peer, GREEN)
        self._page.add_stream(shown, "from the page")
        self._video: RemoteTrack = remote_track(self._call, shown.id, "video")
        wait_for_color(self._video, GREEN)
        self._page_call.peer.invoke("count", self._page_call.session, 1000 * INTERVAL)
        self._sender.start()
        return self

    def _send(self) -> None:
        while not self._over.wait(INTERVAL):
            self._call.send(f"{self._sent}")
            self._sent += 1

    def __exit__(self, kind: type[BaseException] | None, *_exception: Any) -> None:
        self._over.set()
        self._sender.join()
        counted = self._page_call.peer.invoke("stopCounting", self._page_call.session)
        if kind is not None:
            return
        wanted = [f"{number}" for number in range(counted)]
        assert counted and [self._call.recv(LIMIT) for _ in wanted] == wanted
        wanted = [f"{number}" for number in range(self._sent)]
        assert self._page_call.receive(len(wanted), LIMIT) == wanted
        for _ in range(FPS):
            self._video.read(LIMIT)
        self._call.replace_track(self._camera, pictures(BLUE))
        self._page.see(self._camera.id, BLUE)
        assert (self._errors, self._page.errors) == ([], [])
        events = [event for event in self._page_call.events() if event in ("open", "close")]
        assert (self._call.close_reason, events) == (None, ["open"])


class Ice:
    """The page's view of its network path."""

    def __init__(self, page_call: BrowserCall) -> None:
        self._page_call = page_call
        self._before = self._invoke("usernames")

    def _invoke(self, method: str, *arguments: Any) -> Any:
        return self._page_call.peer.invoke(method, self._page_call.session, *arguments)

    def restart(self) -> None:
        """Restart ICE in the page."""
        self._invoke("restartIce")

    def wait_restarted(self) -> None:
        """Wait until the page sends over another path than before, or than at the last wait."""
        self._invoke("restarted", self._before, 1000 * LIMIT)
        self._before = self._invoke("usernames")

    def wait_decoded(self, track_id: str, count: int) -> None:
        """Wait until the page has decoded more pictures of a track."""
        self._invoke("decodes", track_id, count, 1000 * LIMIT)


@pytest.mark.timeout(120 * TIME_UNIT)
@CALLERS
def test_a_page_restarts_ice_on_a_healthy_call(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, caller: str
) -> None:
    call, page_call = connect(make_artico("python"), make_browser_peer, caller)
    ice = Ice(page_call)
    with Flow(call, page_call):
        for _ in range(3):
            ice.restart()
            ice.wait_restarted()
    call.hangup()
    page_call.wait_closed()


@CALLERS
def test_a_page_restarts_ice_while_both_share(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, caller: str
) -> None:
    """The restart joins offers of both sides that are under way."""
    call, page_call = connect(make_artico("python"), make_browser_peer, caller)
    ice, page = Ice(page_call), PageMedia(page_call)
    with Flow(call, page_call):
        sent, shown = pictures(BLUE), page_stream(page_call.peer, BLUE)
        call.add_stream(MediaStream([sent]))
        page.add_stream(shown)
        ice.restart()
        ice.wait_restarted()
        # Chromium, when it had to take its offer back just then, may decode a track and yet give
        # its video element nothing.
        ice.wait_decoded(sent.id, 20)
        wait_for_color(remote_track(call, shown.id, "video"), BLUE)


@contextmanager
def relayed(
    server: ArticoServer, relay: Relay, **options: Any
) -> Iterator[tuple[Artico, RelayedSocketSignaling]]:
    """A peer whose calls with a page go over a relay."""
    signaling = RelayedSocketSignaling(server.url, "python", relay)
    with Artico(signaling=signaling, rtc_config=dict(RTC_CONFIG), **options) as rtco:
        yield rtco, signaling


@pytest.mark.timeout(120 * TIME_UNIT)
@CALLERS
@pytest.mark.parametrize("restarted_by", ["python", "page", "both"])
def test_the_path_dies_and_a_restart_finds_another(
    server: ArticoServer,
    network: Network,
    make_browser_peer: MakeBrowserPeer,
    caller: str,
    restarted_by: str,
) -> None:
    """Before the page ends the call, which it does after five seconds without a path."""
    first, second = network.relay(), network.relay()
    # Only the page searches for another path: Python does after a third of this timeout.
    timeouts = {"silence_timeout": 24.0} if restarted_by == "page" else {}
    with relayed(server, first, **timeouts) as (rtco, signaling):
        call, page_call = connect(rtco, make_browser_peer, caller)
        ice = Ice(page_call)
        offers: list[Message] = []
        offering, go_on = threading.Event(), threading.Event()

        def note(message: Message) -> Message:
            if is_offer(message):
                offers.append(message)
                offering.set()
                assert go_on.wait(LIMIT)
            return message

        with Flow(call, page_call):
            before = call.stats()["remote"]["port"]
            signaling.filter = note
            signaling.relay = second
            first.cut()
            begun = time.monotonic()
            if restarted_by == "both":
                # Each has offered when it gets the other's offer.
                assert offering.wait(LIMIT)
            if restarted_by != "python":
                ice.restart()
            go_on.set()
            ice.wait_restarted()
            assert time.monotonic() - begun < 5 * TIME_UNIT
        assert bool(offers) is (restarted_by != "page")
        assert call.stats()["remote"]["port"] != before
        assert second.directions["a"].forwarded and second.directions["b"].forwarded
        call.hangup()
        page_call.wait_closed()
