"""The RTP senders and receivers of the m-sections, as negotiated."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc.codecs import is_rtx
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpDecodingParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
    RTCRtpSendParameters,
)

from artico_sync._webrtc.rtp.receiver import RtpReceiver
from artico_sync._webrtc.rtp.sender import RtpSender
from artico_sync._webrtc.rtp.transceiver import Transceiver
from artico_sync._webrtc.sdp.media_sections import (
    LocalTrackBinding,
    MediaSection,
    PlannedSection,
    RemoteChange,
    RemoteTrackAdded,
    RemoteTrackRemoved,
    payload_types,
    random_id,
)
from artico_sync._webrtc.sdp.parser import RemoteSection
from artico_sync._webrtc.transports import Transports

logger = logging.getLogger(__name__)


class TransceiverSet:
    """Applies the negotiation to the senders and receivers of the audio and video m-sections.

    Every remote track gets a new receiver, and every local track that comes to an m-section a new
    sender, so that no state is left when one track replaces another.

    Args:
        transports: The transports of the connection.
        transceivers: The list of the connection, kept up to date.
        cname: Ties the RTP streams of this end together.
        spawn: Runs background work; the connection waits for it when it closes.
    """

    def __init__(
        self,
        transports: Transports,
        transceivers: list[Transceiver],
        cname: str,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._transports = transports
        self._transceivers = transceivers
        self._cname = cname
        self._spawn = spawn
        self._starting = asyncio.Lock()
        self._ages = itertools.count()

    def new_sender(self, local: LocalTrackBinding) -> RtpSender:
        """Return a sender for a track that will be offered."""
        sender = RtpSender(local.track, self._transports.dtls)
        sender.stream_id, sender.track_id = local.stream_id, local.track_id
        return sender

    # Applying the negotiation

    def accept(self, planned: PlannedSection, remote: RemoteSection) -> list[RemoteChange]:
        """Use an m-section in the directions of the description."""
        section = planned.section
        section.codecs, section.extensions = planned.codecs, planned.extensions
        transceiver = section.transceiver or self._new_transceiver(section, planned.sender)
        if planned.sender is not None and transceiver.sender is not planned.sender:
            self._replace_sender(transceiver, planned.sender)
        local = planned.local
        if local is not None:
            local.section = section
            section.local_track_id = local.track_id
            if local.removed:
                transceiver.sender.replace_track(None)
            else:
                section.local = local
        was_sending, section.sending = section.sending, planned.sends and remote.receives
        section.receiving = remote.sends
        section.used_by_peer = section.used_by_peer or remote.sends
        if was_sending and not section.sending and section.local is None:
            self._replace_sender(transceiver, RtpSender(section.kind, self._transports.dtls))
        changes = self._follow_remote(section, remote)
        transceiver.set_direction(sending=section.sending, receiving=section.receiving)
        return changes

    def reject(self, planned: PlannedSection) -> list[RemoteChange]:
        """Stop using an m-section that either side has rejected."""
        section = planned.section
        if planned.local is not None:
            logger.warning("the peer rejected the local %s track", section.kind)
            planned.local.section = section
        removed = self._remove_remote(section)
        section.sending = section.receiving = False
        section.local = None
        transceiver, section.transceiver = section.transceiver, None
        if transceiver is not None:
            transceiver.sender.replace_track(None)
            self._transceivers.remove(transceiver)
            self._spawn(transceiver.stop())
        return removed

    def _follow_remote(self, section: MediaSection, remote: RemoteSection) -> list[RemoteChange]:
        name = (remote.stream_ids, remote.track_id) if remote.sends else None
        if name == section.remote_name:
            return []
        changes = self._remove_remote(section)
        if name is not None:
            changes.append(self._add_remote(section, remote))
        return changes

    def _add_remote(self, section: MediaSection, remote: RemoteSection) -> RemoteTrackAdded:
        transceiver = section.transceiver
        assert transceiver is not None
        if transceiver.receiver.track is not None:
            fresh = RtpReceiver(section.kind, self._transports.dtls)
            fresh.reports.ssrc = transceiver.sender.ssrc
            transceiver.receiver = fresh
        receiver = transceiver.receiver
        track_id = remote.track_id or random_id()
        # As in browsers, a track without a stream arrives in a stream of its own.
        stream_id = remote.stream_ids[0] if remote.stream_ids else random_id()
        track = receiver.renew_track(track_id)
        section.remote = RemoteTrackAdded(track, section.kind, track_id, stream_id, section.mid)
        section.remote_name = (remote.stream_ids, remote.track_id)
        return section.remote

    def _remove_remote(self, section: MediaSection) -> list[RemoteChange]:
        gone, section.remote, section.remote_name = section.remote, None, None
        if gone is None or section.transceiver is None:
            return []
        receiver = section.transceiver.receiver
        receiver.enabled = False
        self._spawn(_end_receiver(receiver, gone.track))
        return [RemoteTrackRemoved(gone.track, gone.kind, gone.track_id, gone.stream_id, gone.mid)]

    # Transceivers

    def _new_transceiver(self, section: MediaSection, sender: RtpSender | None) -> Transceiver:
        dtls = self._transports.dtls
        transceiver = Transceiver(
            kind=section.kind,
            mid=section.mid,
            sender=sender or RtpSender(section.kind, dtls),
            receiver=RtpReceiver(section.kind, dtls),
        )
        transceiver.receiver.reports.ssrc = transceiver.sender.ssrc
        section.transceiver, section.use_order = transceiver, next(self._ages)
        self._transceivers.append(transceiver)
        return transceiver

    def _replace_sender(self, transceiver: Transceiver, sender: RtpSender) -> None:
        old = transceiver.sender
        old.replace_track(None)
        transceiver.sender = sender
        transceiver.receiver.reports.ssrc = sender.ssrc
        self._spawn(old.stop())

    # Running

    async def start(self, sections: list[MediaSection]) -> None:
        """Start negotiated senders and receivers, and update those that run."""
        async with self._starting:
            for section in sections:
                if not self._transports.connected or section.transceiver is None:
                    continue
                if section.sending:
                    await section.transceiver.sender.send(self._send_parameters(section))
                if section.receiving and section.remote is not None:
                    await self._start_receiver(section, section.transceiver.receiver)

    async def _start_receiver(self, section: MediaSection, receiver: Any) -> None:
        await receiver.receive(receive_parameters(section))
        assert section.remote_section is not None
        # The parameters leave out the sources of retransmissions, which would then be routed by
        # payload type; that fails as soon as two m-sections use the same one.
        self._transports.dtls.router.register_receiver(
            receiver,
            ssrcs=[entry.ssrc for entry in section.remote_section.media.ssrc],
            payload_types=payload_types(section.codecs),
            mid=section.mid,
        )

    def _send_parameters(self, section: MediaSection) -> RTCRtpSendParameters:
        assert section.transceiver is not None
        parameters = RTCRtpSendParameters(
            codecs=section.codecs, headerExtensions=section.extensions, muxId=section.mid
        )
        parameters.rtcp = RTCRtcpParameters(
            cname=self._cname, ssrc=section.transceiver.sender.ssrc, mux=True
        )
        return parameters


def receive_parameters(section: MediaSection) -> RTCRtpReceiveParameters:
    """Return the parameters to receive the peer's track of an m-section with."""
    assert section.remote_section is not None
    media = section.remote_section.media
    parameters = RTCRtpReceiveParameters(
        codecs=section.codecs,
        headerExtensions=section.extensions,
        muxId=section.mid,
        rtcp=media.rtp.rtcp,
    )
    sources = [entry.ssrc for entry in media.ssrc]
    if not sources:
        return parameters
    primary, retransmission = sources[0], None
    for group in media.ssrc_group:
        if group.semantic == "FID" and len(group.items) == 2:
            primary, retransmission = int(group.items[0]), int(group.items[1])
            break
    with_retransmission = {codec.parameters.get("apt") for codec in section.codecs if is_rtx(codec)}
    for codec in section.codecs:
        if not is_rtx(codec) and codec.payloadType is not None:
            encoding = RTCRtpDecodingParameters(ssrc=primary, payloadType=codec.payloadType)
            if retransmission is not None and codec.payloadType in with_retransmission:
                encoding.rtx = RTCRtpRtxParameters(ssrc=retransmission)
            parameters.encodings.append(encoding)
    return parameters


async def _end_receiver(receiver: Any, track: MediaStreamTrack) -> None:
    await receiver.stop()
    track.stop()
