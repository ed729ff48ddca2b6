"""A coverage-guided fuzzer of all parsers of input from the network.

Run it by hand, for any time::

    python -m tests.fuzz.guided --seconds 600            # all targets
    python -m tests.fuzz.guided --seconds 600 sctp

An input that reaches new code is added to the corpus and mutated further. The exit status is 1, and
the input is printed, if a target is slow or raises an exception that it does not document.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from aioice import stun

from artico_sync._protocol.messages import parse_control, parse_signal
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice import stun as binding
from artico_sync._webrtc.ice.candidates import parse_candidate_signal
from artico_sync._webrtc.sctp import dcep as sctp_channels
from artico_sync._webrtc.sctp.packets import (
    DATA,
    FLAG_BEGIN,
    FLAG_END,
    FORWARD_TSN,
    INIT,
    RECONFIG,
    SACK,
    ForwardTsn,
    Init,
    Sack,
    chunk,
    decode_data,
    decode_parameters,
    split_chunks,
)
from artico_sync._webrtc.sctp.receive_queue import ReceiveQueue
from artico_sync._webrtc.sdp.parser import parse_description

PACKAGE = str(Path(__file__).resolve().parent.parent.parent / "artico_sync")
SETTINGS = Settings()
#: Processor seconds an input may take; a stranger's packet must not hold up others' calls.
SLOW = 0.5
#: Longer inputs only make the fuzzer slow.
LONGEST = 4096


@dataclass(frozen=True)
class Target:
    """Something that takes bytes, and may refuse them with ValueError."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    #: Put into inputs: what the target looks for.
    words: tuple[bytes, ...] = ()


@dataclass
class Report:
    """The result of fuzzing one target."""

    inputs: int = 0
    lines: int = 0
    corpus: int = 0
    wrong: list[str] = field(default_factory=list)


def fuzz(target: Target, seconds: float, seed: int = 1) -> Report:
    """Fuzz one target; stops at the first thing that is wrong."""
    chance = random.Random(seed)
    seen: set[tuple[str, int]] = set()
    corpus = [b"", *target.seeds]
    findings = Report()
    queue = list(corpus)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not findings.wrong:
        data = queue.pop() if queue else mutate(chance.choice(corpus), corpus, target, chance)
        reached: set[tuple[str, int]] = set()
        begun = time.thread_time()
        problem = run(target, data, reached)
        if problem is None and time.thread_time() - begun > SLOW:
            # Looking on is slow, too: without it and again.
            begun = time.thread_time()
            problem = run(target, data, None)
            if time.thread_time() - begun > SLOW:
                problem = f"took {time.thread_time() - begun:.1f} s"
        if problem is not None:
            findings.wrong.append(f"{problem} for {data!r}")
        findings.inputs += 1
        if not reached <= seen:
            seen |= reached
            corpus.append(data)
    findings.lines, findings.corpus = len(seen), len(corpus)
    return findings


