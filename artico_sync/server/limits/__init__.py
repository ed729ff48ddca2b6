"""Every limit of the signalling server, in one immutable object; any thread."""

from __future__ import annotations

from dataclasses import dataclass, fields

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class ServerLimits:
    """Limits of an `ArticoServer`; the defaults are ones an honest client never meets.

    Example:
        >>> server = ArticoServer(limits=ServerLimits(max_peers=100, handshake_timeout=2.0))

    Args:
        max_peers: Most peers connected at once.
        max_peers_per_address: The same from one address (an IPv6 /64 counts as one). As many
            connections more, at least 32, may be open that are no peers.
        connections_per_second: New connections from one address.
        connections_burst: What may come above that at once.
        signals_per_second: Messages from one peer; to tell one member of a room that it has joined
            counts as a tenth of one. A faster one is read more slowly; nothing of what it sends is
            lost.
        signals_burst: What may come above that at once.
        address_signals_per_second: Messages from all peers of one address together.
        address_signals_burst: What may come above that at once.
        max_message: Largest message taken from a peer, in bytes; a description of a call is some
            10 KiB.
        max_unsent: Bytes that may wait for a peer that does not read, before it is disconnected.
        max_unsent_total: The same for all peers together, before the one with most is disconnected.
        max_id: Longest peer id, in characters.
        max_room_id: Longest name of a room, in characters.
        max_session: Longest session id, in characters.
        max_metadata: Longest metadata, in characters.
        max_depth: Deepest nesting of a signal.
        max_rooms_per_peer: Rooms one peer may be in.
        max_peers_per_room: Peers that may be in one room.
        max_contacts: Peers that are told when one they exchanged signals with does not come back.
        absence_timeout: Seconds a peer may be away before these are told; one that disconnects by
            itself is not expected back.
        handshake_timeout: Seconds a new connection has for its request, and to present itself, and
            `auth` to decide.
        send_timeout: Seconds a peer may leave one message unread before it is disconnected.
        max_auth_at_once: Calls of `auth` at once.

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
