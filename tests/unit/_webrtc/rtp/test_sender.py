"""RTP senders whose track is replaced or ends, on real connections."""

from __future__ import annotations

import threading

from artico_sync.media import VideoTrack
from tests.media_content import BLUE, GREEN, RED, endless_video, plain, shows
from tests.media_pair import MediaPair
from tests.polling import wait_until


def test_timestamps_increase_when_a_track_is_replaced() -> None:
    red, blue = endless_video(RED), endless_video(BLUE)
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


def test_a_sender_sends_another_track_after_the_end_of_one() -> None:
    with MediaPair() as pair:
        seen = threading.Event()
        short = VideoTrack.from_frames(lambda: None if seen.is_set() else plain(RED))
        (remote,) = pair.share(short)
        assert shows(remote.read(timeout=10), RED)
        seen.set()
        wait_until(lambda: short.ended, "the end")
        pair.replace(0, endless_video(GREEN))
        while not shows(remote.read(timeout=10), GREEN):
            pass
