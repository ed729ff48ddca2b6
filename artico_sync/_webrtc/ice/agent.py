"""One ICE connection: aioice's checks, fed with candidates as they are found; loop thread."""

from __future__ import annotations

import asyncio
import base64
import copy
import errno
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aioice import Candidate, TransportPolicy, mdns, stun
from aioice.ice import (
    ICE_COMPLETED,
    CandidatePair,
    StunProtocol,
    candidate_pair_priority,
)

from artico_sync._webrtc._aiortc.ice import AioiceConnection, network_host
from artico_sync._webrtc.ice import stun_binding as binding
from artico_sync._webrtc.ice.check_scheduler import Pacer
from artico_sync._webrtc.ice.gatherer import Gathering, IceServers
from artico_sync._webrtc.ice.remote_candidates import is_address, is_usable
from artico_sync._webrtc.ice.selected_pair import SelectedPair
from artico_sync._webrtc.net.udp import Inbox

if TYPE_CHECKING:
    from artico_sync._protocol.settings import Settings

logger = logging.getLogger(__name__)

#: Pairs checked at most (RFC 8445 section 6.1.2.5 asks for such a limit).
PAIRS_MAXIMUM = 256
#: Random octets behind the credentials (RFC 8839 5.4 asks for three and sixteen).
USERNAME_OCTETS = 6
PASSWORD_OCTETS = 18
#: Silence of the pair in use, as a fraction of that which ends a call, after which another
#: nominated pair takes its place. One of higher priority does so at once.
DEAD_AFTER = 1 / 6
#: Seconds after which a check in progress is made again because the peer's came through: ours
#: may have been stopped by the peer's NAT, which theirs has opened.
AGAIN_AFTER = 0.05
#: Seconds between two reports that the path is broken.
TELL_AGAIN = 1.0
#: Errors of a socket that say nothing about the path.
HARMLESS_ERRORS = frozenset(
    {errno.EMSGSIZE, errno.ENOBUFS, errno.EPERM, errno.EACCES, errno.ECONNREFUSED}
)


def _random_letters(octets: int) -> str:
    """Such as ICE takes: base64 without padding, so `octets` are a multiple of three."""
    return base64.b64encode(os.urandom(octets)).decode()


