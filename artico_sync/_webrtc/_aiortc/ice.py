"""aioice's connection and aiortc's ICE objects, with public names for their private parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aioice import Candidate, Connection, stun
from aioice.ice import CandidatePair, StunProtocol
from aioice.turn import TurnTransport
from aiortc import RTCIceGatherer, RTCIceTransport

from artico_sync._webrtc._aiortc import Alias

EarlyCheck = tuple[stun.Message, tuple[str, int], StunProtocol]


class AioiceConnection(Connection):
    """The connectivity checks of one ICE agent (RFC 8445)."""

    #: The candidate pairs, by priority.
    check_list = Alias[list[CandidatePair]]("_check_list")
    #: A pair was nominated, or all checks have failed.
    checks_done = Alias[bool]("_check_list_done")
    #: Receives the result of the checks once.
    check_results = Alias[asyncio.Queue[int]]("_check_list_state")
    #: The connection is closing: aioice starts no more checks.
    is_closing = Alias[bool]("_closing")
    #: Checks of the peer that arrived before the remote candidates.
    early_checks = Alias[list[EarlyCheck]]("_early_checks")
    #: Those were processed, and checks may run.
    early_checks_done = Alias[bool]("_early_checks_done")
    #: The local candidates found so far.
    found_candidates = Alias[list[Candidate]]("_local_candidates")
    #: No more local candidates will be found, which `connect` asks for.
    gathering_done = Alias[bool]("_local_candidates_end")
    #: The nominated pair by component.
    nominated_pairs = Alias[dict[int, CandidatePair]]("_nominated")
    #: The sockets that checks are sent from.
    sockets = Alias[list[StunProtocol]]("_protocols")
    #: The candidates of the peer.
    known_remote_candidates = Alias[list[Candidate]]("_remote_candidates")
    #: Decides a role conflict.
    tie_breaker = Alias[int]("_tie_breaker")
    #: Checks the USERNAME of a request.
    is_valid_username = Alias[Callable[[str], bool]]("_valid_username")
    #: Adds a candidate of the peer whose address is known.
    add_resolved_candidate = Alias[Callable[[Candidate, str], None]]("_add_remote_candidate")
    #: Finds the pair of a socket and a remote candidate.
    find_pair = Alias[Callable[[StunProtocol, Candidate], CandidatePair | None]]("_find_pair")

    def _pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        # Called by `_add_remote_candidate`.
        self.pair_remote_candidate(remote_candidate)

    def pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        """Pair a candidate of the peer with every socket."""
        super()._pair_remote_candidate(remote_candidate)


def network_host(candidate: Candidate) -> str:
    """Return the address of a remote candidate, resolved if its host is a name."""
    host: str = candidate._network_host
    return host


class AiortcIceGatherer(RTCIceGatherer):
    """The owner of the local candidates, whose parameters descriptions carry."""

    #: The connection that gathers, and that the parameters are of.
    agent = Alias[Any]("_connection")


class AiortcIceTransport(RTCIceTransport):
    """The transport below DTLS."""

    #: The connection whose role is shown, and that DTLS goes over.
    agent = Alias[Any]("_connection")
    #: Returns the next datagram that is not STUN; DTLS awaits it.
    receive_datagram = Alias[Callable[[], Coroutine[Any, Any, bytes]]]("_recv")
    #: Sends a datagram; DTLS awaits it.
    send_datagram = Alias[Callable[[bytes], Coroutine[Any, Any, None]]]("_send")


async def connect_turn(transport: TurnTransport, protocol: StunProtocol) -> None:
    """Allocate a relayed address, and connect a protocol to it."""
    await transport._connect(protocol)


def unfinished_tasks_of(transport: Any) -> list[asyncio.Task[Any]]:
    """Return the tasks with which a TURN transport gives its allocation back."""
    tasks = [
        getattr(transport, "_TurnTransport__close_task"),
        *getattr(transport, "_TurnTransport__send_tasks"),
    ]
    return [task for task in tasks if task is not None]
