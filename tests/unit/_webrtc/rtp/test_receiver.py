"""RTP receivers, which decode only for readers, on real connections."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import timedelta
from time import monotonic
from typing import Any

import numpy as np
import pytest
from aiortc import clock
from aiortc.rtp import RtpPacket

from artico_sync._bridge import streams as frames
from artico_sync._webrtc.rtp import reports
from artico_sync.errors import MediaError
from artico_sync.media import AudioTrack, VideoTrack
from artico_sync.media.remote import make_remote_track
from tests.media_content import RED, endless_video, mean_color, shows, tone
from tests.media_pair import MediaPair
from tests.polling import wait_until


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


#: The number of shades that can be distinguished.
COUNTED = 200


class Counting:
    """Pictures whose brightness is their number."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> Any:
        self.number += 1
        return np.full((64, 64, 3), self.number % COUNTED + 20, np.uint8)


def number_of(picture: Any) -> float:
    return float(mean_color(picture).mean()) - 20


@pytest.mark.slow
def test_a_track_without_readers_is_neither_decoded_nor_buffered() -> None:
    with MediaPair() as pair:
        video, audio = pair.share(endless_video(RED), AudioTrack.from_chunks([tone(440, 5)]))
        receivers = pair.receivers()
        wait_until(lambda: all(r.frames_received > 20 for r in receivers), "frames")
        for receiver in receivers:
            assert receiver._decoder is None
            assert not receiver._jitter_buffer._packets and not receiver._jitter_buffer._missing
        assert video._track.frames_decoded == audio._track.frames_decoded == 0


@pytest.mark.slow
def test_a_new_reader_requests_a_keyframe() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(endless_video(RED))
        receiver = pair.receivers()[0]
        wait_until(lambda: receiver.frames_received > 20, "frames")
        start = monotonic()
        assert shows(remote.read(timeout=10), RED)
        # Without a request the next keyframe would come after minutes.
        assert monotonic() - start < 5


def test_decoding_stops_when_a_reader_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "IDLE_SECONDS", 0.2)
    with MediaPair() as pair:
        (track,) = pair.share(endless_video(RED))
        remote = make_remote_track(track._track, None, pair.post)
        remote._reader._idle = 0.2
        remote.recv(timeout=10)
        wait_until(lambda: pair.receivers()[0]._decoder is None, "the end of decoding")
        decoded = remote._track.frames_decoded
        received = pair.receivers()[0].frames_received
        wait_until(lambda: pair.receivers()[0].frames_received > received + 5, "frames")
        assert remote._track.frames_decoded == decoded
        assert shows(remote.read(timeout=10), RED)


@pytest.mark.slow
def test_a_slow_reader_gets_recent_pictures_in_order() -> None:
    with MediaPair() as pair:
        pictures = Counting()
        (remote,) = pair.share(VideoTrack.from_frames(pictures, fps=30))
        seen = [number_of(remote.read(timeout=10))]
        for _ in range(4):
            pause(1.2)
            seen.append(number_of(remote.read(timeout=10)))
            # Only the short buffer and the frames in flight are behind, not all frames made so far.
            assert (pictures.number - seen[-1]) % COUNTED < 120
    seen = list(np.unwrap(seen, period=COUNTED))
    assert seen == sorted(seen)


def test_renewing_a_track_ends_the_old_one() -> None:
    with MediaPair() as pair:
        (old,) = pair.share(endless_video(RED))
        old.recv(timeout=10)
        receiver = pair.receivers()[0]
        track = pair.run_on_loop(lambda: receiver.renew_track("renewed"))
        assert old.ended and receiver.track is track and track.id == "renewed"
        with pytest.raises(MediaError):
            while True:
                old.recv(timeout=1)
        assert shows(make_remote_track(track, None, pair.post).read(timeout=10), RED)


def test_a_received_track_has_asyncio_readers() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(endless_video(RED))

        async def read() -> list[Any]:
            return [await asyncio.wait_for(remote._track.recv(), 10) for _ in range(5)]

        assert len(pair.run(read)) == 5


@pytest.mark.slow
def test_video_survives_loss_and_reordering() -> None:
    chance = random.Random(7)
    with MediaPair() as pair:
        (remote,) = pair.share(VideoTrack.from_frames(Counting(), fps=30))
        remote.recv(timeout=10)
        pair.disturb(lambda: chance.random() < 0.03, delay=lambda: chance.uniform(0.02, 0.03))
        numbers = [number_of(remote.read(timeout=10)) for _ in range(90)]
    numbers = list(np.unwrap(numbers, period=COUNTED))
    # Few pictures were skipped while lost packets were retransmitted.
    assert numbers[-1] - numbers[0] < 4 * len(numbers)
    steps = np.diff(numbers)
    assert (steps > -2.5).all()


@pytest.mark.slow
def test_random_packets_do_not_stop_a_receiver() -> None:
    chance = random.Random(3)
    with MediaPair() as pair:
        video, audio = pair.share(endless_video(RED), AudioTrack.from_chunks([tone(440, 30)]))
        video.recv(timeout=10)
        audio.recv(timeout=10)

        async def attack() -> None:
            for receiver in pair.receivers():
                known = list(receiver._codecs)
                now = clock.current_ms()
                for _ in range(2000):
                    packet = RtpPacket(
                        payload_type=chance.choice([*known, 99]),
                        marker=chance.randrange(2),
                        sequence_number=chance.randrange(65536),
                        timestamp=chance.randrange(2**32),
                        ssrc=chance.choice([receiver._ssrc or 0, chance.randrange(2**32)]),
                        payload=chance.randbytes(chance.randrange(40)),
                    )
                    packet.extensions.abs_send_time = chance.randrange(2**24)
                    now += chance.randrange(20)
                    await receiver.handle_rtp_packet(packet, now)
                assert len(receiver.reports.streams) <= 16

        pair.run(attack)
        for _ in range(20):
            assert shows(video.read(timeout=10), RED)
            audio.recv(timeout=10)


def test_expired_sources_are_removed_from_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "SOURCE_LIFETIME", timedelta(seconds=-10))
    with MediaPair() as pair:
        (video,) = pair.share(endless_video(RED))
        video.recv(timeout=10)

        async def attack() -> None:
            (receiver,) = pair.receivers()
            codec = next(iter(receiver._codecs))
            for source in range(300):
                packet = RtpPacket(payload_type=codec, ssrc=source)
                packet.extensions.abs_send_time = source
                await receiver.handle_rtp_packet(packet, clock.current_ms())
            estimator = receiver.reports.bitrate_estimator
            assert estimator is not None
            sources = estimator.ssrcs
            assert 0 < len(sources) <= reports.SOURCES_MAX

        pair.run(attack)
