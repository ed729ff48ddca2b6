"""The programs in examples/ that show, play and record, run as they stand."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artico_sync import ArticoServer, MediaStream, VideoTrack
from tests.call_media import (
    FPS,
    LIMIT,
    MediaLog,
    film,
    pictures,
    wait_for_color,
    wait_for_tone,
)
from tests.conftest import TIME_UNIT, MakeArtico
from tests.documentation.test_examples import example
from tests.media_content import (
    BLUE,
    GREEN,
    RED,
    Film,
    frequency_of,
    make_film,
    plain,
    shows,
)

pytestmark = pytest.mark.slow


def test_record_call(server: ArticoServer, make_artico: MakeArtico, tmp_path: Path) -> None:
    bob = make_artico("bob")
    out = tmp_path / "call.mp4"
    with example("record_call.py", "bob", str(out), server=server) as program:
        call = bob.wait_for("call", LIMIT).answer().wait_open(LIMIT)
        assert call.metadata == "recording"
        call.add_stream(film(GREEN, 440))
        program.out.wait_for("recording until")
        assert not threading.Event().wait(3.0)
        call.hangup()
        assert program.wait() == 0, program.err.all()
        assert program.out.all()[-1] == f"recorded {out}"
    seen = Film(out)
    assert 0.8 < seen.duration < 3 + 3 * TIME_UNIT
    assert shows(seen.pictures[-1][1], GREEN, 40)
    assert abs(frequency_of(seen.sound[-24000:-2000]) - 440) < 8


def test_record_nobody(server: ArticoServer, tmp_path: Path) -> None:
    with example("record_call.py", "nobody", str(tmp_path / "x.mp4"), server=server) as program:
        assert program.wait() == 1
        assert "nobody cannot be recorded" in program.err.all()[0]


def test_play_file(server: ArticoServer, make_artico: MakeArtico, tmp_path: Path) -> None:
    bob = make_artico("bob")
    path = make_film(tmp_path / "film.mp4", 5.0)
    with example("play_file.py", "bob", str(path), server=server) as program:
        incoming = bob.wait_for("call", LIMIT)
        log = MediaLog(incoming)
        call = incoming.answer().wait_open(LIMIT)
        log.wait_for_any("track", 2)
        (stream,) = call.streams
        assert stream.metadata == "film.mp4"
        video, audio = (log.track_of(kind) for kind in ("video", "audio"))
        wait_for_color(video, RED)
        wait_for_tone(audio, 440)
        wait_for_color(video, BLUE)
        assert program.wait() == 0, program.err.all()
        assert program.out.all()[-1] == "played to the end"
        call.wait_closed(LIMIT)


def test_play_what_is_not_there(server: ArticoServer, tmp_path: Path) -> None:
    with example("play_file.py", "bob", str(tmp_path / "no.mp4"), server=server) as program:
        assert program.wait() == 1
        assert "cannot be played to bob" in program.err.all()[0]


def test_process_video(server: ArticoServer, make_artico: MakeArtico) -> None:
    half: Any = plain(RED)
    half[:, 80:] = (250, 250, 250)
    with example("process_video.py", "artist", server=server) as program:
        program.out.wait_for("answering as artist")
        with make_artico().call("artist") as call:
            log = MediaLog(call)
            call.add_stream(MediaStream([VideoTrack.from_frames(lambda: half, FPS)]))
            log.wait_for_any("track", 1)
            drawing = log.track_of("video").read(LIMIT)
            # White where the halves meet, black elsewhere.
            middle = drawing[:, 76:84].max(axis=1).mean()
            assert middle > 180
            assert np.median(drawing) < 40
        assert program.interrupt()[0] == 0
        assert program.err.all() == []


def test_answering_machine(server: ArticoServer, make_artico: MakeArtico, tmp_path: Path) -> None:
    with example("answering_machine.py", "home", str(tmp_path), server=server) as program:
        program.out.wait_for("waiting for calls")
        for name, colour in (("ann", RED), ("ben", BLUE)):
            with make_artico(name).call("home") as call:
                log = MediaLog(call)
                call.add_stream(MediaStream([pictures(colour)]))
                log.wait_for_any("track", 1)
                wait_for_tone(log.track_of("audio"), 880)
                assert not threading.Event().wait(2.0)
            line = program.out.wait_for(f"message from {name}")
            seen = Film(Path(line.split(" in ", 1)[1]))
            assert shows(seen.pictures[-1][1], colour, 40)
        with make_artico("cat").call("home"):
            pass
        program.out.wait_for("no message")
        assert program.interrupt()[0] == 0
        assert program.err.all() == []
