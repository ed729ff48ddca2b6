"""What aiortc and our transports know about a connection, as one plain dict; loop thread."""

from __future__ import annotations

from typing import Any

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
    numbers["streams"] = _streams(connection)
    return numbers


def _streams(connection: PeerConnection) -> list[dict[str, Any]]:
    streams = [_outbound(transceiver.sender) for transceiver in connection.transceivers]
    for transceiver in connection.transceivers:
        streams += _inbound(transceiver.receiver)
    return streams


def _outbound(sender: RtpSender) -> dict[str, Any]:
    reports = sender.reports
    stream: dict[str, Any] = {
        "direction": "outbound",
        "kind": sender.kind,
        "packets_sent": reports.packets_sent,
        "bytes_sent": reports.bytes_sent,
        "codec": sender.codec_name,
        "frames_sent": sender.frames_sent,
    }
    if reports.packets_lost is not None:
        # From the peer's reports, the only source of what it lost.
        stream["packets_lost"] = reports.packets_lost
        stream["round_trip_time"] = reports.round_trip_time
    return stream


def _inbound(receiver: RtpReceiver) -> list[dict[str, Any]]:
    return [
        {
            "direction": "inbound",
            "kind": receiver.kind,
            "packets_received": source.packets_received,
            "packets_lost": source.packets_lost,
            "jitter": source.jitter,
            "codec": receiver.codec_name,
            "frames_received": receiver.frames_received,
            "frames_decoded": receiver.frames_decoded,
        }
        for source in receiver.reports.streams.values()
    ]
