"""Finds the receiver of an RTP packet: aiortc's router and header parsing, made robust."""

from __future__ import annotations

import struct

from aiortc.rtcdtlstransport import RtpReceiver, RtpRouter
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap, RtpPacket

from artico_sync._protocol.bounds import LruDict

#: Sources known only from their packets. A forgotten one is learned again from its next packet.
LEARNED_MAX = 64


class TolerantExtensionsMap(HeaderExtensionsMap):
    """A map of header extensions that raises ValueError for a malformed one.

    aiortc's raises what its parsing happens to raise, which would end the transport.
    """

    def get(self, extension_profile: int, extension_value: bytes) -> HeaderExtensions:
        """Parse the extensions of a packet."""
        try:
            return super().get(extension_profile, extension_value)
        except (IndexError, struct.error) as error:
            raise ValueError(f"malformed header extension: {error}") from error


class BoundedRouter(RtpRouter):
    """Forgets the oldest learned sources; aiortc's keeps each until its receiver is removed."""

    def __init__(self) -> None:
        super().__init__()
        # Sources that no description announced, oldest first.
        self._learned: LruDict[int, None] = LruDict(
            LEARNED_MAX, lambda ssrc, _: self.ssrc_table.pop(ssrc, None)
        )

    def register_receiver(
        self,
        receiver: RtpReceiver,
        ssrcs: list[int],
        payload_types: list[int],
        mid: str | None = None,
    ) -> None:
        """Route these sources and payload types to a receiver."""
        super().register_receiver(receiver, ssrcs, payload_types, mid)
        for ssrc in ssrcs:
            self._learned.pop(ssrc, None)

    def route_rtp(self, packet: RtpPacket) -> RtpReceiver | None:
        """Return the receiver of a packet, None to drop it."""
        is_new = packet.ssrc not in self.ssrc_table
        receiver = super().route_rtp(packet)
        if is_new and receiver is not None:
            self._learned[packet.ssrc] = None
        return receiver
