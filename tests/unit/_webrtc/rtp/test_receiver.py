"""The receiver decodes only what is read, the sender encodes once for all; on real connections."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import numpy as np
import pytest
from aiortc import clock
from aiortc.rtp import RtpPacket

from artico_sync._bridge import streams as frames
from artico_sync._webrtc.media.local_track import fanout_of
from artico_sync._webrtc.media.shared_encoder import SharedEncoder
from artico_sync._webrtc.rtp import reports
from artico_sync._webrtc.rtp.router import TolerantExtensionsMap
from artico_sync.errors import MediaError
from artico_sync.media import AudioTrack, VideoTrack
from artico_sync.media.remote import make_remote_track
from tests.media_content import BLUE, GREEN, RED, mean_color, plain, shows, tone
from tests.media_pair import MediaPair


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def wait_until(condition: Callable[[], object], what: str, limit: float = 10) -> None:
    end = monotonic() + limit
    while not condition():
        if monotonic() > end:
            pytest.fail(f"waited in vain: {what}")
        pause(0.01)


def endless(colour: tuple[int, int, int], fps: float = 30, **options: Any) -> VideoTrack:
    return VideoTrack.from_frames(itertools.repeat(plain(colour)), fps, **options)


#: The number of shades that can be distinguished.
COUNTED = 200


class Counting:
    """Pictures whose brightness tells their number."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> Any:
        self.number += 1
        return np.full((64, 64, 3), self.number % COUNTED + 20, np.uint8)


def number_of(picture: Any) -> float:
    return float(mean_color(picture).mean()) - 20


def test_an_unread_track_decodes_nothing_and_holds_nothing() -> None:
    with MediaPair() as pair:
        video, audio = pair.share(endless(RED), AudioTrack.from_chunks([tone(440, 5)]))
        receivers = pair.receivers()
        wait_until(lambda: all(r.frames_received > 20 for r in receivers), "frames")
        for receiver in receivers:
            assert receiver._decoder is None
            assert not receiver._jitter_buffer._packets and not receiver._jitter_buffer._missing
        assert video._track.frames_decoded == audio._track.frames_decoded == 0


def test_reading_starts_at_once_in_the_middle_of_a_stream() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(endless(RED))
        receiver = pair.receivers()[0]
        wait_until(lambda: receiver.frames_received > 20, "frames")
        start = monotonic()
        assert shows(remote.read(timeout=10), RED)
        # The next key frame of its own would come after minutes.
        assert monotonic() - start < 5


def test_decoding_stops_when_nobody_reads_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "IDLE_SECONDS", 0.2)
    with MediaPair() as pair:
        (track,) = pair.share(endless(RED))
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
def test_a_slow_reader_gets_fresh_pictures_in_order() -> None:
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


def test_a_track_shared_with_several_calls_is_encoded_once() -> None:
    track = endless(RED)
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


def test_the_source_rests_while_no_call_takes_it() -> None:
    track = endless(RED)
    states = [track._source.attached]
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        remote.recv(timeout=10)
        states.append(track._source.attached)
    states.append(track._source.attached)
    assert states == [False, True, False]
    assert not track.ended


def test_the_codec_wished_for_is_used() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(endless(RED, codec="H264"))
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
def test_the_bitrate_wished_for_is_kept_to() -> None:
    low, high = bytes_in_a_second(200_000), bytes_in_a_second(2_500_000)
    assert high > 2 * low


def test_what_the_receiver_can_take_limits_the_bitrate() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(endless(RED, bitrate=2_000_000))
        remote.recv(timeout=10)
        sender = pair.senders()[0]
        shared = sender._encoder
        assert shared is not None
        encoder: Any = shared._encoder

        def limited() -> bool:
            # The receiver itself says now and then what it can take.
            pair.run_on_loop(lambda: shared.set_limit(sender, 300_000))
            return bool(encoder._encoder.target_bitrate == 300_000)

        wait_until(limited, "the lower bitrate")


def test_a_replaced_track_is_seen_without_a_pause_of_the_clock() -> None:
    red, blue = endless(RED), endless(BLUE)
    with MediaPair() as pair:
        (remote,) = pair.share(red)
        last = remote.recv(timeout=10)
        assert shows(remote.read(timeout=10), RED)
        pair.replace(0, blue)
        while not shows(remote.read(timeout=10), BLUE):
            pass
        frame = remote.recv(timeout=10)
        assert last.time is not None and frame.time is not None and frame.time > last.time
        assert not red._source.attached


def test_a_sender_outlives_the_end_of_its_track() -> None:
    with MediaPair() as pair:
        seen = threading.Event()
        short = VideoTrack.from_frames(lambda: None if seen.is_set() else plain(RED))
        (remote,) = pair.share(short)
        assert shows(remote.read(timeout=10), RED)
        seen.set()
        wait_until(lambda: short.ended, "the end")
        pair.replace(0, endless(GREEN))
        while not shows(remote.read(timeout=10), GREEN):
            pass


def test_a_renewed_track_ends_the_old_one_and_goes_on() -> None:
    with MediaPair() as pair:
        (old,) = pair.share(endless(RED))
        old.recv(timeout=10)
        receiver = pair.receivers()[0]
        track = pair.run_on_loop(lambda: receiver.renew_track("renewed"))
        assert old.ended and receiver.track is track and track.id == "renewed"
        with pytest.raises(MediaError):
            while True:
                old.recv(timeout=1)
        assert shows(make_remote_track(track, None, pair.post).read(timeout=10), RED)


def test_asyncio_readers_are_served_as_well() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(endless(RED))

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
    # Not many were skipped while what was lost came again.
    assert numbers[-1] - numbers[0] < 4 * len(numbers)
    steps = np.diff(numbers)
    assert (steps > -2.5).all()


def test_hostile_packets_do_no_harm() -> None:
    chance = random.Random(3)
    with MediaPair() as pair:
        video, audio = pair.share(endless(RED), AudioTrack.from_chunks([tone(440, 30)]))
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


def test_sources_that_fell_silent_are_in_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "SOURCE_LIFETIME", timedelta(seconds=-10))
    with MediaPair() as pair:
        (video,) = pair.share(endless(RED))
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


def test_a_malformed_header_extension_is_a_malformed_packet() -> None:
    extensions = TolerantExtensionsMap()
    for ident in range(1, 15):
        extensions._HeaderExtensionsMap__ids.abs_send_time = ident  # type: ignore[attr-defined]
        with pytest.raises(ValueError):
            extensions.get(0xBEDE, bytes([ident << 4, 0, 0, 0]))