def run(target: Target, data: bytes, reached: set[tuple[str, int]] | None) -> str | None:
    """Run the target on an input, and record the lines of artico_sync it reaches."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line" and reached is not None:
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    if reached is not None:
        sys.settrace(trace)
    try:
        target.run(data)
    except ValueError:
        return None
    except Exception as error:
        return repr(error)
    finally:
        sys.settrace(before)
    return None


def mutate(data: bytes, corpus: list[bytes], target: Target, chance: random.Random) -> bytes:
    """Damage an input a little."""
    made = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        at = chance.randint(0, len(made))
        kind = chance.randrange(7)
        if kind == 0:
            made[at:at] = chance.randbytes(chance.randint(1, 4))
        elif kind == 1:
            del made[at : at + chance.choice([1, 2, 4, 16, 64])]
        elif kind == 2 and made:
            made[at % len(made)] ^= 1 << chance.randrange(8)
        elif kind == 3 and made:
            made[at % len(made)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22])
        elif kind == 4 and target.words:
            made[at:at] = chance.choice(target.words)
        elif kind == 5:
            other = chance.choice(corpus)
            start = chance.randint(0, len(other))
            made[at:at] = other[start : start + chance.choice([4, 16, 64, 256])]
        elif kind == 6:
            size = chance.choice([1, 4, 16])
            made[at : at + size] = made[at : at + size] * chance.choice([2, 3, 16])
    return bytes(made[:LONGEST])


# the targets


def run_signal(data: bytes) -> None:
    parse_signal(_json(data), SETTINGS)


def run_candidate(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    parse_candidate_signal({"candidate": text, "sdpMid": "0"})
    parse_candidate_signal(_json(data))


def run_control(data: bytes) -> None:
    parse_control(data.decode("utf-8", "replace"))


def run_description(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for kind in ("offer", "answer"):
        try:
            parse_description(kind, text, SETTINGS)
        except ValueError:
            continue


def run_sctp(data: bytes) -> None:
    """Chunks as they come out of DTLS, behind a header that is right."""
    packet = bytes(12) + data
    queue = ReceiveQueue(1024 * 1024, 256 * 1024)
    queue.start(1)
    for kind, flags, start, end in split_chunks(packet):
        body = packet[start:end]
        try:
            if kind == DATA:
                for message in queue.receive_chunk(decode_data(packet, flags, start, end)) or ():
                    sctp_channels.decode_control(message[2])
            elif kind == INIT:
                Init.decode(body)
            elif kind == SACK:
                Sack.decode(body)
            elif kind == FORWARD_TSN:
                queue.skip_to(ForwardTsn.decode(body).new_cumulative_tsn)
            elif kind == RECONFIG:
                list(decode_parameters(body))
        except ValueError:
            continue
    queue.make_sack(1000)
    assert queue.buffered <= 64 * (len(data) + 128)


def run_channel(data: bytes) -> None:
    try:
        sctp_channels.decode_control(data)
    except ValueError:
        pass
    for protocol in (50, 51, 53, 54, 56, 57):
        try:
            sctp_channels.decode_message(protocol, data)
        except ValueError:
            continue


def run_stun(data: bytes) -> None:
    if binding.split(data) is not None:
        binding.is_authentic(data, b"key")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError from error


def _data(payload: bytes, tsn: int) -> bytes:
    body = tsn.to_bytes(4, "big") + bytes(8) + payload
    return chunk(DATA, body, FLAG_BEGIN | FLAG_END)


def targets() -> dict[str, Target]:
    from tests.fuzz.test_signals import CHROMIUM

    offer = {"source": "x", "session": "call:1", "signal": {"type": "sdp", "data": {
        "type": "offer", "sdp": CHROMIUM[:300]}}}  # fmt: skip
    candidate = b"candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host ufrag x"
    request = binding.make_request(bytes(12), binding.attributes_of(
        stun.Message(stun.Method.BINDING, stun.Class.REQUEST)), b"key")  # fmt: skip
    sdp_words = (b"\r\n", b"m=", b"a=", b" 0", b":", b"/", b"a=mid:", b"a=group:BUNDLE ")
    return {
        "signal": Target(run_signal, (json.dumps(offer).encode(),), (b'"data"', b"null", b"{}")),
        "candidate": Target(
            run_candidate,
            (candidate, json.dumps({"candidate": candidate.decode()}).encode()),
            (b" typ ", b" tcp ", b".local", b"::1"),
        ),
        "control": Target(
            run_control, (b'{"type":"[artico]","data":{"cmd":"x"}}',), (b"{", b"[", b"\\u")
        ),
        "description": Target(run_description, (CHROMIUM.encode(),), sdp_words),
        "sctp": Target(
            run_sctp,
            (
                _data(b"hello", 1) + _data(b"again", 2),
                _data(b"ahead", 5) + chunk(FORWARD_TSN, (4).to_bytes(4, "big")),
                chunk(SACK, Sack(1, 2, ((2, 3),), (1,)).encode()),
                chunk(INIT, Init(1, 2, 3, 4, 5, ((0x8008, b"\x82\xc0"),)).encode()),
                chunk(RECONFIG, b"\x00\x0d\x00\x12" + bytes(14)),
            ),
        ),
        "channel": Target(
            run_channel, (b"\x03" + bytes(7) + b"\x00\x02\x00\x01abc", b"\x02", b"\xc3\xa9")
        ),
        "stun": Target(run_stun, (request,)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("targets", nargs="*", choices=[*targets(), []])
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed = False
    for name, target in targets().items():
        if options.targets and name not in options.targets:
            continue
        found = fuzz(target, options.seconds, options.seed)
        print(
            f"{name:12} {found.inputs:8} inputs, {found.lines:4} lines reached,"
            f" {found.corpus:4} kept{''.join(f'; WRONG: {wrong}' for wrong in found.wrong)}",
            flush=True,
        )
        failed = failed or bool(found.wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
