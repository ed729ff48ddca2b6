"""Files and answers from peers that mean no good: what they may cost, and where they may go."""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artico_sync import ArticoTimeoutError
from artico_sync.files import FileSender, digests
from artico_sync.files.messages import CONTENT, build
from artico_sync.files.received_file import ReceivedFile, safe_name
from artico_sync.files.receiver import UNREAD
from tests.conftest import TIME_UNIT
from tests.polling import wait_until
from tests.unit.files.file_receiving import ID, Receiving, Replies, offer

TIMEOUT = 20.0 * TIME_UNIT
LARGE = 8_000_000


class Unread(Replies):
    """A call whose peer reads nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = threading.Event()

    def send(self, text: str, timeout: float | None = None) -> None:
        if not self.reading.wait(timeout):
            raise ArticoTimeoutError("The peer does not read.")
        super().send(text)


class Talkative(Replies):
    """A call whose peer says the same again and again while a file is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sender = FileSender(self)  # type: ignore[arg-type]
        self.memory = math.inf

    def send(self, text: str | bytes, timeout: float | None = None) -> None:
        if isinstance(text, str):
            super().send(text)
            self.answer("accept", offset=0)
        else:
            self.memory = memory_of(lambda: repeat(lambda: self.answer("accept", offset=0)))
            self.answer("done")

    def flush(self) -> None:
        """Everything is sent at once."""

    def answer(self, cmd: str, **members: Any) -> None:
        """Give the sender an answer of 1 kB."""
        assert self.sender.take(build(cmd, self.sent[-1]["id"], more="x" * 1000, **members))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def receiving(inbox: Path) -> Iterator[Receiving]:
    made = Receiving(inbox)
    yield made
    made.receiver.close()


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/../../b",
        "c:\\windows\\x",
        ".bashrc",
        "\0",
        "NUL",
    ],
)
def test_names_that_lead_elsewhere(receiving: Receiving, inbox: Path, name: str) -> None:
    receiving.give(offer(b"data", name), bytes.fromhex(ID) + b"data")
    (path,) = inbox.iterdir()
    assert receiving.progress[-1].path == path
    assert not path.name.startswith(".")
    assert os.listdir(inbox.parent) == ["inbox"]


def test_a_link_in_place_of_the_partial_file(receiving: Receiving, inbox: Path) -> None:
    victim = inbox.parent / "victim"
    victim.write_bytes(b"precious")
    part = ReceivedFile(inbox, "a.bin", 4, hashlib.sha256(b"data").hexdigest())
    part.write(b"d")
    part.suspend()
    (hidden,) = inbox.iterdir()
    hidden.unlink()
    hidden.symlink_to(victim)
    assert receiving.give(offer(b"data"))[0]["cmd"] == "refuse"
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "changed",
    [
        {"size": -1},
        {"size": True},
        {"size": "4"},
        {"size": None},
        {"sha256": "x" * 64},
        {"sha256": "../" + "a" * 61},
        {"sha256": 5},
        {"name": 5},
        {"name": None},
        {"id": "../../../../etc/"},
        {"id": 5},
        {"size": 10**15},
    ],
    ids=str,
)
def test_malformed_offers(receiving: Receiving, inbox: Path, changed: dict[str, Any]) -> None:
    message = json.dumps({**json.loads(offer(b"data")), **changed})
    assert [answer["cmd"] for answer in receiving.give(message)] == ["refuse"]
    assert os.listdir(inbox) == []


def test_larger_than_wanted(inbox: Path) -> None:
    receiving = Receiving(inbox, maximum_size=3)
    assert receiving.give(offer(b"data"))[0]["cmd"] == "refuse"
    assert os.listdir(inbox) == []


