"""What goes out again when signals may have been lost, and in which order."""

from __future__ import annotations

from aiortc import RTCSessionDescription

from artico_sync._engine.signal_outbox import Signal, SignalOutbox
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.candidates import CandidateSignal

LISTED = "candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host"
LATER = "candidate:2 1 udp 1694498815 192.0.2.7 4321 typ srflx raddr 192.0.2.1 rport 4000"
LATEST = "candidate:3 1 udp 1694498815 192.0.2.8 4321 typ srflx raddr 192.0.2.1 rport 4000"


class Sent:
    """An outbox, and what came out of it since the last look, in few words."""

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
