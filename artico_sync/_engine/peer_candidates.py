"""The peer's candidates, which come before, with and after its descriptions; loop thread."""

from __future__ import annotations

import logging
from collections import deque

from artico_sync._webrtc.ice.candidates import RemoteCandidate, parse_candidate_signal
from artico_sync._webrtc.peer_connection import PeerConnection

logger = logging.getLogger(__name__)


class PeerCandidates:
    """Tries the peer's candidates as soon as the description they belong to has been applied.

    Args:
        maximum: Most candidates tried between two ICE restarts, and most kept.
    """

    def __init__(self, connection: PeerConnection, maximum: int) -> None:
        self._connection = connection
        self._maximum = maximum
        self._username: str | None = None
        self._taken = 0
        self._early: deque[RemoteCandidate] = deque(maxlen=maximum)

    def parse(self, data: object) -> RemoteCandidate | None:
        """Read what a signal carries; None for what means nothing.

        Raises:
            ValueError: It is malformed.
        """
        return parse_candidate_signal(data)

    async def take(self, candidate: RemoteCandidate) -> None:
        """Try a candidate unless there were too many, or keep it for its description."""
        current = self._connection.remote_username
        if current is None or candidate.username not in (None, current):
            self._early.append(candidate)
            return
        if current != self._username:
            self._username, self._taken = current, 0
        if self._taken >= self._maximum:
            logger.debug("dropped a candidate: there were too many")
            return
        self._taken += 1
        await self._connection.add_candidate(candidate.candidate)

    async def release(self) -> None:
        """A description has been applied: try those that were waiting for it."""
        early, self._early = self._early, deque(maxlen=self._early.maxlen)
        for candidate in early:
            await self.take(candidate)
