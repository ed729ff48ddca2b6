"""The peers of a signaling server: connected ones, rooms, and those expected to reconnect.

Artico's protocol does not say that a peer has left, so a caller would ring forever at one that was
killed. This server sends two events of its own, which JavaScript clients ignore: `gone` for a peer
that has left, and `back` for one that has lost its connection and reconnected, because signals sent
into the old connection may be lost.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from artico_sync._protocol.messages import MalformedError
from artico_sync.server.auth import Authenticator, Rejected
from artico_sync.server.limits import ServerLimits
from artico_sync.server.messages import (
    EncodedEvent,
    is_valid_id,
    parse_join,
    parse_relayed_signal,
)

logger = logging.getLogger(__name__)

GONE = "gone"
BACK = "back"


class PeerLink(Protocol):
    """The connection of a peer, as the registry uses it."""

    #: Set when the connection is admitted.
    peer: Peer | None
    #: Whether the peer has ended the connection itself.
    closed_cleanly: bool

    async def deliver_event(self, event: EncodedEvent) -> bool:
        """Send an event, and return False if the peer does not receive it."""
        ...

    def drop(self, reason: str) -> None:
        """End the connection after sending what is queued."""

    def log_misbehavior(self, message: str, *arguments: object) -> None:
        """Log a fault of the peer, at a bounded rate."""


@dataclass(frozen=True)
class Hello:
    """The id and the credentials that a new connection presents."""

    id: str | None
    token: str | None
    resume: str | None


@dataclass(eq=False)
class Peer:
    """A connection that was admitted under an id."""

    id: str
    connection: PeerLink
    # Proves that a client that reconnects is the one that was connected under this id.
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    rooms: set[str] = field(default_factory=set)
    #: Ids of the peers it exchanged signals with, the latest last, and whether it sent them any.
    contacts: dict[str, bool] = field(default_factory=dict)

    def has_secret(self, resume: str | None) -> bool:
        """Return whether a client that presents `resume` is the one that was this peer."""
        # compare_digest accepts only ASCII text, which every secret is.
        return resume is not None and resume.isascii() and hmac.compare_digest(resume, self.secret)


class Registry:
    """The peers of one signaling server; `peers` may be read from any thread.

    Args:
        limits: Those on peers, rooms and messages.
        authenticator: Decides which connection is admitted under which id.
    """

    def __init__(self, limits: ServerLimits, authenticator: Authenticator) -> None:
        self.limits = limits
        self._authenticator = authenticator
        self._peers: dict[str, Peer] = {}
        self._rooms: dict[str, dict[str, Peer]] = {}
        self._presence = Presence(limits, self._peers)

    @property
    def peers(self) -> tuple[str, ...]:
        """Ids of the connected peers, in the order of their arrival."""
        return tuple(self._peers)

    async def admit(self, connection: PeerLink, hello: Hello) -> bool:
        """Admit a connection and welcome it, or drop it with an error; return whether admitted."""
        peer_id = hello.id
        try:
            if peer_id is None or not is_valid_id(peer_id, self.limits):
                raise Rejected("invalid-id")
            await self._authenticator.check(peer_id, hello.token)
            # No await from here to the entry below, so that two cannot get the same id.
            self._free_id(peer_id, hello.resume)
        except Rejected as rejected:
            logger.info("rejected %r: %s", _shortened(peer_id), rejected.code)
            await connection.deliver_event(EncodedEvent("error", rejected.code))
            connection.drop(rejected.code)
            return False
        peer = connection.peer = Peer(peer_id, connection)
        self._peers[peer_id] = peer
        self._presence.on_arrival(peer, hello.resume)
        logger.info("%r is connected", peer_id)
        extra = {"server": "artico_sync", "acknowledges": True, "resume": peer.secret}
        if not await connection.deliver_event(EncodedEvent("open", peer_id, extra)):
            # The connection ended during authentication.
            self.remove(peer)
            return False
        return True

    def _free_id(self, peer_id: str, resume: str | None) -> None:
        holder = self._peers.get(peer_id)
        if holder is None:
            if len(self._peers) >= self.limits.max_peers:
                raise Rejected("server-full")
            return
        if not holder.has_secret(resume):
            raise Rejected("id-taken")
        logger.info("%r has reconnected, its old connection is dropped", peer_id)
        self.remove(holder)
        holder.connection.drop("replaced by a newer connection of the same client")

    def remove(self, peer: Peer) -> None:
        """Remove a peer whose connection has ended; has no effect if it is removed already."""
        if self._peers.get(peer.id) is peer:
            del self._peers[peer.id]
            self._presence.on_departure(peer)
            logger.info("%r has left", peer.id)
        for name in peer.rooms:
            room = self._rooms.get(name)
            if room is not None and room.get(peer.id) is peer:
                del room[peer.id]
                if not room:
                    del self._rooms[name]
        peer.rooms.clear()

    async def relay_signal(self, peer: Peer, arguments: tuple[object, ...]) -> dict[str, object]:
        """Relay a signal, and return the acknowledgement for clients that request one."""
        try:
            signal = parse_relayed_signal(arguments, peer.id, self.limits)
        except MalformedError as error:
            peer.connection.log_misbehavior("dropped a signal of %r: it %s", peer.id, error)
            return {"delivered": False}
        target = self._peers.get(signal.target)
        if target is None:
            logger.debug("dropped a signal of %r: its target is not connected", peer.id)
            return {"delivered": False}
        self._presence.on_signal(peer, target)
        event = EncodedEvent("signal", signal.message)
        return {"delivered": await target.connection.deliver_event(event)}

    async def join(self, peer: Peer, arguments: tuple[object, ...]) -> int:
        """Add a peer to a room, notify the other members, and return how many these are."""
        try:
            join = parse_join(arguments, self.limits)
            room = self._rooms.get(join.room, {})
            if join.room not in peer.rooms and len(peer.rooms) >= self.limits.max_rooms_per_peer:
                raise MalformedError("would be one room too many")
            if peer.id not in room and len(room) >= self.limits.max_peers_per_room:
                raise MalformedError("is for a full room")
        except MalformedError as error:
            peer.connection.log_misbehavior("dropped a join of %r: it %s", peer.id, error)
            return 0
        others = [other for other in room.values() if other is not peer]
        self._rooms.setdefault(join.room, room)[peer.id] = peer
        peer.rooms.add(join.room)
        metadata = () if join.metadata is None else (join.metadata,)
        event = EncodedEvent("join", join.room, peer.id, *metadata)
        for other in others:
            await other.connection.deliver_event(event)
        return len(others)

    def drop_all(self, reason: str) -> None:
        """Disconnect every peer."""
        for peer in list(self._peers.values()):
            self.remove(peer)
            peer.connection.drop(reason)
        self._presence.close()


class Presence:
    """Notifies peers when one they exchanged signals with has left or has reconnected.

    Args:
        limits: How long a peer may be away, and how many contacts are remembered.
        peers: The connected peers.
    """

    def __init__(self, limits: ServerLimits, peers: Mapping[str, Peer]) -> None:
        self._limits = limits
        self._peers = peers
        self._away: dict[str, tuple[Peer, asyncio.TimerHandle]] = {}
        self._notifications: set[asyncio.Task[None]] = set()

    def on_signal(self, sender: Peer, target: Peer) -> None:
        """Remember the two as contacts of each other."""
        if sender is target:
            return
        sender.contacts.pop(target.id, None)
        self._remember(sender, target.id, has_sent=True)
        self._remember(target, sender.id, has_sent=target.contacts.pop(sender.id, False))

    def _remember(self, peer: Peer, contact: str, *, has_sent: bool) -> None:
        contacts = peer.contacts
        contacts[contact] = has_sent
        if len(contacts) > self._limits.max_contacts:
            # Any client can send it signals, under any number of ids, but only the peer chooses
            # whom it sends signals to: those contacts are dropped last.
            oldest = next(iter(contacts))
            others = (id for id, sent in contacts.items() if not sent and id != contact)
            del contacts[next(others, oldest)]

    def on_departure(self, peer: Peer) -> None:
        """Wait for a peer whose connection has ended, unless it disconnected by itself."""
        if not peer.contacts:
            return
        if peer.connection.closed_cleanly:
            self._notify(EncodedEvent(GONE, peer.id), peer.contacts)
            return
        if len(self._away) >= self._limits.max_peers:
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._limits.absence_timeout, self._on_timeout, peer)
        self._away[peer.id] = peer, timer

    def on_arrival(self, peer: Peer, resume: str | None) -> None:
        """Notify the contacts of the peer that had the same id before, if there was one."""
        previous = self._forget(peer.id)
        if previous is None:
            return
        if previous.has_secret(resume):
            peer.contacts = previous.contacts
            senders = [contact for contact in peer.contacts if self._has_sent(contact, peer)]
            self._notify(EncodedEvent(BACK, peer.id), senders)
        else:
            # Another client with the same id: it has none of the previous one's calls.
            self._notify(EncodedEvent(GONE, previous.id), previous.contacts)

    def _has_sent(self, sender_id: str, target: Peer) -> bool:
        """Return whether one peer has sent signals to another itself."""
        sender = self._peers.get(sender_id)
        return sender is not None and sender.contacts.get(target.id, False)

    def close(self) -> None:
        """Stop waiting and notifying."""
        for _, timer in self._away.values():
            timer.cancel()
        self._away.clear()
        for task in self._notifications:
            task.cancel()

    def _forget(self, peer_id: str) -> Peer | None:
        peer, timer = self._away.pop(peer_id, (None, None))
        if timer is not None:
            timer.cancel()
        return peer

    def _on_timeout(self, peer: Peer) -> None:
        self._forget(peer.id)
        self._notify(EncodedEvent(GONE, peer.id), peer.contacts)

    def _notify(self, event: EncodedEvent, contacts: Iterable[str]) -> None:
        logger.debug("notifying contacts: %s", event.packet)
        task = asyncio.ensure_future(self._deliver(event, list(contacts)))
        self._notifications.add(task)
        task.add_done_callback(self._notifications.discard)

    async def _deliver(self, event: EncodedEvent, contacts: list[str]) -> None:
        for contact in contacts:
            peer = self._peers.get(contact)
            if peer is not None:
                await peer.connection.deliver_event(event)


def _shortened(peer_id: str | None) -> str | None:
    return None if peer_id is None else peer_id[:64]