def test_no_more_than_wanted_in_all(inbox: Path) -> None:
    receiving = Receiving(inbox, maximum_total=10)
    content = bytes.fromhex(ID) + b"data"
    assert receiving.give(offer(b"data", "a"), content)[-1]["cmd"] == "done"
    # What is known not to be the file is gone, and leaves its room to others.
    assert receiving.give(offer(b"good", "b"), content)[-1]["reason"] == "hash"
    # Here it is kept for another time, and takes room.
    receiving.give(offer(b"data..", "c"), bytes.fromhex(ID) + b"dat", build("abort", ID))
    (answer,) = receiving.give(offer(b"data", "d"))
    assert answer["reason"] == "no more than 10 bytes are taken in all"
    # What is there already needs no more room.
    assert receiving.give(offer(b"data", "a"))[-1]["cmd"] == "done"
    assert receiving.give(offer(b"dat", "e"), bytes.fromhex(ID) + b"dat")[-1]["cmd"] == "done"
    assert sorted(name for name in os.listdir(inbox) if not name.endswith(".part")) == ["a", "e"]
    assert len(os.listdir(inbox)) == 3


def test_going_on_needs_room_for_the_rest_only(inbox: Path) -> None:
    first = Receiving(inbox)
    first.give(offer(b"data"), bytes.fromhex(ID) + b"dat", build("abort", ID))
    receiving = Receiving(inbox, maximum_total=1)
    assert receiving.give(offer(b"data"), bytes.fromhex(ID) + b"a")[-1]["cmd"] == "done"


def test_messages_of_others_are_left_alone(receiving: Receiving) -> None:
    receiving.give(offer(b"data"))
    for message in (
        "hello",
        "",
        "null",
        "5",
        '{"type":"[artico]"}',
        b"",
        b"12345678data",
        "[" * 9999,
        build("offer", ID).replace('"offer"', "[]"),
        build("offer", ID).replace('"offer"', "null"),
    ):
        assert not receiving.receiver.take(message)
        assert not FileSender(receiving.call).take(message)  # type: ignore[arg-type]


def test_answers_nobody_asked_for_are_not_kept() -> None:
    sender = FileSender(Replies())  # type: ignore[arg-type]
    answer = build("done", ID, reason="x" * 1000)
    assert memory_of(lambda: repeat(lambda: sender.take(answer))) < 100_000


def test_answers_given_again_and_again_are_kept_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    call = Talkative()
    call.sender.send(tmp_path / "a.txt", timeout=TIMEOUT)
    assert call.memory < 100_000


def test_offers_of_a_peer_that_reads_no_answers(inbox: Path) -> None:
    call = Unread()
    receiving = Receiving(inbox, call)
    repeat(lambda: receiving.give(offer(b"data", size=-1)))
    assert os.listdir(inbox) == []
    call.reading.set()
    wait_until(lambda: len(call.sent) == UNREAD, "the answers")
    # Once it has read them it is answered again.
    receiving.give(offer(b"data"))
    wait_until(lambda: len(call.sent) > UNREAD, "one more answer")
    assert call.sent[-1]["cmd"] == "accept"
    receiving.receiver.close()


def repeat(action: Callable[[], object]) -> None:
    for _ in range(1000):
        action()


