"""What aiortc and our transports know about a connection, as one plain dict; loop thread."""

from __future__ import annotations

from typing import Any

from aiortc.stats import (
    RTCInboundRtpStreamStats,
    RTCOutboundRtpStreamStats,
    RTCRemoteInboundRtpStreamStats,
)

from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.rtp.receiver import RtpReceiver
from artico_sync._webrtc.rtp.sender import RtpSender


async def connection_stats(connection: PeerConnection) -> dict[str, Any]:
    """Numbers about the path, the data transport and the media of a connection.

    Returns:
        `local`, `remote`: the selected candidate pair, each with type, address, port and protocol;
        `round_trip_time` in seconds, None while unknown;
        `pending`, `unread`, `retransmissions`, `congestion_window`: of the data transport, in
            bytes and times;
        `streams`: a list with a dict for each RTP stream.
    """
    transport = connection.sctp_transport.stats()
    path = connection.ice_transport.path_stats()
    numbers: dict[str, Any] = {
        name: transport[name]
        for name in ("pending", "unread", "retransmissions", "congestion_window", "packet_size")
    }
    numbers["local"] = path.get("local")
    numbers["remote"] = path.get("remote")
    numbers["round_trip_time"] = transport["round_trip_time"] or path.get("round_trip_time")
    numbers["streams"] = await _streams(connection)
    return numbers


async def _streams(connection: PeerConnection) -> list[dict[str, Any]]:
    report = await connection.getStats()
    by_id: dict[str, dict[str, Any]] = {}
    for entry in report.values():
        if isinstance(entry, RTCInboundRtpStreamStats):
            by_id[entry.id] = {
                "direction": "inbound",
                "kind": entry.kind,
                "packets_received": entry.packetsReceived,
                "packets_lost": entry.packetsLost,
                "jitter": entry.jitter,
            }
        elif isinstance(entry, RTCOutboundRtpStreamStats):
            by_id[entry.id] = {
                "direction": "outbound",
                "kind": entry.kind,
                "packets_sent": entry.packetsSent,
                "bytes_sent": entry.bytesSent,
            }
    for entry in report.values():
        if isinstance(entry, RTCRemoteInboundRtpStreamStats):
            # The peer's report on what we send: the only way to know what it lost.
            for stream in by_id.values():
                if stream["direction"] == "outbound" and stream["kind"] == entry.kind:
                    stream["packets_lost"] = entry.packetsLost
                    stream["round_trip_time"] = entry.roundTripTime
    _add_frames(connection, by_id)
    return list(by_id.values())


def _add_frames(connection: PeerConnection, by_id: dict[str, dict[str, Any]]) -> None:
    for sender in connection.getSenders():
        stream = by_id.get(f"outbound-rtp_{id(sender)}")
        if isinstance(sender, RtpSender) and stream is not None:
            stream["codec"] = sender.codec_name
            stream["frames_sent"] = sender.frames_sent
    for receiver in connection.getReceivers():
        stream = by_id.get(f"inbound-rtp_{id(receiver)}")
        if isinstance(receiver, RtpReceiver) and stream is not None:
            stream["codec"] = receiver.codec_name
            stream["frames_received"] = receiver.frames_received
            stream["frames_decoded"] = receiver.frames_decoded
