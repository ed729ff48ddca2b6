"""The queues of signals: their limits, their order, and repetition after a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiortc import RTCSessionDescription

from artico_sync._engine import signal_queues
from artico_sync._engine.signal_queues import (
    PeerSignaling,
    Signal,
    SignalInbox,
    SignalOutbox,
)
from artico_sync._protocol import messages
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.candidates import CandidateSignal

LISTED = "candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host"
LATER = "candidate:2 1 udp 1694498815 192.0.2.7 4321 typ srflx raddr 192.0.2.1 rport 4000"
LATEST = "candidate:3 1 udp 1694498815 192.0.2.8 4321 typ srflx raddr 192.0.2.1 rport 4000"


class Sent:
    """An outbox, and a summary of the signals it has sent since the last look."""

    def __init__(self) -> None:
        self._signals: list[Signal] = []
        self.outbox = SignalOutbox(self._signals.append, Settings())

    def offer(self, text: str = "") -> Signal:
        sdp = f"v=0\r\n{text}a={LISTED}\r\n"
        return self.outbox.post_description(RTCSessionDescription(sdp=sdp, type="offer"), "token")

    def candidate(self, line: str) -> None:
        self.outbox.post_candidate(
            CandidateSignal(
                candidate=line, sdpMid="0", sdpMLineIndex=0, usernameFragment="fragment"
            ),
            hold=False,
        )

    def seen(self) -> list[object]:
        signals, self._signals[:] = list(self._signals), []
        words: list[object] = []
        for signal in signals:
            data = signal["data"]
            assert isinstance(data, dict)
            words.append(data["type"] if signal["type"] == "sdp" else data["candidate"])
        return words


def test_a_description_is_repeated_with_the_candidates_it_does_not_list() -> None:
    sent = Sent()
    offer = sent.offer()
    for line in (LISTED, LATER, LATEST):
        sent.candidate(line)
    assert sent.seen() == ["offer", LATER, LATEST]
    sent.outbox.repeat_description(offer)
    assert sent.seen() == ["offer", LATER, LATEST]


def test_a_new_description_has_no_candidates_of_the_one_before() -> None:
    sent = Sent()
    sent.offer()
    sent.candidate(LATER)
    offer = sent.offer(f"a={LATER}\r\n")
    sent.seen()
    sent.outbox.repeat_description(offer)
    assert sent.seen() == ["offer"]


def test_what_may_have_been_lost_goes_before_what_was_kept() -> None:
    sent = Sent()
    offer = sent.offer()
    sent.candidate(LATER)
    sent.outbox.suspended = True
    sent.candidate(LATEST)
    assert sent.seen() == ["offer", LATER]
    sent.outbox.resume(offer)
    assert sent.seen() == ["offer", LATER, LATEST]


def test_a_description_that_was_kept_goes_out_once() -> None:
    sent = Sent()
    sent.outbox.suspended = True
    offer = sent.offer()
    sent.candidate(LATER)
    sent.outbox.resume(offer)
    assert sent.seen() == ["offer", LATER]


def incoming(kind: str, text: str = "", *, from_artico_sync: bool = False) -> messages.Signal:
    body: dict[str, Any] = {"type": kind, "data": {"type": "offer", "sdp": text}}
    return messages.Signal("bob", "call:1", None, kind, body, from_artico_sync)


def test_an_inbox_is_limited_in_signals_and_in_characters() -> None:
    async def test() -> None:
        inbox = SignalInbox(Settings(maximum_buffered_signals=3, maximum_buffered_characters=100))
        assert inbox.put(incoming("sdp", "x" * 80))
        assert not inbox.put(incoming("sdp", "x" * 80))
        assert inbox.put(incoming("sdp")) and inbox.put(incoming("sdp"))
        assert not inbox.put(incoming("sdp"))
        assert len(inbox) == 3
        assert (await inbox.get())["data"]["sdp"] == "x" * 80
        assert len(inbox) == 2 and inbox.characters == 2 * len("offer")
        assert inbox.put(incoming("sdp", "x" * 80))

    asyncio.run(test())


class Sender:
    """A client that records the signals of a session."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.until_delivered: list[dict[str, Any]] = []
        self.reports: list[Callable[[bool | None], None]] = []

    def send_signal(
        self, message: dict[str, Any], on_report: Callable[[bool | None], None]
    ) -> None:
        self.sent.append(message["signal"])
        self.reports.append(on_report)

    def send_until_delivered(self, message: dict[str, Any]) -> None:
        self.until_delivered.append(message["signal"])


