"""Limits of the signaling server: the values, and the objects that enforce them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields

from artico_sync._protocol.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

KIB = 1024
MIB = 1024 * KIB
WARNINGS_PER_SECOND = 1 / 60
WARNINGS_BURST = 3


@dataclass(frozen=True)
class ServerLimits:
    """Limits of an `ArticoServer`; an honest client never reaches the defaults.

    Example:
        >>> server = ArticoServer(limits=ServerLimits(max_peers=100, handshake_timeout=2.0))

    Args:
        max_peers: Maximum number of connected peers.
        max_peers_per_address: The same for one address (an IPv6 /64 counts as one). As many
            connections more, at least 32, may be open that are not peers.
        connections_per_second: New connections from one address.
        connections_burst: How many more may come at once.
        signals_per_second: Messages from one peer; announcing a join to one member of a room counts
            as a tenth of a message. A faster peer is read more slowly, and loses nothing.
        signals_burst: How many more may come at once.
        address_signals_per_second: Messages from all peers of one address together.
        address_signals_burst: How many more may come at once.
        max_message: Largest message accepted from a peer, in bytes; the description of a call has
            some 10 KiB.
        max_unsent: Bytes queued for a peer that does not read, before it is disconnected.
        max_unsent_total: Bytes queued for all peers together, before the peer with most is
            disconnected.
        max_id: Longest peer id, in characters.
        max_room_id: Longest name of a room, in characters.
        max_session: Longest session id, in characters.
        max_metadata: Longest metadata, in characters.
        max_depth: Deepest nesting of a signal.
        max_rooms_per_peer: Maximum number of rooms one peer is in.
        max_peers_per_room: Maximum number of peers in one room.
        max_contacts: Maximum number of peers that are notified when one they exchanged signals with
            does not reconnect.
        absence_timeout: Seconds a peer has to reconnect before these are notified; one that
            disconnects by itself is not expected to.
        handshake_timeout: Seconds a new connection has for its request, for presenting its id and
            token, and for `auth` to decide.
        send_timeout: Seconds a peer may leave one message unread before it is disconnected.
        max_auth_at_once: Maximum number of concurrent calls of `auth`.

    Raises:
        TypeError: A limit is not a number.
        ValueError: A limit is not positive.
    """

    max_peers: int = 10_000
    max_peers_per_address: int = 2_000
    connections_per_second: float = 100.0
    connections_burst: int = 1_000
    signals_per_second: float = 200.0
    signals_burst: int = 2_000
    address_signals_per_second: float = 2_000.0
    address_signals_burst: int = 20_000
    max_message: int = 512 * KIB
    max_unsent: int = 8 * MIB
    max_unsent_total: int = 256 * MIB
    max_id: int = 128
    max_room_id: int = 256
    max_session: int = 512
    max_metadata: int = 64 * KIB
    max_depth: int = 32
    max_rooms_per_peer: int = 64
    max_peers_per_room: int = 256
    max_contacts: int = 64
    absence_timeout: float = 10.0
    handshake_timeout: float = 10.0
    send_timeout: float = 10.0
    max_auth_at_once: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{field.name} must be a number, not {type(value).__name__}")
            if not value > 0:
                raise ValueError(f"{field.name} must be positive, not {value!r}")


class LogThrottle:
    """Logs at a bounded rate as warnings, and the rest at debug level.

    Without it any client could fill the disk with log lines.
    """

    __slots__ = ("_bucket",)

    def __init__(self) -> None:
        self._bucket = TokenBucket(WARNINGS_PER_SECOND, WARNINGS_BURST)

    def warn(self, message: str, *arguments: object) -> None:
        """Log a message, with the arguments filled in."""
        level = logging.WARNING if self._bucket.try_acquire() else logging.DEBUG
        logger.log(level, message, *arguments)
