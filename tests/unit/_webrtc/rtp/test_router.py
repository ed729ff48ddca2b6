"""The router of RTP packets against sources without end."""

from __future__ import annotations

from typing import Any

from aiortc.rtp import RtpPacket

from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.rtp.router import LEARNED_MAX, BoundedRouter
from tests.descriptions import alone

AUDIO, VIDEO, SHARED = 111, 96, 97


def packet(ssrc: int, payload_type: int) -> RtpPacket:
    return RtpPacket(payload_type=payload_type, ssrc=ssrc)


def taker(router: BoundedRouter, taken: RtpPacket) -> Any:
    return router.route_rtp(taken)


def test_sources_nobody_announced_are_forgotten_in_the_end() -> None:
    router = BoundedRouter()
    audio: Any = object()
    video: Any = object()
    router.register_receiver(audio, [1], [AUDIO, SHARED], "0")
    router.register_receiver(video, [2], [VIDEO, SHARED], "1")
    for ssrc in range(3, 10 * LEARNED_MAX):
        assert taker(router, packet(ssrc, AUDIO)) is audio
        assert taker(router, packet(ssrc, SHARED)) is audio
    assert len(router.ssrc_table) <= LEARNED_MAX + 2
    # An announced SSRC is never forgotten, and a forgotten one is learned again.
    assert taker(router, packet(1, SHARED)) is audio
    assert taker(router, packet(2, SHARED)) is video
    assert taker(router, packet(3, SHARED)) is None
    assert taker(router, packet(3, AUDIO)) is audio


def test_a_source_announced_later_is_kept() -> None:
    router = BoundedRouter()
    video: Any = object()
    other: Any = object()
    router.register_receiver(video, [], [VIDEO, SHARED])
    router.register_receiver(other, [], [SHARED])
    assert taker(router, packet(7, VIDEO)) is video
    router.register_receiver(video, [7], [VIDEO, SHARED])
    for ssrc in range(10, 10 + 2 * LEARNED_MAX):
        router.route_rtp(packet(ssrc, VIDEO))
    assert taker(router, packet(7, SHARED)) is video


def test_a_receiver_that_goes_takes_its_sources_along() -> None:
    router = BoundedRouter()
    video: Any = object()
    router.register_receiver(video, [1], [VIDEO])
    router.route_rtp(packet(2, VIDEO))
    router.unregister_receiver(video)
    assert not router.ssrc_table
    assert taker(router, packet(2, VIDEO)) is None


def test_calls_route_by_it() -> None:
    async def test(connection: PeerConnection) -> None:
        assert isinstance(connection._transports.dtls.router, BoundedRouter)

    alone(test)
