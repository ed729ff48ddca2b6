"""Live objects can be neither copied nor pickled, and the error says what to do instead."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    AudioTrack,
    Call,
    IdTakenError,
    MediaStream,
    MemoryHub,
    SocketSignaling,
    VideoTrack,
)
from artico_sync.testing import connected_pair
from tests.call_media import pictures
from tests.media_content import GREEN

TIMEOUT = 10


def refused(thing: object, instead: str) -> None:
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=f"{type(thing).__name__} cannot be .*{instead}"):
            attempt(thing)


@pytest.mark.parametrize(
    "thing, instead",
    [
        (Artico("http://127.0.0.1:9"), "make another Artico"),
        (ArticoServer(port=0), "give others its `url`"),
        (AudioTrack(), "share the track itself"),
        (VideoTrack(), "share the track itself"),
        (MediaStream(), "MediaStream.stream.tracks."),
        (MemoryHub(), "must share one hub"),
        (SocketSignaling("http://127.0.0.1:9"), "make another"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_connected(thing: object, instead: str) -> None:
    refused(thing, instead)


def test_what_is_connected(tmp_path: Path) -> None:
    with connected_pair() as pair:
        refused(pair.caller, "make another Artico")
        refused(pair.call, "places its own")
        camera = pictures(GREEN)
        pair.call.add_stream(MediaStream([camera]))
        stream = pair.incoming.wait_for("stream", TIMEOUT)
        refused(stream, "another with the same tracks")
        refused(stream.tracks[0], "snapshot")
        with stream.record(tmp_path / "film.mkv") as recorder:
            refused(recorder, "another recording")
            stream.tracks[0].recv(TIMEOUT)
        # The refused objects work as before.
        pair.call.send("fine")
        assert pair.incoming.recv(TIMEOUT) == "fine"


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(IdTakenError("taken", peer="bob")))
    assert (type(error), str(error), error.peer) == (IdTakenError, "taken (peer bob)", "bob")


def test_calls_are_hashable_and_comparable() -> None:
    with connected_pair() as pair:
        calls: dict[Call, str] = {pair.call: "caller", pair.incoming: "callee"}
        assert calls[pair.call] == "caller" and pair.call in pair.caller.calls
