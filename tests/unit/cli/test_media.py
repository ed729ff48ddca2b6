"""`--play` and `--record`, run as a shell runs them."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from artico_sync import ArticoServer
from artico_sync.cli import main
from tests.command_line import artico_sync
from tests.conftest import TIME_UNIT, MakeArtico
from tests.media_content import make_film

pytestmark = pytest.mark.slow

TIMEOUT = 20.0 * TIME_UNIT


def test_one_shell_plays_and_the_other_records(server: ArticoServer, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 3.0)
    copy = tmp_path / "copy.webm"
    recording = ["answer", "--id", "bob", "--no-stun", "--record", str(copy)]
    with artico_sync(*recording, url=server.url) as bob:
        bob.err.wait_for("waiting")
        with artico_sync("call", "bob", "--no-stun", "--play", str(film), url=server.url) as alice:
            # It hangs up by itself once all is played.
            assert alice.wait() == 0, alice.err.all()
        assert bob.wait() == 0, bob.err.all()
        bob.err.wait_for("recorded")
    with av.open(str(copy)) as container:
        assert len(container.streams.video) == len(container.streams.audio) == 1
        assert 0.7 < (container.duration or 0) / av.time_base < 2.0 + 3.0 * TIME_UNIT


def test_playing_again_and_again_until_the_peer_hangs_up(
    server: ArticoServer, make_artico: MakeArtico, tmp_path: Path
) -> None:
    film = make_film(tmp_path / "film.mp4", 0.3, sound=False)
    playing = ["call", "bob", "--no-stun", "--loop", "--play", str(film)]
    bob = make_artico("bob")
    with artico_sync(*playing, url=server.url) as alice:
        call = bob.wait_for("call", TIMEOUT).answer()
        track = call.wait_for("track", TIMEOUT)
        for _ in range(30):
            track.recv(TIMEOUT)
        call.hangup()
        assert alice.wait() == 0, alice.err.all()


def test_nothing_to_record(server: ArticoServer, make_artico: MakeArtico, tmp_path: Path) -> None:
    bob = make_artico("bob")
    recording = ["call", "bob", "--no-stun", "--record", str(tmp_path / "copy.webm")]
    with artico_sync(*recording, url=server.url) as alice:
        bob.wait_for("call", TIMEOUT).answer().wait_open().hangup()
        assert alice.wait() == 1
        alice.err.wait_for("shared nothing")


def test_what_cannot_be_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", "bob", "--no-stun", "--play", __file__]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_where_nothing_can_be_recorded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere" / "copy.mp4")
    assert main(["call", "bob", "--no-stun", "--record", path]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert path in line and "No such file or directory" in line


def test_what_cannot_be_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["call", "bob", "--record", "copy.txt"])
    assert caught.value.code == 2
    assert ".webm" in capsys.readouterr().err
