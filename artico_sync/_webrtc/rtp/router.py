"""Which receiver takes an RTP packet: aiortc's router, with a bound; loop thread."""

from __future__ import annotations

from aiortc.rtcdtlstransport import RtpReceiver, RtpRouter
from aiortc.rtp import RtpPacket

#: Sources known by their packets alone. A forgotten one is learnt again from its next packet.
LEARNT_MAXIMUM = 64


class BoundedRouter(RtpRouter):
    """aiortc's notes each source it meets, and forgets it only with its receiver."""

    def __init__(self) -> None:
        super().__init__()
        #: The sources no description told, the oldest first.
        self._learnt: dict[int, None] = {}

    def register_receiver(
        self,
        receiver: RtpReceiver,
        ssrcs: list[int],
        payload_types: list[int],
        mid: str | None = None,
    ) -> None:
        super().register_receiver(receiver, ssrcs, payload_types, mid)
        for ssrc in ssrcs:
            self._learnt.pop(ssrc, None)

    def route_rtp(self, packet: RtpPacket) -> RtpReceiver | None:
        is_new = packet.ssrc not in self.ssrc_table
        receiver = super().route_rtp(packet)
        if is_new and receiver is not None:
            self._learnt.pop(packet.ssrc, None)
            self._learnt[packet.ssrc] = None
            if len(self._learnt) > LEARNT_MAXIMUM:
                oldest = next(iter(self._learnt))
                del self._learnt[oldest]
                self.ssrc_table.pop(oldest, None)
        return receiver
