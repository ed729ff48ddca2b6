"""The sender and the receiver of one m-section."""

from __future__ import annotations

from dataclasses import dataclass

from artico_sync._webrtc.rtp.receiver import RtpReceiver
from artico_sync._webrtc.rtp.sender import RtpSender


@dataclass
class Transceiver:
    """The sender and the receiver of one m-section (W3C RTCRtpTransceiver)."""

    kind: str
    mid: str
    sender: RtpSender
    receiver: RtpReceiver

    def set_direction(self, *, sending: bool, receiving: bool) -> None:
        """Enable what the negotiated direction includes."""
        self.sender.enabled = sending
        self.receiver.enabled = receiving

    async def stop(self) -> None:
        """End both for good."""
        await self.receiver.stop()
        await self.sender.stop()
