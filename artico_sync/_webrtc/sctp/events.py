"""The events an association reports."""

from __future__ import annotations

from typing import Protocol

from artico_sync._webrtc.sctp.handshake import PeerParameters
from artico_sync._webrtc.sctp.receive_queue import Message


class AssociationOwner(Protocol):
    """Receives the events of an association, never in the middle of a chunk."""

    def on_established(self, peer: PeerParameters) -> None: ...

    def on_closed(self) -> None: ...

    def on_peer_unresponsive(self) -> None:
        """The peer is given up because it does not answer; `on_closed` follows."""

    def on_messages_received(self, messages: list[Message]) -> None:
        """Messages arrived, in stream order; `receive_queue.unread` includes them."""

    def on_acknowledged(self) -> None:
        """Data was acknowledged; called at most once per poll."""

    def on_streams_reset(self, streams: tuple[int, ...]) -> None:
        """The peer has reset its direction of these streams; empty for all."""

    def on_stream_finished(self, stream: int) -> None:
        """A stream is reset in both directions, and its id is free."""

    def is_same_host(self) -> bool:
        """Return True if the peer runs on this machine."""

    def receive_buffer(self) -> int:
        """Return the size of a local socket's receive buffer in bytes, 0 if unknown."""
