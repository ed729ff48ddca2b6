"""The ICE agent: connectivity checks with trickled candidates, based on aioice's (RFC 8445)."""

from __future__ import annotations

import asyncio
import copy
import logging
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

from artico_sync._webrtc._aiortc.ice import network_host
from artico_sync._webrtc.ice.candidates import is_address, is_usable
from artico_sync._webrtc.ice.check_scheduler import CheckScheduler, CheckTimes
from artico_sync._webrtc.ice.gatherer import Gathering
from artico_sync._webrtc.ice.selected_pair import SelectedPair
from artico_sync._webrtc.ice.servers import IceServers
from artico_sync._webrtc.ice.socket import SocketOwner
from artico_sync._webrtc.ice.stun import (
    PASSWORD_OCTETS,
    USERNAME_OCTETS,
    BindingRequest,
    make_response,
    random_credential,
)
from artico_sync._webrtc.net.udp import Inbox

if TYPE_CHECKING:
    from artico_sync._protocol.settings import Settings

logger = logging.getLogger(__name__)

#: Pairs checked at most (RFC 8445 6.1.2.5 requires such a limit).
PAIRS_MAXIMUM = 256
#: Silence of the pair in use, as a fraction of `silence_timeout`, after which another nominated
#: pair replaces it. One of higher priority replaces it at once.
DEAD_PAIR_THRESHOLD = 1 / 6
#: Seconds between two reports that the path is broken.
REPORT_INTERVAL_SECONDS = 1.0


