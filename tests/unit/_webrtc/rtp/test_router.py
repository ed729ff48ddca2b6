"""RTP routing with an unlimited number of sources, and malformed header extensions."""

from __future__ import annotations

from typing import Any

import pytest
from aiortc.rtp import RtpPacket

from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.rtp.receiver import (
    LEARNED_MAX,
    BoundedRouter,
    TolerantExtensionsMap,
)
from tests.descriptions import alone

AUDIO, VIDEO, SHARED = 111, 96, 97


def packet(ssrc: int, payload_type: int) -> RtpPacket:
    return RtpPacket(payload_type=payload_type, ssrc=ssrc)


def receiver_of(router: BoundedRouter, routed: RtpPacket) -> Any:
    return router.route_rtp(routed)


def test_the_number_of_learned_sources_is_limited() -> None:
    router = BoundedRouter()
    audio: Any = object()
    video: Any = object()
    router.register_receiver(audio, [1], [AUDIO, SHARED], "0")
    router.register_receiver(video, [2], [VIDEO, SHARED], "1")
    for ssrc in range(3, 10 * LEARNED_MAX):
        assert receiver_of(router, packet(ssrc, AUDIO)) is audio
        assert receiver_of(router, packet(ssrc, SHARED)) is audio
    assert len(router.ssrc_table) <= LEARNED_MAX + 2
    # An announced SSRC is never forgotten, and a forgotten one is learned again.
    assert receiver_of(router, packet(1, SHARED)) is audio
    assert receiver_of(router, packet(2, SHARED)) is video
    assert receiver_of(router, packet(3, SHARED)) is None
    assert receiver_of(router, packet(3, AUDIO)) is audio


def test_a_learned_source_that_is_announced_later_is_never_forgotten() -> None:
    router = BoundedRouter()
    video: Any = object()
    other: Any = object()
    router.register_receiver(video, [], [VIDEO, SHARED])
    router.register_receiver(other, [], [SHARED])
    assert receiver_of(router, packet(7, VIDEO)) is video
    router.register_receiver(video, [7], [VIDEO, SHARED])
    for ssrc in range(10, 10 + 2 * LEARNED_MAX):
        router.route_rtp(packet(ssrc, VIDEO))
    assert receiver_of(router, packet(7, SHARED)) is video


def test_unregistering_a_receiver_removes_its_sources() -> None:
    router = BoundedRouter()
    video: Any = object()
    router.register_receiver(video, [1], [VIDEO])
    router.route_rtp(packet(2, VIDEO))
    router.unregister_receiver(video)
    assert not router.ssrc_table
    assert receiver_of(router, packet(2, VIDEO)) is None


def test_a_peer_connection_uses_the_bounded_router() -> None:
    async def test(connection: PeerConnection) -> None:
        assert isinstance(connection._transports.dtls.router, BoundedRouter)

    alone(test)


def test_a_malformed_header_extension_raises_value_error() -> None:
    extensions = TolerantExtensionsMap()
    for ident in range(1, 15):
        extensions._HeaderExtensionsMap__ids.abs_send_time = ident  # type: ignore[attr-defined]
        with pytest.raises(ValueError):
            extensions.get(0xBEDE, bytes([ident << 4, 0, 0, 0]))
