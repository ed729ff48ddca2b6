"""Statistics of a connection, as one plain dict."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.rtp.receiver import RtpReceiver
from artico_sync._webrtc.rtp.sender import RtpSender


async def connection_stats(connection: PeerConnection) -> dict[str, Any]:
    """Return the statistics of the network path, the data transport and the media.

    Returns:
        `local`, `remote`: the selected candidate pair, each with type, address, port and protocol;
        `round_trip_time`: in seconds, None while unknown;
        `pending`, `unread`, `congestion_window`, `packet_size`: of the data transport, in bytes;
        `retransmissions`: a count;
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
        # From the RTCP receiver reports of the peer, the only source of its losses.
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


class StatsPoller:
    """Reports statistics at regular intervals.

    Args:
        collect: Returns the statistics.
        on_stats: Called with them.
    """

    def __init__(
        self,
        collect: Callable[[], Awaitable[dict[str, Any]]],
        on_stats: Callable[[dict[str, Any]], None],
    ) -> None:
        self._collect = collect
        self._on_stats = on_stats
        self._task: asyncio.Task[None] | None = None

    def start(self, interval: float) -> None:
        """Report every `interval` seconds, in place of an earlier interval."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._poll(interval))

    async def close(self) -> None:
        """Stop, and wait for the end of the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _poll(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self._on_stats(await self._collect())
