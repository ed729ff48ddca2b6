"""Files played into a call and recorded at its other end, over good networks and bad ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from artico_sync import Call, MediaStream
from artico_sync.media import Recorder, RemoteMediaStream
from tests.call_media import LIMIT, MediaLog, rtp_streams, sound, wait_for_tone
from tests.conftest import TIME_UNIT, MakeArtico
from tests.faults.network import Network
from tests.media_content import BLUE, RED, Film, frequency_of, loudness, make_film
from tests.polling import wait_until

SECONDS = 3.0
#: Seconds that playing in real time may be held up.
SLACK = 0.2 * TIME_UNIT


@contextmanager
def recording(call: Call, path: Path) -> Iterator[list[tuple[Recorder, float]]]:
    """Record the first stream that comes, from its first moment; and when that was."""
    recorders: list[tuple[Recorder, float]] = []

    @call.once("stream")
    def record(stream: RemoteMediaStream) -> None:
        recorders.append((stream.record(path), monotonic()))

    yield recorders
    for recorder, _ in recorders:
        recorder.stop(LIMIT)


def play_and_record(sender: Call, receiver: Call, film: Path, out: Path) -> float:
    """Returns how many seconds at the start of the film may not have been recorded."""
    log = MediaLog(receiver)
    begun = monotonic()
    with recording(receiver, out) as recorders:
        stream = MediaStream.from_file(film)
        sender.add_stream(stream, film.name)
        log.wait_for(("removestream", stream.id, film.name))
        ((_, recorded),) = recorders
    assert log.errors == []
    return recorded - begun


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_file_sent_and_recorded_is_the_same_film(
    make_artico: MakeArtico, tmp_path: Path, suffix: str
) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", LIMIT).answer().wait_open(LIMIT)
    call.wait_open(LIMIT)
    film, out = make_film(tmp_path / "film.mp4", SECONDS), tmp_path / f"out{suffix}"
    late = play_and_record(call, incoming, film, out)
    check_film(Film(out), tolerance=0.15 + SLACK + late)


@pytest.mark.slow
def test_a_film_survives_a_bad_network(tmp_path: Path) -> None:
    film, out = make_film(tmp_path / "film.mp4", SECONDS), tmp_path / "out.mp4"
    with Network() as network:
        relay = network.relay(delay=0.05, loss=0.02, jitter=0.005)
        ends = network.connect(relay)
        late = play_and_record(ends.caller, ends.callee, film, out)
        assert sum(way.lost for way in relay.directions.values()) > 0
    check_film(Film(out), tolerance=0.4 + SLACK + late)


@pytest.mark.slow
def test_losses_are_reported() -> None:
    with Network() as network:
        ends = network.connect(network.relay(loss=0.1))
        log = MediaLog(ends.callee)
        tone = sound(440)
        ends.caller.add_stream(MediaStream([tone]))
        wait_for_tone(log.wait_track(tone.id), 440)

        def lost() -> bool:
            return any(
                one["packets_lost"] > 0 for one in rtp_streams(ends.callee, "inbound", "audio")
            )

        wait_until(lost, "a packet to be missed", LIMIT)


def check_film(seen: Film, tolerance: float) -> None:
    """Length, pictures, tone and lip sync are those of `make_film`."""
    assert (seen.video, seen.audio) == (1, 1)
    assert abs(seen.duration - SECONDS) < tolerance
    assert seen.first(RED) < tolerance
    turn = seen.first(BLUE)
    assert abs(turn - SECONDS / 2) < tolerance
    assert abs(seen.first_sound() - turn) < tolerance / 2
    tone = seen.sound[int((seen.first_sound() + 0.2) * 48000) :][:24000]
    assert abs(frequency_of(tone) - 440) < 8
    assert loudness(tone) > 2000
