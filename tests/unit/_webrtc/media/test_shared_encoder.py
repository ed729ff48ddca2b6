"""Encoders shared by several connections, with the codec and bitrate of a track."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from artico_sync._webrtc.media.local_track import fanout_of
from artico_sync._webrtc.media.shared_encoder import SharedEncoder
from artico_sync.media import VideoTrack
from tests.media_content import RED, endless_video, shows
from tests.media_pair import MediaPair
from tests.polling import wait_until


@pytest.mark.slow
def test_a_track_shared_with_several_calls_is_encoded_once() -> None:
    track = endless_video(RED)
    with MediaPair() as one, MediaPair() as two, MediaPair() as three:
        pairs = (one, two, three)
        remotes = [pair.share(track)[0] for pair in pairs]
        for remote in remotes:
            assert shows(remote.read(timeout=10), RED)
        fanout = one.run_on_loop(lambda: fanout_of(track._frame_source()))
        (shared,) = fanout.encoders.values()
        assert isinstance(shared, SharedEncoder)

        def counts() -> tuple[int, list[int]]:
            return shared.frames_encoded, [pair.senders()[0].frames_sent for pair in pairs]

        encoded, sent = one.run_on_loop(counts)
        wait_until(lambda: shared.frames_encoded >= encoded + 20, "encoded frames")
        encoded_later, sent_later = one.run_on_loop(counts)
        for count, count_later in zip(sent, sent_later, strict=True):
            assert abs(count_later - count - (encoded_later - encoded)) <= 3
    assert fanout.encoders == {}


def test_a_source_produces_nothing_while_no_call_sends_it() -> None:
    track = endless_video(RED)
    states = [track._source.attached]
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        remote.recv(timeout=10)
        states.append(track._source.attached)
    states.append(track._source.attached)
    assert states == [False, True, False]
    assert not track.ended


def test_the_codec_of_a_track_is_used() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(endless_video(RED, codec="H264"))
        assert shows(remote.read(timeout=10), RED)
        assert pair.senders()[0].codec_name == pair.receivers()[0].codec_name == "H264"


def noise() -> Any:
    generator = np.random.default_rng(1)
    while True:
        blocks = generator.integers(0, 255, (15, 20, 3), np.uint8)
        yield np.kron(blocks, np.ones((16, 16, 1), np.uint8))


def bytes_in_a_second(bitrate: int) -> int:
    with MediaPair() as pair:
        pair.share(VideoTrack.from_frames(noise(), fps=20, bitrate=bitrate))
        sender = pair.senders()[0]
        wait_until(lambda: sender.frames_sent > 10, "frames")
        before, frame = sender.reports.bytes_sent, sender.frames_sent
        wait_until(lambda: sender.frames_sent >= frame + 20, "frames")
        return sender.reports.bytes_sent - before


@pytest.mark.slow
def test_the_bitrate_of_a_track_is_used() -> None:
    low, high = bytes_in_a_second(200_000), bytes_in_a_second(2_500_000)
    assert high > 2 * low


def test_a_bandwidth_estimate_of_the_receiver_limits_the_bitrate() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(endless_video(RED, bitrate=2_000_000))
        remote.recv(timeout=10)
        sender = pair.senders()[0]
        shared = sender._encoder
        assert shared is not None
        encoder: Any = shared._encoder

        def limited() -> bool:
            # The receiver sends bandwidth estimates of its own, which replace this one.
            pair.run_on_loop(lambda: shared.set_limit(sender, 300_000))
            return bool(encoder._encoder.target_bitrate == 300_000)

        wait_until(limited, "the lower bitrate")
