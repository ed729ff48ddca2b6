"""The RTP senders and receivers behind the m-lines; loop thread."""

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
from aiortc.rtcrtptransceiver import RTCRtpTransceiver

from artico_sync._webrtc.rtp.receiver import RtpReceiver
from artico_sync._webrtc.rtp.sender import RtpSender
from artico_sync._webrtc.sdp.media_sections import (
    LocalTrack,
    MediaSection,
    PlannedSection,
    RemoteChange,
    RemoteTrackAdded,
    RemoteTrackRemoved,
    direction,
    payload_types,
    random_id,
)
from artico_sync._webrtc.sdp.parser import RemoteSection
from artico_sync._webrtc.transports import Transports

logger = logging.getLogger(__name__)


class RtpStreams:
    """Carries out what was negotiated for the audio and video m-lines.

    Every remote track gets a receiver of its own, every local one that comes to an m-line a
    sender of its own, so that nothing of one is left when another takes its place.

    Args:
        transceivers: The connection's own list, kept up to date.
        spawn: Runs what takes time; the connection waits for it at its end.
    """

    def __init__(
        self,
        transports: Transports,
        transceivers: list[RTCRtpTransceiver],
        cname: str,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._transports = transports
        self._transceivers = transceivers
        self._cname = cname
        self._spawn = spawn
        self._starting = asyncio.Lock()
        self._ages = itertools.count()

    def new_sender(self, local: LocalTrack) -> RtpSender:
        """A sender for a track that is going to be offered."""
        sender = RtpSender(local.track, self._transports.dtls)
        sender._stream_id, sender._track_id = local.stream_id, local.track_id
        return sender

    # What was negotiated

    def accept(
        self, index: int, planned: PlannedSection, remote: RemoteSection
    ) -> list[RemoteChange]:
        """The m-line is in use, in the directions the description says."""
        line = planned.line
        line.codecs, line.extensions = planned.codecs, planned.extensions
        transceiver = line.transceiver or self._new_transceiver(line, index, planned.sender)
        if planned.sender is not None and transceiver.sender is not planned.sender:
            self._replace_sender(transceiver, planned.sender)
        local = planned.local
        if local is not None:
            local.line = line
            line.local_track_id = local.track_id
            if local.removed:
                transceiver.sender.replaceTrack(None)
            else:
                line.local = local
        was_sending, line.sending = line.sending, planned.sends and remote.receives
        line.receiving = remote.sends
        line.used_by_peer = line.used_by_peer or remote.sends
        if was_sending and not line.sending and line.local is None:
            self._replace_sender(transceiver, RtpSender(line.kind, self._transports.dtls))
        transceiver._codecs, transceiver._headerExtensions = line.codecs, line.extensions
        transceiver.direction = direction(line.local is not None, True)
        changes = self._follow_remote(line, remote)
        transceiver._setCurrentDirection(direction(line.sending, line.receiving))
        return changes

    def reject(self, planned: PlannedSection) -> list[RemoteChange]:
        """The m-line is out of use, by the peer's will or ours."""
        line = planned.line
        if planned.local is not None:
            logger.warning("the peer does not take our %s track", line.kind)
            planned.local.line = line
        removed = self._remove_remote(line)
        line.sending = line.receiving = False
        line.local = None
        transceiver, line.transceiver = line.transceiver, None
        if transceiver is not None:
            transceiver.sender.replaceTrack(None)
            self._transceivers.remove(transceiver)
            self._spawn(transceiver.stop())
        return removed

    def _follow_remote(self, line: MediaSection, remote: RemoteSection) -> list[RemoteChange]:
        name = (remote.stream_ids, remote.track_id) if remote.sends else None
        if name == line.remote_name:
            return []
        changes = self._remove_remote(line)
        if name is not None:
            changes.append(self._add_remote(line, remote))
        return changes

    def _add_remote(self, line: MediaSection, remote: RemoteSection) -> RemoteTrackAdded:
        transceiver = line.transceiver
        assert transceiver is not None
        if transceiver.receiver.track is not None:
            fresh = RtpReceiver(line.kind, self._transports.dtls)
            fresh._set_rtcp_ssrc(transceiver.sender._ssrc)
            setattr(transceiver, "_RTCRtpTransceiver__receiver", fresh)
        receiver = transceiver.receiver
        assert isinstance(receiver, RtpReceiver)
        track_id = remote.track_id or random_id()
        # Like a browser: a track without a stream comes in a stream of its own.
        stream_id = remote.stream_ids[0] if remote.stream_ids else random_id()
        track = receiver.renew_track(track_id)
        line.remote = RemoteTrackAdded(track, line.kind, track_id, stream_id, line.mid)
        line.remote_name = (remote.stream_ids, remote.track_id)
        return line.remote

    def _remove_remote(self, line: MediaSection) -> list[RemoteChange]:
        gone, line.remote, line.remote_name = line.remote, None, None
        if gone is None or line.transceiver is None:
            return []
        receiver = line.transceiver.receiver
        receiver._enabled = False
        self._spawn(_end_receiver(receiver, gone.track))
        return [RemoteTrackRemoved(gone.track, gone.kind, gone.track_id, gone.stream_id, gone.mid)]

    # Transceivers

    def _new_transceiver(
        self, line: MediaSection, index: int, sender: RtpSender | None
    ) -> RTCRtpTransceiver:
        dtls = self._transports.dtls
        transceiver = RTCRtpTransceiver(
            kind=line.kind,
            sender=sender or RtpSender(line.kind, dtls),
            receiver=RtpReceiver(line.kind, dtls),
        )
        transceiver.receiver._set_rtcp_ssrc(transceiver.sender._ssrc)
        transceiver._bundled = True
        transceiver._set_mid(line.mid)
        transceiver._set_mline_index(index)
        line.transceiver, line.age = transceiver, next(self._ages)
        self._transceivers.append(transceiver)
        return transceiver

    def _replace_sender(self, transceiver: RTCRtpTransceiver, sender: RtpSender) -> None:
        old = transceiver.sender
        old.replaceTrack(None)
        setattr(transceiver, "_RTCRtpTransceiver__sender", sender)
        transceiver.receiver._set_rtcp_ssrc(sender._ssrc)
        self._spawn(old.stop())

    # Running

    async def start(self, lines: list[MediaSection]) -> None:
        """Start what has been negotiated and does not run yet; tell the others what is new."""
        async with self._starting:
            for line in lines:
                if not self._transports.connected or line.transceiver is None:
                    continue
                if line.sending:
                    await line.transceiver.sender.send(self._send_parameters(line))
                if line.receiving and line.remote is not None:
                    await self._start_receiver(line, line.transceiver.receiver)

    async def _start_receiver(self, line: MediaSection, receiver: Any) -> None:
        await receiver.receive(receive_parameters(line))
        assert line.remote_line is not None
        # aiortc leaves the sources of retransmissions out; it finds those by their payload
        # type alone, which fails as soon as two m-lines use one.
        self._transports.dtls._rtp_router.register_receiver(
            receiver,
            ssrcs=[entry.ssrc for entry in line.remote_line.media.ssrc],
            payload_types=payload_types(line.codecs),
            mid=line.mid,
        )

    def _send_parameters(self, line: MediaSection) -> RTCRtpSendParameters:
        assert line.transceiver is not None
        parameters = RTCRtpSendParameters(
            codecs=line.codecs, headerExtensions=line.extensions, muxId=line.mid
        )
        parameters.rtcp = RTCRtcpParameters(
            cname=self._cname, ssrc=line.transceiver.sender._ssrc, mux=True
        )
        return parameters


def receive_parameters(line: MediaSection) -> RTCRtpReceiveParameters:
    """How to receive what the peer sends on a line, from its description."""
    assert line.remote_line is not None
    media = line.remote_line.media
    parameters = RTCRtpReceiveParameters(
        codecs=line.codecs,
        headerExtensions=line.extensions,
        muxId=line.mid,
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
    with_retransmission = {codec.parameters.get("apt") for codec in line.codecs if is_rtx(codec)}
    for codec in line.codecs:
        if not is_rtx(codec) and codec.payloadType is not None:
            encoding = RTCRtpDecodingParameters(ssrc=primary, payloadType=codec.payloadType)
            if retransmission is not None and codec.payloadType in with_retransmission:
                encoding.rtx = RTCRtpRtxParameters(ssrc=retransmission)
            parameters.encodings.append(encoding)
    return parameters


async def _end_receiver(receiver: Any, track: MediaStreamTrack) -> None:
    await receiver.stop()
    track.stop()
