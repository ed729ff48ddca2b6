"""Who is connected, who is in which room, and who hears what; independent of who serves it.

All of it runs on the one loop that serves; only `Registry.peers` may be read from any thread.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from typing import Protocol

from artico_sync.server.auth import Authenticator, Rejected
from artico_sync.server.events import Event
from artico_sync.server.limits import ServerLimits
from artico_sync.server.messages import MalformedError, is_valid_id, parse_join, parse_signal
from artico_sync.server.presence import Presence, is_same

logger = logging.getLogger("artico_sync.server")


class Connection(Protocol):
    """How a peer is reached."""

    #: Set when the connection is admitted.
    peer: Peer | None
    #: Whether the peer has ended it itself.
    closed_cleanly: bool

    async def deliver(self, event: Event) -> bool:
        """Send an event; False when the peer does not take it."""
        ...

    def drop(self, reason: str) -> None:
        """End the connection after what was delivered so far."""

    def log_misbehaviour(self, message: str, *arguments: object) -> None:
        """Log what the peer did wrong, now and then."""


@dataclass(frozen=True)
class Hello:
    """What a new connection says of itself."""

    id: str | None
    token: str | None
    resume: str | None


@dataclass(eq=False)
class Peer:
    """A connection that was admitted under an id."""

    id: str
    connection: Connection
    # Shows that a client that comes back is the one that was connected here.
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    rooms: set[str] = field(default_factory=set)
    #: Ids of those it exchanged signals with, the latest last, and whether it sent them any itself.
    contacts: dict[str, bool] = field(default_factory=dict)


class Registry:
    """The peers of one signalling server.

    Args:
        limits: What nobody may exceed.
        gate: Decides who may come in under which id.
    """

    def __init__(self, limits: ServerLimits, gate: Authenticator) -> None:
        self.limits = limits
        self._gate = gate
        self._peers: dict[str, Peer] = {}
        self._rooms: dict[str, dict[str, Peer]] = {}
        self._absences = Presence(limits, self._peers)

    @property
    def peers(self) -> tuple[str, ...]:
        """Ids of the connected peers, in the order they came; any thread."""
        return tuple(self._peers)

    async def admit(self, connection: Connection, introduction: Hello) -> bool:
        """Let a connection in and tell it so, or tell it why not and drop it; whether it is in."""
        peer_id = introduction.id
        try:
            if peer_id is None or not is_valid_id(peer_id, self.limits):
                raise Rejected("invalid-id")
            await self._gate.check(peer_id, introduction.token)
            # From here to the entry below nothing awaits, so two cannot take one id.
            self._make_room_for(peer_id, introduction.resume)
        except Rejected as refusal:
            logger.info("refused %r: %s", _shown(peer_id), refusal.code)
            await connection.deliver(Event("error", refusal.code))
            connection.drop(refusal.code)
            return False
        peer = connection.peer = Peer(peer_id, connection)
        self._peers[peer_id] = peer
        self._absences.entered(peer, introduction.resume)
        logger.info("%r is connected", peer_id)
        extra = {"server": "artico_sync", "acknowledges": True, "resume": peer.secret}
        if not await connection.deliver(Event("open", peer_id, extra)):
            # It ended while `auth` was asked.
            self.remove(peer)
            return False
        return True

    def _make_room_for(self, peer_id: str, resume: str | None) -> None:
        holder = self._peers.get(peer_id)
        if holder is None:
            if len(self._peers) >= self.limits.max_peers:
                raise Rejected("server-full")
            return
        if not is_same(holder, resume):
            raise Rejected("id-taken")
        logger.info("%r is back, its old connection is dropped", peer_id)
        self.remove(holder)
        holder.connection.drop("taken over by a newer connection of the same client")

    def remove(self, peer: Peer) -> None:
        """Forget a peer whose connection has ended; harmless when it was forgotten before."""
        if self._peers.get(peer.id) is peer:
            del self._peers[peer.id]
            self._absences.left(peer)
            logger.info("%r has left", peer.id)
        for name in peer.rooms:
            room = self._rooms.get(name)
            if room is not None and room.get(peer.id) is peer:
                del room[peer.id]
                if not room:
                    del self._rooms[name]
        peer.rooms.clear()

    async def signal(self, peer: Peer, arguments: tuple[object, ...]) -> dict[str, object]:
        """Relay a signal; the answer is the acknowledgement, for those who ask for one."""
        try:
            signal = parse_signal(arguments, peer.id, self.limits)
        except MalformedError as error:
            peer.connection.log_misbehaviour("dropped a signal of %r: it %s", peer.id, error)
            return {"delivered": False}
        target = self._peers.get(signal.target)
        if target is None:
            logger.debug("a signal of %r went to nobody", peer.id)
            return {"delivered": False}
        self._absences.met(peer, target)
        delivered = await target.connection.deliver(Event("signal", signal.message))
        return {"delivered": delivered}

    async def join(self, peer: Peer, arguments: tuple[object, ...]) -> int:
        """Enter a peer into a room and tell those who are in it; how many these are."""
        try:
            join = parse_join(arguments, self.limits)
            room = self._rooms.get(join.room, {})
            if join.room not in peer.rooms and len(peer.rooms) >= self.limits.max_rooms_per_peer:
                raise MalformedError("would be one room too many")
            if peer.id not in room and len(room) >= self.limits.max_peers_per_room:
                raise MalformedError("goes to a full room")
        except MalformedError as error:
            peer.connection.log_misbehaviour("dropped a join of %r: it %s", peer.id, error)
            return 0
        others = [other for other in room.values() if other is not peer]
        self._rooms.setdefault(join.room, room)[peer.id] = peer
        peer.rooms.add(join.room)
        metadata = () if join.metadata is None else (join.metadata,)
        news = Event("join", join.room, peer.id, *metadata)
        for other in others:
            await other.connection.deliver(news)
        return len(others)

    def drop_all(self, reason: str) -> None:
        """Disconnect everybody."""
        for peer in list(self._peers.values()):
            self.remove(peer)
            peer.connection.drop(reason)
        self._absences.close()


def _shown(peer_id: str | None) -> str | None:
    return None if peer_id is None else peer_id[:64]
