"""Local tracks shared by several calls."""

from __future__ import annotations

import asyncio

import pytest
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, VideoStreamTrack
from av import AudioFrame

from artico_sync._webrtc.media.local_track import (
    SharedTrack,
    fanout_of,
    shared_track_for,
)
from artico_sync._webrtc.media.raw_frames import AUDIO_SAMPLES


def test_calls_share_the_fanout_and_the_id_of_a_track() -> None:
    async def test() -> None:
        track, other = VideoStreamTrack(), VideoStreamTrack()
        first, second = shared_track_for(track), shared_track_for(track)
        assert first is not second
        assert first.fanout is second.fanout is fanout_of(track) is fanout_of(first)
        assert first.id == second.id == track.id
        assert (first.kind, first.readyState) == ("video", "live")
        assert shared_track_for(other).fanout is not first.fanout

    asyncio.run(test())


def test_stopping_a_shared_track_ends_it_for_one_call_only() -> None:
    async def test() -> None:
        track = AudioStreamTrack()
        first, second = shared_track_for(track), shared_track_for(track)
        await first.recv()
        frame = await second.recv()
        assert isinstance(frame, AudioFrame) and frame.samples == AUDIO_SAMPLES
        first.stop()
        with pytest.raises(MediaStreamError):
            await drain(first)
        await second.recv()
        assert track.readyState == "live"
        second.stop()
        track.stop()

    asyncio.run(test())


def test_the_end_of_a_track_ends_it_for_all_calls() -> None:
    async def test() -> None:
        track = AudioStreamTrack()
        shared = [shared_track_for(track) for _ in range(2)]
        for one in shared:
            await one.recv()
        track.stop()
        for one in shared:
            with pytest.raises(MediaStreamError):
                await drain(one)
            assert one.readyState == "ended"
        assert fanout_of(track).ended

    asyncio.run(test())


async def drain(track: SharedTrack) -> None:
    """Read a track to its end."""
    async with asyncio.timeout(10):
        while True:
            await track.recv()