class IceAgent(AioiceConnection):
    """An aioice connection that trickles, and never gives up by itself.

    It fails only when it is closed; how long to try is its owner's to decide.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        inbox: Inbox,
        servers: IceServers,
        relay_only: bool,
        on_candidate: Callable[[Candidate], None],
        on_gathered: Callable[[], None],
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__(
            ice_controlling=False,
            transport_policy=TransportPolicy.RELAY if relay_only else TransportPolicy.ALL,
            local_username=username or _random_letters(USERNAME_OCTETS),
            local_password=password or _random_letters(PASSWORD_OCTETS),
        )
        self._settings = settings
        self._inbox = inbox
        self._relay_only = relay_only
        self._on_candidate = on_candidate
        self._on_gathered = on_gathered
        self._gathering = Gathering(
            self,
            servers,
            relay_only=relay_only,
            accelerate=settings.accelerate,
            timeout=settings.gathering_timeout,
        )
        self._gather_lock = asyncio.Lock()
        self._gathering_started = False
        self._pacer = Pacer(self._start_next_check)
        self._check_times: dict[CandidatePair, float] = {}
        self._check_patience: dict[CandidatePair, float] = {}
        self._check_tasks: set[asyncio.Task[None]] = set()
        self._name_tasks: set[asyncio.Task[None]] = set()
        #: The pair in use, and what is heard over it.
        self.path = SelectedPair(self)
        self._broken_at = -TELL_AGAIN
        #: Called when the system says that the pair in use cannot be used any more.
        self.on_broken: Callable[[], None] | None = None
        #: Called when checks have settled who of both sides nominates the pair.
        self.on_role: Callable[[bool], None] | None = None
        self._close_task: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    # Local candidates

    async def gather_candidates(self) -> None:
        async with self._gather_lock:
            if self._gathering_started or self.is_closing:
                return
            self._gathering_started = True
            await self._gathering.gather()

    def add_local(self, protocol: StunProtocol | None, candidate: Candidate) -> None:
        """Take a candidate found; `protocol` is the socket to check from, if it has its own."""
        if any(
            known.host == candidate.host and known.port == candidate.port
            for known in self.found_candidates
        ):
            return
        self.found_candidates.append(candidate)
        if protocol is not None:
            self.sockets.append(protocol)
            if self.early_checks_done:
                for remote in self.known_remote_candidates:
                    self.pair_remote_candidate(remote)
                self.sort_check_list()
                self._pacer.look()
        if candidate.type != "host":
            self._on_candidate(candidate)

    @property
    def is_gathered(self) -> bool:
        return self.gathering_done

    @property
    def is_outdated(self) -> bool:
        """Whether the machine has got other addresses since these candidates were gathered."""
        return self._gathering.is_outdated

    async def stop_gathering(self) -> None:
        """Look for no more local candidates; those found stay in use."""
        await self._gathering.close()
        self.gathering_done = True

    def gathered(self) -> None:
        """No more local candidates will come."""
        self.gathering_done = True
        self._on_gathered()

    # Remote candidates

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """Take or leave a candidate of the peer's, at once and without ever raising.

        The end of candidates is not recorded: it would only let the checks fail.
        """
        if remote_candidate is None or self.is_closing:
            return
        if len(self.known_remote_candidates) + len(self._name_tasks) >= (
            self._settings.maximum_candidates
        ):
            logger.warning("%s has enough remote candidates, one more is left out", self)
            return
        candidate = copy.copy(remote_candidate)
        if not is_usable(candidate):
            logger.info("%s cannot use the remote candidate %s", self, candidate)
        elif mdns.is_mdns_hostname(candidate.host):
            if not self._relay_only:
                task = asyncio.create_task(self._resolve_name(candidate))
                self._name_tasks.add(task)
                task.add_done_callback(self._name_tasks.discard)
        elif is_address(candidate.host):
            candidate.type = "srflx" if candidate.type == "prflx" else candidate.type
            self.add_resolved_candidate(candidate, candidate.host)
            self._pacer.look()
        else:
            logger.info("%s cannot use the remote candidate %s", self, candidate)

    async def _resolve_name(self, candidate: Candidate) -> None:
        """Add a candidate that hides its address behind an mDNS name, once it is found."""
        try:
            await super().add_remote_candidate(candidate)
        except Exception as exc:
            # No multicast, port 5353 taken, odd answers: the candidate is of no use then.
            logger.info("%s cannot resolve %s: %s", self, candidate.host, exc)
        else:
            self._pacer.look()

    # Checks

    async def connect(self) -> None:
        """Check until a pair is nominated. Raises ConnectionError when closed instead."""
        if self.remote_username is None or self.remote_password is None:
            raise ConnectionError("Remote username or password is missing")
        if self.is_closing:
            raise ConnectionError("The connection is closed")
        for remote in self.known_remote_candidates:
            self.pair_remote_candidate(remote)
        self.sort_check_list()
        early, self.early_checks_done = list(self.early_checks), True
        self.early_checks.clear()
        for check in early:
            self.check_incoming(*check)
        self._pacer.run()
        try:
            result = await self.check_results.get()
        finally:
            self._stop_checks()
        if result != ICE_COMPLETED or self.is_closing:
            raise ConnectionError("ICE negotiation failed")
        self._gathering.connected()

    def _start_next_check(self) -> bool:
        if self.is_closing:
            return False
        for state in (CandidatePair.State.WAITING, CandidatePair.State.FROZEN):
            for pair in self.check_list:
                if pair.state == state and pair.task is None:
                    self.check_start_task(pair)
                    return True
        return False

    def _stop_checks(self) -> None:
        self._pacer.stop()
        for pair in self.check_list:
            if pair.task is not None:
                self._stop_check(pair)

    def _stop_check(self, pair: CandidatePair) -> None:
        """End a check without a result; another one may be asked for later."""
        if pair.task is not None:
            pair.task.cancel()
            pair.task = None
        pair.state = CandidatePair.State.FROZEN

    def end_search(self) -> None:
        """The pair in use is heard again."""
        if self._pacer.running and self.checks_done:
            self._stop_checks()

    def search(self) -> None:
        """Check the pairs not in use again, because the one in use is silent."""
        if self._pacer.running or self.is_closing:
            return
        for remote in self.known_remote_candidates:
            self.pair_remote_candidate(remote)
        self.sort_check_list()
        for pair in self.check_list:
            if pair is not self.path.pair and pair.task is None:
                pair.state = CandidatePair.State.FROZEN
                pair.nominated = False
        self._pacer.run()

    def check_start_task(self, pair: CandidatePair) -> None:
        if pair.task is None and not self.is_closing:
            self._check_times[pair] = asyncio.get_running_loop().time()
            pair.task = asyncio.create_task(self.check_start(pair))
            self._check_tasks.add(pair.task)
            pair.task.add_done_callback(self._check_tasks.discard)

    def check_complete(self, pair: CandidatePair) -> None:
        component = pair.component
        before = self.nominated_pairs.get(component)
        super().check_complete(pair)
        after = self.nominated_pairs.get(component)
        if before is not None and after is not before and after is not None:
            # Everything that succeeds is nominated, so the last is not the best.
            if self._is_better(before, after):
                self.nominated_pairs[component] = after = before
            else:
                logger.info("%s goes on over %s", self, after)
                self._stop_checks()
        self.path.select(after)

    def _is_better(self, pair: CandidatePair, other: CandidatePair) -> bool:
        """Whether `pair`, the one in use, is to be kept in spite of `other`."""
        silence = self.path.now() - self.path.heard_at
        if silence >= self._settings.silence_timeout * DEAD_AFTER:
            return False
        priority, other_priority = (
            candidate_pair_priority(p.local_candidate, p.remote_candidate, self.ice_controlling)
            for p in (pair, other)
        )
        return priority >= other_priority

    def pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        # As aioice does, without parsing the addresses of both for every pair.
        is_name = mdns.is_mdns_hostname(remote_candidate.host)
        is_ipv6 = ":" in network_host(remote_candidate)
        for protocol in self.sockets:
            local = protocol.local_candidate
            if (
                (":" in local.host) is is_ipv6
                and not (is_name and local.type == "relay")
                and len(self.check_list) < PAIRS_MAXIMUM
                and self.find_pair(protocol, remote_candidate) is None
            ):
                self.check_list.append(CandidatePair(protocol, remote_candidate))

    def switch_role(self, ice_controlling: bool) -> None:
        super().switch_role(ice_controlling)
        self.path.refresh()
        if self.on_role is not None:
            self.on_role(ice_controlling)

    def share_role(self, other: IceAgent) -> None:
        """Be of one agent with `other` (RFC 8445 section 7.3.1.1): two that settle who nominates
        each for itself would have the peer change sides for ever."""
        self.ice_controlling, self.tie_breaker = other.ice_controlling, other.tie_breaker

    def build_request(self, pair: CandidatePair, nominate: bool) -> stun.Message:
        request = super().build_request(pair, nominate)
        return binding.Request(
            request.message_method,
            request.message_class,
            request.transaction_id,
            request.attributes,
        )

    async def check_start(self, pair: CandidatePair) -> None:
        begun = time.perf_counter()  # the loop's clock may be a coarse one
        try:
            await super().check_start(pair)
        except Exception as exc:
            logger.info("%s gives up the check of %s: %r", self, pair, exc)
            self.check_state(pair, CandidatePair.State.FAILED)
            self.check_complete(pair)
        taken = time.perf_counter() - begun
        is_new = pair is self.path.pair and self.path.round_trip_time is None
        if is_new and taken < stun.RETRY_RTO and not self.remote_is_lite:
            # It was asked once, so the answer is to that; of a lite peer twice.
            self.path.round_trip_time = taken

    def request_received(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        if message.message_method == stun.Method.BINDING and "PRIORITY" not in message.attributes:
            if not self.is_closing:
                self.respond_error(message, addr, protocol, (400, "Bad Request"))
            return
        if not self._accepts(message):
            super().request_received(message, addr, protocol)  # it says why not, or changes roles
            if self.early_checks:
                self._asked.set()
            return
        key = self.local_password.encode()
        protocol.transport.sendto(binding.make_response(message.transaction_id, addr, key), addr)
        if self.early_checks_done:
            self.check_incoming(message, addr, protocol)
        else:
            self.early_checks.append((message, addr, protocol))
            self._asked.set()

    def _accepts(self, message: stun.Message) -> bool:
        """Whether a request is an authentic check that leaves both sides' roles as they are."""
        attributes = message.attributes
        return (
            message.message_method == stun.Method.BINDING
            and not self.is_closing
            and ("ICE-CONTROLLING" if self.ice_controlling else "ICE-CONTROLLED") not in attributes
            and "MESSAGE-INTEGRITY" in attributes
            and self.is_valid_username(attributes.get("USERNAME", ""))
            and message.check_message_integrity(self.local_password.encode())
        )

    async def wait_asked(self, timeout: float) -> None:
        """Wait for the peer's first check, so many seconds at most."""
        try:
            async with asyncio.timeout(timeout):
                await self._asked.wait()
        except TimeoutError:
            logger.debug("%s has heard no check of the peer's yet", self)

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        """Take an authentic request of the peer's."""
        known = next(
            (c for c in self.known_remote_candidates if (network_host(c), c.port) == addr), None
        )
        if known is None:
            if len(self.known_remote_candidates) >= self._settings.maximum_candidates:
                return
        else:
            pair = self.find_pair(protocol, known)
            if pair is not None and self._is_stuck(pair):
                # Longer each time: a check ended sooner than its answer can come back, again and
                # again on both sides, would never be answered on a slow path.
                self._check_patience[pair] = 2 * self._check_patience.get(pair, AGAIN_AFTER)
                self._stop_check(pair)
        super().check_incoming(message, addr, protocol)
        self.path.accepted(addr)

    def _is_stuck(self, pair: CandidatePair) -> bool:
        """Whether a check in progress is worth making again (RFC 8445 section 7.3.1.4)."""
        started = self._check_times.get(pair, 0.0)
        return (
            pair.state == CandidatePair.State.IN_PROGRESS
            and not self.remote_is_lite
            and asyncio.get_running_loop().time() - started
            >= self._check_patience.get(pair, AGAIN_AFTER)
        )

    # Data

    def payload_received(self, data: bytes, address: tuple[str, int]) -> None:
        path = self.path
        if address == path.address:
            path.heard_at = path.now()
        self._inbox.put(data)

    async def recvfrom(self) -> tuple[bytes, int]:
        return await self._inbox.get(), 1

    # The end

    def socket_error(self, protocol: StunProtocol, exc: Exception) -> None:
        """The system refused to send or receive on one of our sockets."""
        harmless = isinstance(exc, OSError) and exc.errno in HARMLESS_ERRORS
        if not harmless:
            self._broken(protocol, exc)

    def protocol_lost(self, protocol: StunProtocol) -> None:
        if not self.is_closing:
            self._broken(protocol, None)

    def _broken(self, protocol: StunProtocol, exc: Exception | None) -> None:
        pair, now = self.path.pair, self.path.now()
        if pair is None or pair.protocol is not protocol or now - self._broken_at < TELL_AGAIN:
            return
        self._broken_at = now
        if self.on_broken is not None:
            logger.info("%s cannot use its path any more: %s", self, exc)
            self.on_broken()

    async def close(self) -> None:
        """Leave nothing behind; may be called at any moment, and again."""
        if self._close_task is None:
            self.is_closing = True
            self._close_task = asyncio.create_task(self._close())
        await asyncio.shield(self._close_task)

    async def _close(self) -> None:
        self._stop_checks()
        await self._gathering.close()
        async with self._gather_lock:  # gather_candidates() is over
            tasks = [*self._check_tasks, *self._name_tasks]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await super().close()
            self.path.select(None)
