"""Every limit of the signalling server, in one immutable object; any thread."""

from __future__ import annotations

from dataclasses import dataclass, fields

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class ServerLimits:
    """Limits of an `ArticoServer`; the defaults are ones an honest client never meets.

    Raises:
        ValueError: A limit is not positive.
    """

    #: Most peers connected at once, and most from one address (an IPv6 /64 counts as one).
    max_peers: int = 10_000
    max_peers_per_address: int = 2_000
    #: New connections a second from one address, and the burst above it.
    connections_per_second: float = 100.0
    connections_burst: int = 1_000
    #: Messages a second from one peer, and the burst above it. A faster peer is read more slowly;
    #: nothing of what it sends is lost.
    signals_per_second: float = 200.0
    signals_burst: int = 2_000
    #: The same for all peers of one address together.
    address_signals_per_second: float = 2_000.0
    address_signals_burst: int = 20_000
    #: Largest message taken from a peer, in bytes; a description of a call is some 10 KiB.
    max_message: int = 512 * KIB
    #: Bytes that may wait for a peer that does not read, before it is disconnected.
    max_unsent: int = 8 * MIB
    #: Longest ids, and longest metadata, in characters.
    max_id: int = 128
    max_room_id: int = 256
    max_session: int = 512
    max_metadata: int = 64 * KIB
    #: Deepest nesting of a signal.
    max_depth: int = 32
    #: Rooms of one peer, and peers in one room.
    max_rooms_per_peer: int = 64
    max_peers_per_room: int = 256
    #: Seconds a new connection has to present itself; the same for `auth` to decide.
    handshake_timeout: float = 10.0
    #: Seconds a peer may leave one message unread before it is disconnected.
    send_timeout: float = 10.0
    #: Calls of `auth` at once.
    max_auth_at_once: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{field.name} must be a number, not {type(value).__name__}")
            if not value > 0:
                raise ValueError(f"{field.name} must be positive, not {value!r}")