def peer_signaling(sender: Sender) -> tuple[PeerSignaling, list[tuple[bool | None, str]]]:
    reports: list[tuple[bool | None, str]] = []
    signaling = PeerSignaling(
        sender,
        "bob",
        "call:1",
        None,
        lambda delivered, body: reports.append((delivered, body["type"])),
    )
    return signaling, reports


def test_bye_and_ringing_go_to_artico_sync_peers_only() -> None:
    async def test() -> None:
        sender = Sender()
        signaling, _ = peer_signaling(sender)
        signaling.on_signal(incoming("sdp"))
        signaling.send_bye("hangup")
        signaling.send_ringing()
        assert sender.until_delivered == []
        signaling.on_signal(incoming("sdp", from_artico_sync=True))
        signaling.send_ringing()
        signaling.send_bye("rejected", "in a meeting")
        assert [body["type"] for body in sender.until_delivered] == ["ringing", "bye"]
        assert signaling.bye_sent and signaling.bye == sender.until_delivered[-1]

    asyncio.run(test())


def test_a_delivered_signal_has_reached_the_peer() -> None:
    async def test() -> None:
        sender = Sender()
        signaling, reports = peer_signaling(sender)
        signaling.send({"type": "sdp", "data": None})
        signaling.send({"type": "candidate", "data": None})
        assert sender.sent[0]["agent"] == messages.AGENT and "agent" not in sender.sent[1]
        sender.reports[0](None)
        sender.reports[1](False)
        reached_before = signaling.peer_reached
        sender.reports[0](True)
        assert (reached_before, signaling.peer_reached) == (False, True)
        assert reports == [(None, "sdp"), (False, "candidate"), (True, "sdp")]

    asyncio.run(test())


def test_undelivered_signals_are_sent_again_in_order_unless_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal_queues, "RESEND_SECONDS", 0.02)

    async def test() -> None:
        sender = Sender()
        signaling, _ = peer_signaling(sender)
        signaling.send_later({"type": "sdp", "data": None})
        signaling.send_later({"type": "candidate", "data": None})
        assert sender.sent == []
        async with asyncio.timeout(20):
            while len(sender.sent) < 2:
                await asyncio.sleep(0.005)
        assert [body["type"] for body in sender.sent] == ["sdp", "candidate"]
        signaling.send_later({"type": "candidate", "data": None})
        signaling.close()
        signaling.send({"type": "candidate", "data": None})
        await asyncio.sleep(0.06)
        assert len(sender.sent) == 2

    asyncio.run(test())


def test_a_cancelled_call_sends_its_bye_after_ringing() -> None:
    async def test() -> None:
        sender = Sender()
        signaling, _ = peer_signaling(sender)
        cancelling = asyncio.ensure_future(signaling.cancel_call(offer_expected=True))
        await asyncio.sleep(0.01)
        signaling.send({"type": "sdp", "data": None})
        await asyncio.sleep(0.01)
        assert not cancelling.done()
        signaling.on_signal(incoming("ringing", from_artico_sync=True))
        await asyncio.wait_for(cancelling, 20)
        assert [body["type"] for body in sender.until_delivered] == ["bye"]

    asyncio.run(test())


def test_a_call_cancelled_without_signaling_does_not_wait() -> None:
    async def test() -> None:
        sender = Sender()
        signaling, _ = peer_signaling(sender)
        await asyncio.wait_for(signaling.cancel_call(offer_expected=False), 20)
        assert sender.sent == sender.until_delivered == []

    asyncio.run(test())
