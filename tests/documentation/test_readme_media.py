"""The programs of README.rst with pictures and sound, run as they stand."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from artico_sync import ArticoServer, MediaStream
from tests.call_media import (
    LIMIT,
    MediaLog,
    film,
    pictures,
    wait_for_color,
    wait_for_tone,
)
from tests.command_line import running
from tests.conftest import MakeArtico
from tests.documentation.test_readme import block, wait_for_peer
from tests.media_content import BLUE, GREEN, Film, make_film

pytestmark = pytest.mark.slow


def test_show_and_look(server: ArticoServer, make_artico: MakeArtico, tmp_path: Path) -> None:
    bob = make_artico("bob")
    program = tmp_path / "program.py"
    program.write_text(block("show and look", server.url), encoding="utf-8")
    with running([str(program)]) as shown:
        call = bob.wait_for("call", LIMIT)
        log = MediaLog(call)
        call.answer()
        log.wait_for_any("track", 1)
        wait_for_color(log.track_of("video"), (220, 220, 220))
        # What it waits for; then it ends.
        call.add_stream(MediaStream([pictures(GREEN)]))
        assert shown.wait() == 0, shown.err.all()
        assert shown.out.all() == ["video (120, 160, 3)"]
        assert log.entries[0][2] == "from Python"


def test_play_and_record(server: ArticoServer, make_artico: MakeArtico, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    text = f"import os; os.chdir({os.fspath(tmp_path)!r})\n" + block("play and record", server.url)
    program.write_text(text, encoding="utf-8")
    make_film(tmp_path / "film.mp4", 2.0)
    with running([str(program)]) as studio:
        wait_for_peer(server, "studio")
        call = make_artico().call("studio")
        log = MediaLog(call)
        call.wait_open(LIMIT)
        log.wait_for_any("stream", 1)
        played = call.streams[0]
        wait_for_color(played.video_tracks[0], BLUE)
        wait_for_tone(played.audio_tracks[0], 440)
        mine = film(GREEN, 880)
        call.add_stream(mine)
        # The film's two, then the mirrored picture; a stream is announced before its tracks.
        log.wait_for_any("track", 3)
        wait_for_color(log.track_of("video"), GREEN)
        assert not threading.Event().wait(1.0)
        call.hangup()
        assert studio.wait() == 0, studio.err.all()
        assert studio.err.all() == []
    seen = Film(tmp_path / "call.webm")
    assert seen.first(GREEN) < 5
    assert seen.video == seen.audio == 1
