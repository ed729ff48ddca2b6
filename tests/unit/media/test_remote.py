"""Tests of remote tracks: in notebooks, without NumPy, and shared again."""

from __future__ import annotations

import itertools
import sys
import types
from io import BytesIO
from typing import Any

import av
import pytest

from artico_sync.media import (
    RemoteVideoTrack,
    VideoTrack,
)
from tests.media_content import (
    GREEN,
    plain,
    shows,
)
from tests.media_pair import MediaPair


def decode_picture(data: bytes) -> Any:
    with av.open(BytesIO(data), "r") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.slow
def test_a_notebook_shows_the_picture_of_a_track() -> None:
    track = VideoTrack.from_frames(itertools.repeat(plain(GREEN)))
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        assert isinstance(remote, RemoteVideoTrack)
        remote.recv(timeout=10)
        data = remote._repr_png_()
        assert data is not None and data.startswith(b"\x89PNG")
        assert shows(decode_picture(data), GREEN)
    assert remote._repr_png_() is None


def test_display_updates_a_cell_until_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, picture: Any) -> None:
            shown.append(picture)
            if len(shown) == 5:
                raise KeyboardInterrupt

    def display(picture: Any, display_id: bool) -> Handle:
        shown.append(picture)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    module.Image = lambda data, format: data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with MediaPair() as pair:
        (remote,) = pair.share(VideoTrack.from_frames(itertools.repeat(plain(GREEN))))
        assert isinstance(remote, RemoteVideoTrack)
        remote.display()
        assert len(shown) == 5
        assert all(shows(decode_picture(data), GREEN) for data in shown)
        shown.clear()
        remote.display(timeout=0.05)


def test_display_without_ipython_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with MediaPair() as pair:
        (remote,) = pair.share(VideoTrack.from_frames(itertools.repeat(plain(GREEN))))
        assert isinstance(remote, RemoteVideoTrack)
        remote.recv(timeout=10)
        with pytest.raises(ImportError, match="IPython"):
            remote.display()


def test_without_numpy_frames_work_and_arrays_raise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = av.VideoFrame.from_ndarray(plain(GREEN), format="rgb24")
    with MediaPair() as pair:
        (remote,) = pair.share(VideoTrack.from_frames(itertools.repeat(picture)))
        assert isinstance(remote, RemoteVideoTrack)
        monkeypatch.setitem(sys.modules, "numpy", None)
        assert remote.recv(timeout=10) is not None
        assert remote.png().startswith(b"\x89PNG")
        for method in (remote.read, remote.snapshot, lambda: remote.map(abs)):
            with pytest.raises(ImportError, match="pip install numpy"):
                method()


def test_a_remote_track_can_be_shared_again() -> None:
    source = VideoTrack.from_frames(itertools.repeat(plain(GREEN)))
    with MediaPair() as first, MediaPair() as second:
        (remote,) = first.share(source)
        (again,) = second.share(remote)
        assert shows(again.read(timeout=10), GREEN)
        assert shows(remote.read(timeout=10), GREEN)
        times = [remote.recv(timeout=10).time or 0.0 for _ in range(10)]
        assert times == sorted(times)
