"""`artico-sync demo --video`, run as a shell runs it, with and without NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest

from artico_sync.cli import demo_video, main
from artico_sync.cli.demo_video import BARS, BOX_TOP, HEIGHT, WIDTH, pattern, shows
from tests.command_line import artico_sync, running

pytestmark = pytest.mark.slow


def picture_of(path: Path) -> Any:
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
        return frame.to_ndarray(format="rgb24")


def check_picture(path: Path) -> None:
    """Check the color bars and the box below them."""
    picture = picture_of(path)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    wanted = pattern(BARS, 0).to_ndarray(format="rgb24")
    assert abs(picture[:BOX_TOP].astype(int) - wanted[:BOX_TOP]).mean() < 12
    below = picture[BOX_TOP + 8 : -8].astype(int)
    assert below.max() > 200 and below.min() < 40


def test_the_pattern_is_known_again() -> None:
    assert shows(pattern(BARS, 5), BARS)
    assert not shows(pattern(BARS[::-1], 5), BARS)
    assert not shows(av.VideoFrame(64, 64, "yuv420p"), BARS)


def test_demo_shows_video_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "seen.png"
    with artico_sync("demo", "--video", str(path)) as demo:
        assert demo.wait() == 0, demo.out.all()
        assert demo.err.all() == []
        lines = demo.out.all()
    assert any("a test pattern both ways" in line for line in lines)
    assert any(str(path) in line for line in lines)
    check_picture(path)


def test_demo_shows_video_without_numpy(tmp_path: Path) -> None:
    path = tmp_path / "seen.png"
    code = (
        "import sys; sys.modules['numpy'] = None;"
        f"from artico_sync.cli import main; sys.exit(main(['demo', '--video', {str(path)!r}]))"
    )
    with running(["-c", code]) as demo:
        assert demo.wait() == 0, demo.out.all()
        assert demo.err.all() == []
    check_picture(path)


def test_demo_has_a_name_for_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--json", "--video"]) == 0
    check_picture(tmp_path / "artico-sync-demo.png")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"artico-sync-demo.png"} == {e["path"] for e in events if "path" in e}


def test_demo_tells_when_no_picture_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from artico_sync.cli import demo

    monkeypatch.setattr(demo_video, "shows", lambda frame, bars: False)
    monkeypatch.setattr(demo, "LIMIT_SECONDS", 2.0)
    assert main(["demo", "--video", str(tmp_path / "seen.png")]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["seen.jpg", "no folder/seen.png"])
def test_a_wrong_name_for_the_picture(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--video", name])
    assert ended.value.code == 2
    assert "--video" in capsys.readouterr().err
