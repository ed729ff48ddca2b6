"""Typed events: a type checker must report the lines marked `# wrong`, and no others."""

from __future__ import annotations

from artico_sync import Artico, Call


def takes_text(text: str) -> None: ...
def takes_data(data: str | bytes) -> None: ...
def takes_number(number: int) -> None: ...
def takes_nothing() -> None: ...
def takes_call(call: Call) -> None: ...
def takes_call_and_metadata(call: Call, metadata: str | None) -> None: ...
def takes_error(error: Exception) -> None: ...


def handlers(rtco: Artico, call: Call) -> None:
    call.on("data", takes_data)
    call.on("data", takes_text)
    call.on("data", takes_nothing)
    call.on("data", lambda data: call.send(data))
    call.on("data", takes_number)  # wrong
    call.on("data", takes_call)  # wrong
    call.on("open", takes_nothing)
    call.on("open", takes_text)  # wrong
    call.once("error", takes_error)
    call.once("error", takes_text)  # wrong
    call.on("message", takes_text)  # wrong
    call.on("stream", lambda stream, metadata: print(stream.tracks, metadata))
    call.on("track", lambda track: print(track.kind))
    rtco.on("call", takes_call)
    rtco.on("call", takes_call_and_metadata)
    rtco.on("call", takes_error)  # wrong
    rtco.on("open", takes_text)
    rtco.on("open", takes_number)  # wrong
    rtco.on("reconnecting", takes_nothing)


def decorated(rtco: Artico, call: Call) -> None:
    @rtco.on("call")
    def incoming(call: Call, metadata: str | None) -> None: ...

    @call.on("data")
    def data(text: str) -> None: ...

    @call.on("close")  # wrong
    def close(reason: str) -> None: ...


def waited(rtco: Artico, call: Call) -> None:
    incoming: Call = rtco.wait_for("call", timeout=1)
    message: str | bytes = call.wait_for("data")
    nothing: int = call.wait_for("open")  # type: ignore[func-returns-value]  # wrong
    track: Call = call.wait_for("track")  # wrong
    print(incoming, message, nothing, track)


def shared(call: Call) -> None:
    for stream in call.streams:
        for track in stream.tracks:
            print(track.recv(timeout=1), track.read(), track.ended)
            track.write(None)  # wrong
        for video in stream.video_tracks:
            print(video.snapshot().shape)
        for audio in stream.audio_tracks:
            print(audio.read().shape)
