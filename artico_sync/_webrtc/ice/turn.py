"""The client of a TURN server, over UDP; loop thread."""

from __future__ import annotations

import struct
from typing import cast

from aioice import stun, turn


class TurnClient(turn.TurnClientUdpProtocol):
    """aioice's, which lets malformed messages raise into the loop."""

    async def keep_alive(self) -> None:
        """Say something that needs no answer, so that NATs do not forget the way back."""
        if not self.transport.is_closing():
            indication = stun.Message(stun.Method.BINDING, stun.Class.INDICATION)
            self.send_stun(indication, self.server)

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        data = cast(bytes, data)
        if not data:
            return
        if not turn.is_channel_data(data):
            try:
                stun.parse_message(data)
            except (ValueError, struct.error, IndexError):
                return  # anybody may write the server's address on a datagram
        super().datagram_received(data, addr)
