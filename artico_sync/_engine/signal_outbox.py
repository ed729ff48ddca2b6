"""The signals of one call on their way out; loop thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from aiortc import RTCSessionDescription

from artico_sync._protocol.messages import LONGEST_TOKEN
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.candidates import CandidateSignal

Signal = dict[str, object]


class SignalOutbox:
    """Keeps signals while signalling is lost, and candidates until they mean something.

    A browser takes no candidate before the description it belongs to.

    Args:
        send: Takes each signal for the peer.
    """

    def __init__(self, send: Callable[[Signal], None], settings: Settings) -> None:
        self._send = send
        self._kept: deque[Signal] = deque(maxlen=settings.maximum_buffered_signals)
        self._early: deque[CandidateSignal] = deque(maxlen=settings.maximum_candidates)
        # Candidates sent since the last description, which does not list them.
        self._trickled: deque[Signal] = deque(maxlen=settings.maximum_candidates)
        self._described = ""
        self.suspended = False
        self.closed = False

    def post(self, signal: Signal) -> None:
        """Send a signal, or keep it while signalling is lost."""
        if self.suspended:
            self._kept.append(signal)
        elif not self.closed:
            self._send(signal)

    def post_description(self, description: RTCSessionDescription, token: object) -> Signal:
        """Send a description. JavaScript does not mind the token, which only we read."""
        data: dict[str, object] = {"type": description.type, "sdp": description.sdp}
        if isinstance(token, str) and len(token) <= LONGEST_TOKEN:
            data["offer"] = token
        signal: Signal = {"type": "sdp", "data": data}
        self._described = description.sdp
        self._trickled.clear()
        self.post(signal)
        return signal

    def repeat_description(self, signal: Signal) -> None:
        """Send a description again, and the candidates that may have been lost like it."""
        self.post(signal)
        for candidate in self._trickled:
            self.post(candidate)

    def post_candidate(self, candidate: CandidateSignal, *, hold: bool) -> None:
        """Send a candidate, or hold it until `release_candidates`."""
        if hold or not self._described:
            self._early.append(candidate)
        elif f"a={candidate['candidate']}\r\n" not in self._described:
            signal: Signal = {"type": "candidate", "data": dict(candidate)}
            self._trickled.append(signal)
            self.post(signal)

    def release_candidates(self) -> None:
        """The description they belong to has been sent."""
        early, self._early = self._early, deque(maxlen=self._early.maxlen)
        for candidate in early:
            self.post_candidate(candidate, hold=False)

    def resume(self, doubtful: Signal | None) -> None:
        """Send what was kept.

        Args:
            doubtful: A description that may have been lost: it goes before all others, and its
                candidates again after it.
        """
        self.suspended = False
        kept = list(self._kept)
        self._kept.clear()
        if doubtful is not None and doubtful not in kept:
            kept = [doubtful, *(signal for signal in self._trickled if signal not in kept), *kept]
        for signal in kept:
            self._send(signal)

    def keeps(self, signal: Signal) -> bool:
        return signal in self._kept
