"""`artico-sync demo`: a server and two peers, which place a real call."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.cli.output import ExitStatus, Output, uses_color
from artico_sync.errors import ArticoError, ArticoTimeoutError
from artico_sync.server.server import ArticoServer

MIB = 1024 * 1024
MESSAGE_BYTES = 256 * 1024
MESSAGE_COUNT = 16
METADATA = "the demo"
QUESTION = "How are you, Bob? \N{WAVING HAND SIGN}"
# Limit for all steps together.
LIMIT_SECONDS = 20.0
# No STUN server: both peers are on this machine, which may have no network.
RTC_CONFIG: dict[str, Any] = {"iceServers": []}


class StepFailed(Exception):
    """A step of the demo failed."""


class Steps:
    """Prints each step with its duration."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._uses_color = uses_color(sys.stdout)
        self._begun = self._last = monotonic()

    def done(self, text: str, **members: Any) -> None:
        now = monotonic()
        seconds, self._last = now - self._last, now
        mark, dim, plain = (
            ("\x1b[32m✓\x1b[0m", "\x1b[2m", "\x1b[0m") if self._uses_color else ("ok", "", "")
        )
        self._output.result(f"{mark} {dim}{1000 * seconds:8.1f} ms{plain}  {text}")
        self._output.event("step", ok=True, text=text, seconds=round(seconds, 4), **members)

    def failed(self, text: str) -> None:
        mark = "\x1b[31m✗\x1b[0m" if self._uses_color else "FAILED"
        self._output.result(f"{mark} {text}")
        self._output.event("step", ok=False, text=text)

    def total(self) -> float:
        return monotonic() - self._begun


def demo(options: argparse.Namespace, output: Output) -> int:
    """Run and check every step; return the exit status."""
    steps = Steps(output)
    threads = set(threading.enumerate())
    try:
        _run_steps(steps, options.video, Deadline(LIMIT_SECONDS))
        _check(set(threading.enumerate()) <= threads, "threads of the library are left")
        steps.done("everything is closed, no thread is left")
    except (StepFailed, ArticoError, OSError) as error:
        steps.failed(f"{type(error).__name__}: {error}")
        output.event("demo", ok=False, seconds=round(steps.total(), 3))
        return ExitStatus.ERROR
    output.result(f"All of it worked, over real WebRTC on this machine, in {steps.total():.2f} s.")
    output.event("demo", ok=True, seconds=round(steps.total(), 3))
    return ExitStatus.OK


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise StepFailed(text)


class Bob:
    """The answering peer, written with handlers only."""

    def __init__(self, url: str) -> None:
        self.rtco = Artico(url, id="bob", rtc_config=RTC_CONFIG)
        self.rtco.on("call", self._on_call)
        self.metadata: str | None = None
        self.call: Call | None = None
        self.called = threading.Event()
        self.bytes = 0
        self._digest = hashlib.sha256()

    def _on_call(self, call: Call, metadata: str | None) -> None:
        self.metadata = metadata
        self.call = call
        call.on("data", self._on_data)
        call.answer()
        self.called.set()

    def _on_data(self, data: str | bytes) -> None:
        assert self.call is not None
        if isinstance(data, str):
            self.call.send(data.upper())
            return
        self._digest.update(data)
        self.bytes += len(data)
        if self.bytes == MESSAGE_COUNT * MESSAGE_BYTES:
            self.call.send(self._digest.hexdigest())


def _run_steps(steps: Steps, picture: str | None, deadline: Deadline) -> None:
    with ArticoServer(port=0) as server:
        steps.done(f"a signaling server runs at {server.url}", url=server.url)
        bob = Bob(server.url)
        with Artico(server.url, id="alice", rtc_config=RTC_CONFIG) as alice, bob.rtco:
            _check(set(server.peers) == {"alice", "bob"}, "the server does not know both peers")
            steps.done("two peers, alice and bob, are connected to it")
            call = alice.call("bob", METADATA)
            _run_call(steps, call, bob, picture, deadline)


def _run_call(steps: Steps, call: Call, bob: Bob, picture: str | None, deadline: Deadline) -> None:
    _wait(bob.called.wait, "bob's handler", deadline)
    _check(bob.metadata == METADATA, f"bob was shown the metadata {bob.metadata!r}")
    steps.done(f"alice calls bob; bob's handler sees the metadata {METADATA!r} and answers")
    call.wait_open(deadline.remaining())
    assert bob.call is not None
    bob.call.wait_open(deadline.remaining())
    steps.done("the call is open on both sides: a data channel of their own, without the server")
    call.send(QUESTION)
    reply = call.recv(deadline.remaining())
    _check(reply == QUESTION.upper(), f"the reply was {reply!r}")
    steps.done(f"text there and back: {QUESTION!r} -> {reply!r}")
    _send_binary(steps, call, deadline)
    if picture is not None:
        _show_video(steps, call, bob.call, picture, deadline)
    call.hangup(deadline.remaining())
    bob.call.wait_closed(deadline.remaining())
    reasons = call.close_reason, bob.call.close_reason
    _check(reasons == ("hangup", "remote"), f"the call was closed by {reasons}")
    steps.done("alice hangs up; bob sees it")


def _send_binary(steps: Steps, call: Call, deadline: Deadline) -> None:
    messages = [os.urandom(MESSAGE_BYTES) for _ in range(MESSAGE_COUNT)]
    wanted = hashlib.sha256(b"".join(messages)).hexdigest()
    begun = monotonic()
    for message in messages:
        call.send(message, deadline.remaining())
    digest = call.recv(deadline.remaining())
    rate = MESSAGE_COUNT * MESSAGE_BYTES / MIB / (monotonic() - begun)
    _check(digest == wanted, "the binary messages came out different")
    size = MESSAGE_COUNT * MESSAGE_BYTES // MIB
    steps.done(
        f"{size} MiB in {MESSAGE_COUNT} binary messages arrive unchanged (SHA-256),"
        f" {rate:.0f} MiB/s",
        bytes=MESSAGE_COUNT * MESSAGE_BYTES,
        mib_per_second=round(rate, 1),
    )


def _show_video(steps: Steps, alice: Call, bob: Call, path: str, deadline: Deadline) -> None:
    from artico_sync.cli.demo_video import (
        BARS,
        FPS,
        HEIGHT,
        WIDTH,
        PatternExchange,
        save,
    )

    exchange = PatternExchange(alice, bob)
    with ThreadPoolExecutor(1) as executor:
        alice_sees = executor.submit(exchange.wait_seen, alice, BARS[::-1], deadline)
        track, seconds = exchange.wait_seen(bob, BARS, deadline)
        _, other_seconds = alice_sees.result()
    steps.done(
        f"a test pattern both ways, {WIDTH}x{HEIGHT} at {FPS} a second: bob sees alice's after"
        f" {1000 * seconds:.0f} ms, alice bob's after {1000 * other_seconds:.0f} ms"
    )
    save(track, path, deadline)
    exchange.stop()
    steps.done(f"what bob sees is in {path}", path=path)


def _wait(wait: Callable[[float | None], bool], what: str, deadline: Deadline) -> None:
    if not wait(deadline.remaining()):
        raise ArticoTimeoutError(f"Timed out waiting for {what}.")