class IceAgent(SocketOwner):
    """An aioice connection that trickles candidates and checks pairs until it is closed.

    It has no timeout; its owner closes it. Large because aioice calls its connection for every
    event of candidates, checks and sockets, and each of these methods overrides one of aioice's.
    """

    #: Called when the system reports that the pair in use is no longer usable.
    on_broken: Callable[[], None] | None = None
    #: Called with True if this side nominates from now on, after a role conflict.
    on_role: Callable[[bool], None] | None = None
    _close_task: asyncio.Task[None] | None = None

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
            local_username=username or random_credential(USERNAME_OCTETS),
            local_password=password or random_credential(PASSWORD_OCTETS),
        )
        self._settings = settings
        self._inbox = inbox
        self._relay_only = relay_only
        self._on_candidate = on_candidate
        self._on_gathered = on_gathered
        self._gathering = Gathering(
            self,
            servers,
            settings,
            relay_only=relay_only,
            on_found=self.add_local_candidate,
            on_finished=self._finish_gathering,
        )
        self._gather_lock = asyncio.Lock()
        self._gathering_started = False
        self._scheduler = CheckScheduler(self._start_next_check)
        self._check_times = CheckTimes()
        self._check_tasks: set[asyncio.Task[None]] = set()
        self._name_tasks: set[asyncio.Task[None]] = set()
        self.path = SelectedPair(self)
        self._broken_at = -REPORT_INTERVAL_SECONDS
        self._first_check_received = asyncio.Event()

    # Local candidates

    async def gather_candidates(self) -> None:
        async with self._gather_lock:
            if self._gathering_started or self.is_closing:
                return
            self._gathering_started = True
            await self._gathering.gather()

    def add_local_candidate(self, protocol: StunProtocol | None, candidate: Candidate) -> None:
        """Add a local candidate; `protocol` is the socket to check from, if it has its own."""
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
                self._scheduler.wake_up()
        if candidate.type != "host":
            self._on_candidate(candidate)

    @property
    def is_gathered(self) -> bool:
        """Return whether no more local candidates will be found."""
        return self.gathering_done

    @property
    def is_outdated(self) -> bool:
        """Return whether the addresses of the machine have changed since the gathering."""
        return self._gathering.is_outdated

    async def stop_gathering(self) -> None:
        """Gather no more local candidates; those found stay in use."""
        await self._gathering.close()
        self.gathering_done = True

    def _finish_gathering(self) -> None:
        self.gathering_done = True
        self._on_gathered()

    # Remote candidates

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """Add a remote candidate, or ignore it if it is unusable; never raise or block.

        The end of candidates is not recorded, because aioice would let the checks fail then.
        """
        if remote_candidate is None or self.is_closing:
            return
        if len(self.known_remote_candidates) + len(self._name_tasks) >= (
            self._settings.maximum_candidates
        ):
            logger.warning("%s has the maximum of remote candidates, another one is ignored", self)
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
            self._scheduler.wake_up()
        else:
            logger.info("%s cannot use the remote candidate %s", self, candidate)

    async def _resolve_name(self, candidate: Candidate) -> None:
        """Add a candidate with an mDNS name as soon as the name is resolved."""
        try:
            await super().add_remote_candidate(candidate)
        except Exception as exc:
            # No multicast, port 5353 in use, malformed answers: the candidate is unusable.
            logger.info("%s cannot resolve %s: %s", self, candidate.host, exc)
        else:
            self._scheduler.wake_up()

    # Checks

    async def connect(self) -> None:
        """Check until a pair is nominated. Raises ConnectionError if closed before."""
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
        self._scheduler.run()
        try:
            result = await self.check_results.get()
        finally:
            self._cancel_checks()
        if result != ICE_COMPLETED or self.is_closing:
            raise ConnectionError("ICE negotiation failed")
        self._gathering.stop_keep_alive()

    def _start_next_check(self) -> bool:
        if self.is_closing:
            return False
        for state in (CandidatePair.State.WAITING, CandidatePair.State.FROZEN):
            for pair in self.check_list:
                if pair.state == state and pair.task is None:
                    self.check_start_task(pair)
                    return True
        return False

    def _cancel_checks(self) -> None:
        self._scheduler.stop()
        for pair in self.check_list:
            if pair.task is not None:
                self._cancel_check(pair)

    def _cancel_check(self, pair: CandidatePair) -> None:
        """Cancel a check, so that another one of the pair can start later."""
        if pair.task is not None:
            pair.task.cancel()
            pair.task = None
        pair.state = CandidatePair.State.FROZEN

    def stop_checks(self) -> None:
        """Stop the checks of `restart_checks`: the pair in use works again."""
        if self._scheduler.running and self.checks_done:
            self._cancel_checks()

    def restart_checks(self) -> None:
        """Check the other pairs again, because the one in use is silent."""
        if self._scheduler.running or self.is_closing:
            return
        for remote in self.known_remote_candidates:
            self.pair_remote_candidate(remote)
        self.sort_check_list()
        for pair in self.check_list:
            if pair is not self.path.pair and pair.task is None:
                pair.state = CandidatePair.State.FROZEN
                pair.nominated = False
        self._scheduler.run()

    def check_start_task(self, pair: CandidatePair) -> None:
        if pair.task is None and not self.is_closing:
            self._check_times.on_start(pair)
            pair.task = asyncio.create_task(self.check_start(pair))
            self._check_tasks.add(pair.task)
            pair.task.add_done_callback(self._check_tasks.discard)

    def check_complete(self, pair: CandidatePair) -> None:
        component = pair.component
        before = self.nominated_pairs.get(component)
        super().check_complete(pair)
        after = self.nominated_pairs.get(component)
        if before is not None and after is not before and after is not None:
            # Every pair that succeeds is nominated, so the last is not always the best.
            if self._is_better(before, after):
                self.nominated_pairs[component] = after = before
            else:
                logger.info("%s continues over %s", self, after)
                self._cancel_checks()
        self.path.select(after)

    def _is_better(self, pair: CandidatePair, other: CandidatePair) -> bool:
        """Return whether `pair`, which is in use, is better than the nominated `other`."""
        silence = self.path.now() - self.path.last_received_at
        if silence >= self._settings.silence_timeout * DEAD_PAIR_THRESHOLD:
            return False
        priority, other_priority = (
            candidate_pair_priority(p.local_candidate, p.remote_candidate, self.ice_controlling)
            for p in (pair, other)
        )
        return priority >= other_priority

    def pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        # The same as aioice's, without parsing both addresses for every pair.
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

    def inherit_role(self, other: IceAgent) -> None:
        """Take over the role and the tie-breaker of `other`.

        Both resolve role conflicts with the same tie-breaker (RFC 8445 7.3.1.1). Otherwise, each
        would make the peer switch roles again and again.
        """
        self.ice_controlling, self.tie_breaker = other.ice_controlling, other.tie_breaker

    def build_request(self, pair: CandidatePair, nominate: bool) -> stun.Message:
        request = super().build_request(pair, nominate)
        return BindingRequest(
            request.message_method,
            request.message_class,
            request.transaction_id,
            request.attributes,
        )

    async def check_start(self, pair: CandidatePair) -> None:
        begun = time.perf_counter()  # the loop's clock may have a coarse resolution
        try:
            await super().check_start(pair)
        except Exception as exc:
            logger.info("%s failed to check %s: %r", self, pair, exc)
            self.check_state(pair, CandidatePair.State.FAILED)
            self.check_complete(pair)
        elapsed = time.perf_counter() - begun
        is_new = pair is self.path.pair and self.path.round_trip_time is None
        if is_new and elapsed < stun.RETRY_RTO and not self.remote_is_lite:
            # Only one request was sent, to which this is the response; a lite peer gets two.
            self.path.round_trip_time = elapsed

    def request_received(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        if message.message_method == stun.Method.BINDING and "PRIORITY" not in message.attributes:
            if not self.is_closing:
                self.respond_error(message, addr, protocol, (400, "Bad Request"))
            return
        if not self._accepts(message):
            # It responds with an error, or switches roles.
            super().request_received(message, addr, protocol)
            if self.early_checks:
                self._first_check_received.set()
            return
        key = self.local_password.encode()
        protocol.transport.sendto(make_response(message.transaction_id, addr, key), addr)
        if self.early_checks_done:
            self.check_incoming(message, addr, protocol)
        else:
            self.early_checks.append((message, addr, protocol))
            self._first_check_received.set()

    def _accepts(self, message: stun.Message) -> bool:
        """Return whether a request is an authentic check without a role conflict."""
        attributes = message.attributes
        return (
            message.message_method == stun.Method.BINDING
            and not self.is_closing
            and ("ICE-CONTROLLING" if self.ice_controlling else "ICE-CONTROLLED") not in attributes
            and "MESSAGE-INTEGRITY" in attributes
            and self.is_valid_username(attributes.get("USERNAME", ""))
            and message.check_message_integrity(self.local_password.encode())
        )

    async def wait_for_first_check(self, timeout: float) -> None:
        """Wait for the first check of the peer, at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._first_check_received.wait()
        except TimeoutError:
            logger.debug("%s has received no check of the peer yet", self)

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        """Handle an authentic check of the peer."""
        known = next(
            (c for c in self.known_remote_candidates if (network_host(c), c.port) == addr), None
        )
        if known is None:
            if len(self.known_remote_candidates) >= self._settings.maximum_candidates:
                return
        else:
            pair = self.find_pair(protocol, known)
            if pair is not None and self._must_repeat(pair):
                self._check_times.on_repeat(pair)
                self._cancel_check(pair)
        super().check_incoming(message, addr, protocol)
        self.path.on_request_verified(addr)

    def _must_repeat(self, pair: CandidatePair) -> bool:
        """Return whether to repeat the check in progress of `pair` (RFC 8445 7.3.1.4)."""
        return (
            pair.state == CandidatePair.State.IN_PROGRESS
            and not self.remote_is_lite
            and self._check_times.is_overdue(pair)
        )

    # Data

    def payload_received(self, data: bytes, address: tuple[str, int]) -> None:
        path = self.path
        if address == path.address:
            path.last_received_at = path.now()
        self._inbox.put(data)

    async def recvfrom(self) -> tuple[bytes, int]:
        return await self._inbox.get(), 1

    # Errors and closing

    def protocol_lost(self, protocol: StunProtocol) -> None:
        if not self.is_closing:
            self.socket_error(protocol, None)

    def socket_error(self, protocol: StunProtocol, exc: Exception | None) -> None:
        pair, now = self.path.pair, self.path.now()
        if pair is None or pair.protocol is not protocol:
            return
        if now - self._broken_at < REPORT_INTERVAL_SECONDS:
            return
        self._broken_at = now
        if self.on_broken is not None:
            logger.info("%s can no longer use its path: %s", self, exc)
            self.on_broken()

    async def close(self) -> None:
        """Close the sockets and end all tasks; may be called at any time, and repeatedly."""
        if self._close_task is None:
            self.is_closing = True
            self._close_task = asyncio.create_task(self._close())
        await asyncio.shield(self._close_task)

    async def _close(self) -> None:
        self._cancel_checks()
        await self._gathering.close()
        async with self._gather_lock:  # gather_candidates() has ended
            tasks = [*self._check_tasks, *self._name_tasks]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await super().close()
            self.path.select(None)
