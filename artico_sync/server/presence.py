"""Tells peers of one that has left and does not come back; the loop that serves.

Artico's protocol has no word for it, so a caller would ring for ever at a peer that was killed.
It is told by an event of its own, `gone`, which JavaScript clients pass over. Another, `back`,
tells that one has lost its link and come back: what was sent into the old one may be lost.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from artico_sync.server.events import Event
from artico_sync.server.limits import ServerLimits

if TYPE_CHECKING:
    from artico_sync.server.registry import Peer

logger = logging.getLogger("artico_sync.server")

GONE = "gone"
BACK = "back"


class Presence:
    """Who had to do with whom, and who is away.

    Args:
        limits: How long a peer may be away, and how many others are remembered.
        peers: Those connected now.
    """

    def __init__(self, limits: ServerLimits, peers: Mapping[str, Peer]) -> None:
        self._limits = limits
        self._peers = peers
        self._away: dict[str, tuple[Peer, asyncio.TimerHandle]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def met(self, one: Peer, other: Peer) -> None:
        """A signal went from one to the other."""
        if one is other:
            return
        one.contacts.pop(other.id, None)
        self._remember(one, other.id, is_wanted=True)
        self._remember(other, one.id, is_wanted=other.contacts.pop(one.id, False))

    def _remember(self, peer: Peer, contact: str, *, is_wanted: bool) -> None:
        contacts = peer.contacts
        contacts[contact] = is_wanted
        if len(contacts) > self._limits.max_contacts:
            # Anybody can send it signals under any number of ids; whom it answers, it chooses.
            oldest = next(iter(contacts))
            others = (id for id, wanted in contacts.items() if not wanted and id != contact)
            del contacts[next(others, oldest)]

    def left(self, peer: Peer) -> None:
        """A peer's connection has ended; it may come back, unless it said good-bye."""
        if not peer.contacts:
            return
        if peer.connection.closed_cleanly:
            self._tell(Event(GONE, peer.id), peer.contacts)
            return
        if len(self._away) >= self._limits.max_peers:
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._limits.absence_timeout, self._on_timeout, peer)
        self._away[peer.id] = peer, timer

    def entered(self, peer: Peer, resume: str | None) -> None:
        """A peer has come in under an id that may have been used before."""
        before = self._forget(peer.id)
        if before is None:
            return
        if is_same(before, resume):
            peer.contacts = before.contacts
            self._tell(Event(BACK, peer.id), [one for one in peer.contacts if self._met(one, peer)])
        else:
            # Another client by that id: of the old one's calls it knows nothing.
            self._tell(Event(GONE, before.id), before.contacts)

    def _met(self, one_id: str, other: Peer) -> bool:
        """Whether one has sent the other signals itself; nobody is told of strangers' comings."""
        one = self._peers.get(one_id)
        return one is not None and one.contacts.get(other.id, False)

    def close(self) -> None:
        """Tell nobody any more."""
        for _, timer in self._away.values():
            timer.cancel()
        self._away.clear()
        for task in self._telling:
            task.cancel()

    def _forget(self, peer_id: str) -> Peer | None:
        peer, timer = self._away.pop(peer_id, (None, None))
        if timer is not None:
            timer.cancel()
        return peer

    def _on_timeout(self, peer: Peer) -> None:
        self._forget(peer.id)
        self._tell(Event(GONE, peer.id), peer.contacts)

    def _tell(self, news: Event, contacts: Iterable[str]) -> None:
        logger.debug("telling contacts %s", news.packet)
        task = asyncio.ensure_future(self._tell_contacts(news, list(contacts)))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_contacts(self, news: Event, contacts: list[str]) -> None:
        for contact in contacts:
            peer = self._peers.get(contact)
            if peer is not None:
                await peer.connection.deliver(news)


def is_same(peer: Peer, resume: str | None) -> bool:
    """Whether who shows `resume` is the client that was connected as `peer`."""
    # compare_digest takes ASCII only, which every secret of ours is.
    return resume is not None and resume.isascii() and hmac.compare_digest(resume, peer.secret)