def memory_of(action: Callable[[], object]) -> int:
    """The bytes that are still in use after an action."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_nothing_is_kept_of_what_never_came(receiving: Receiving, inbox: Path) -> None:
    for number in range(10):
        receiving.give(offer(b"data", f"{number}.bin"), build("abort", ID))
    assert receiving.progress[-1].state == "failed"
    assert os.listdir(inbox) == []


def test_a_part_that_goes_away_while_it_is_opened(
    receiving: Receiving, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = fcntl.flock

    def end_other(file: Any, operation: int) -> None:
        # Another receiver is done with it just before it is ours.
        (part,) = inbox.iterdir()
        part.rename(inbox / "a.bin")
        (inbox / part.name).touch()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", end_other)
    assert receiving.give(offer(b"data"))[0]["reason"] == "it is being received already"
    monkeypatch.undo()
    answers = receiving.give(offer(b"data"), bytes.fromhex(ID) + b"data")
    assert answers[-1]["cmd"] == "done"
    assert (inbox / "a (2).bin").read_bytes() == b"data"


def bytes_read() -> int:
    """What this process has read so far, of files and all else."""
    statistics = Path("/proc/self/io")
    if not statistics.exists():
        pytest.skip("needs the statistics of Linux")
    return int(statistics.read_text().split()[1])


def test_a_file_offered_again_and_again_is_read_once(receiving: Receiving, inbox: Path) -> None:
    (inbox / "a.bin").write_bytes(bytes(LARGE))
    before = bytes_read()
    for number in range(10):
        (answer,) = receiving.give(offer(b"other", size=LARGE, sha256=f"{number:064x}"))
        assert answer["offset"] == 0
        receiving.give(build("abort", ID))
    assert [answer["cmd"] for answer in receiving.give(offer(bytes(LARGE)))] == ["accept", "done"]
    assert bytes_read() - before < 2 * LARGE


def test_a_part_offered_again_and_again_is_read_once(inbox: Path) -> None:
    content = os.urandom(LARGE)
    first = Receiving(inbox)
    first.give(offer(content))
    for start in range(0, LARGE - CONTENT, CONTENT):
        first.give(bytes.fromhex(ID) + content[start : start + CONTENT])
    first.receiver.close()
    kept = first.progress[-1].moved
    receiving = Receiving(inbox)
    before = bytes_read()
    for _ in range(10):
        (answer,) = receiving.give(offer(content))
        assert answer["offset"] == kept
        receiving.give(build("abort", ID))
    assert bytes_read() - before < 2 * LARGE
    receiving.give(offer(content), bytes.fromhex(ID) + content[kept : kept + 10])
    receiving.give(build("abort", ID), offer(content), bytes.fromhex(ID) + content[kept + 10 :])
    assert receiving.progress[-1].state == "done"
    assert (inbox / "a.bin").read_bytes() == content
    assert bytes_read() - before < 3 * LARGE


def test_a_file_that_has_changed_is_read_again(receiving: Receiving, inbox: Path) -> None:
    (inbox / "a.bin").write_bytes(b"same")
    receiving.give(offer(b"same"))
    (inbox / "a.bin").write_bytes(b"else")
    os.utime(inbox / "a.bin", (0, 0))
    answers = receiving.give(offer(b"same"), bytes.fromhex(ID) + b"same")
    assert answers[0]["offset"] == 0
    assert sorted(os.listdir(inbox)) == ["a (2).bin", "a.bin"]


def test_digests_are_not_kept_without_end(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "REMEMBERED", 2)
    known = digests.Digests()
    reading: list[int] = []

    def look(name: str) -> None:
        with open(inbox / name, "rb") as file:
            known.of(file)
            # One that is known is not read, and stays where it was.
            reading.append(file.tell())

    for name in ("abbb", "bbb", "cccc"):
        (inbox / name[0]).write_bytes(name.encode())
    for name in "abbcba":
        look(name)
    assert reading == [4, 3, 0, 4, 0, 4]


@given(st.text() | st.text("aé大😀. ", min_size=60))
def test_every_name_becomes_a_safe_one(name: str) -> None:
    safe = safe_name(name)
    assert safe and safe not in (".", "..")
    assert not set(safe) & set('/\\\0<>:"|?*')
    assert not safe.startswith(".") and len(safe.encode()) <= 201
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("é" * 1_000_000 + ".jpeg", "é" * 97 + ".jpeg"),
        ("a." + "😀" * 1_000_000, "a." + "😀" * 49),
        ("a" * 199 + " . b" + "c" * 1_000_000, "a" * 199),
        ("a" * 1_000_000 + ".tar.gz", "a" * 197 + ".gz"),
    ],
    ids=["suffix", "long suffix", "trailing blank", "two suffixes"],
)
def test_a_long_name_is_cut_at_once(name: str, safe: str) -> None:
    # Cut a character at a time this would take until tomorrow.
    assert safe_name(name) == safe
