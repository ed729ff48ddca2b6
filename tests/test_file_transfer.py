"""Files over calls: whole, resumed, refused, and from peers that mean no good."""

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

from artico_sync import ArticoTimeoutError, Call, CallClosedError
from artico_sync.file_transfer import (
    FileProgress,
    FileReceiver,
    FileSender,
    FileTransferError,
    receive_file,
    send_file,
)
from artico_sync.file_transfer.messages import CONTENT, build, parse
from artico_sync.file_transfer.receiver import UNREAD
from artico_sync.file_transfer.received_file import ReceivedFile, safe_name
from tests.blocking import Blocked
from tests.conftest import TIME_UNIT, MakeArtico
from tests.polling import wait_until

TIMEOUT = 20.0 * TIME_UNIT
ID = "00112233445566aa"


@pytest.fixture
def pair(make_artico: MakeArtico) -> tuple[Call, Call]:
    """An open call, seen from both sides."""
    bob = make_artico("bob")
    call = make_artico("alice").call("bob")
    answered: Call = bob.wait_for("call", TIMEOUT).answer().wait_open()
    return call.wait_open(), answered


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def offer(content: bytes, name: str = "a.bin", **changed: Any) -> str:
    members = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return build("offer", ID, **{**members, **changed})


class Replies:
    """Stands in for a call in tests of one side: keeps what is sent on it."""

    session = "call:test"
    target = "peer"

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, text: str, timeout: float | None = None) -> None:
        self.sent.append(json.loads(text))


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


class Receiving:
    """A receiver with no call, and what it told."""

    def __init__(self, folder: Path, call: Replies | None = None, **options: Any) -> None:
        self.call = call or Replies()
        self.progress: list[FileProgress] = []
        self.receiver = FileReceiver(
            self.call,  # type: ignore[arg-type]
            folder,
            on_progress=self.progress.append,
            **options,
        )

    def give(self, *messages: str | bytes) -> list[dict[str, Any]]:
        """Its answers to these."""
        before = len(self.call.sent)
        for message in messages:
            assert self.receiver.take(message)
        return self.call.sent[before:]


@pytest.fixture
def receiving(inbox: Path) -> Iterator[Receiving]:
    made = Receiving(inbox)
    yield made
    made.receiver.close()


@pytest.mark.parametrize("size", [0, 1, CONTENT, CONTENT + 1, 3_000_000])
def test_a_file_arrives(pair: tuple[Call, Call], tmp_path: Path, inbox: Path, size: int) -> None:
    content = os.urandom(size)
    path = tmp_path / "größe.bin"
    path.write_bytes(content)
    told: list[FileProgress] = []
    with Blocked(lambda: receive_file(pair[1], inbox, timeout=TIMEOUT)) as receiver:
        send_file(pair[0], path, on_progress=told.append, timeout=TIMEOUT)
    assert receiver.result() == inbox / "größe.bin"
    assert receiver.result().read_bytes() == content
    assert os.listdir(inbox) == ["größe.bin"]
    assert [told[0].state, told[-1].state] == ["begun", "done"]


def test_other_messages_pass_by(pair: tuple[Call, Call], tmp_path: Path, inbox: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    one: list[str | bytes] = []
    two: list[str | bytes] = []
    pair[0].send("to bob")
    pair[0].send(b"bytes to bob")
    pair[1].send("to alice")
    with Blocked(lambda: receive_file(pair[1], inbox, on_message=two.append, timeout=TIMEOUT)):
        send_file(pair[0], path, on_message=one.append, timeout=TIMEOUT)
    assert (one, two) == (["to alice"], ["to bob", b"bytes to bob"])


def test_a_peer_that_takes_no_files(pair: tuple[Call, Call], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with pytest.raises(ArticoTimeoutError):
        send_file(pair[0], path, timeout=0.1)
    # It was shown text, and not one byte of the file.
    assert [type(pair[1].recv(TIMEOUT)) for _ in range(2)] == [str, str]


def test_the_call_ends(pair: tuple[Call, Call], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with pytest.raises(CallClosedError):
        with Blocked(lambda: send_file(pair[0], path)) as sender:
            pair[1].hangup()
        sender.result()


def test_going_on_where_it_ended(pair: tuple[Call, Call], tmp_path: Path, inbox: Path) -> None:
    content = os.urandom(500_000)
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    first = Receiving(inbox)
    first.give(offer(content), bytes.fromhex(ID) + content[:CONTENT])
    first.receiver.close()
    assert first.progress[-1].reason == "the call ended"
    told: list[FileProgress] = []
    with Blocked(lambda: receive_file(pair[1], inbox, timeout=TIMEOUT)):
        send_file(pair[0], path, on_progress=told.append, timeout=TIMEOUT)
    assert told[0].moved == CONTENT
    assert (inbox / "a.bin").read_bytes() == content


def test_what_was_kept_is_no_part_of_it(
    pair: tuple[Call, Call], tmp_path: Path, inbox: Path
) -> None:
    content = os.urandom(200_000)
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    first = Receiving(inbox)
    first.give(offer(content), bytes.fromhex(ID) + os.urandom(1000))
    first.receiver.close()
    receiver = FileReceiver(pair[1], inbox)

    def receive() -> None:
        while not (inbox / "a.bin").exists():
            assert receiver.take(pair[1].recv(TIMEOUT))

    with Blocked(receive):
        send_file(pair[0], path, timeout=TIMEOUT)
    assert (inbox / "a.bin").read_bytes() == content


def test_both_ways_at_once(pair: tuple[Call, Call], tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "two"
    contents = os.urandom(8_000_000), os.urandom(8_000_000)
    senders = FileSender(pair[0]), FileSender(pair[1])
    workers = []
    for number, (call, sender) in enumerate(zip(pair, senders, strict=False)):
        folders[number].mkdir()
        (tmp_path / f"{number}.bin").write_bytes(contents[number])
        receiver = FileReceiver(call, folders[number])

        def read(
            call: Call = call, sender: FileSender = sender, receiver: FileReceiver = receiver
        ) -> None:
            for message in call:
                assert receiver.take(message) or sender.take(message)

        workers.append(Blocked(read))
    with workers[0], workers[1]:
        with Blocked(lambda: senders[1].send(tmp_path / "1.bin")) as other:
            senders[0].send(tmp_path / "0.bin")
        other.result()
        pair[0].hangup()
    assert (folders[1] / "0.bin").read_bytes() == contents[0]
    assert (folders[0] / "1.bin").read_bytes() == contents[1]


def test_no_file_is_overwritten(receiving: Receiving, inbox: Path) -> None:
    (inbox / "a.bin").write_bytes(b"mine")
    for content in (b"one", b"two"):
        receiving.give(offer(content), bytes.fromhex(ID) + content)
    assert sorted(os.listdir(inbox)) == ["a (2).bin", "a (3).bin", "a.bin"]
    assert (inbox / "a.bin").read_bytes() == b"mine"


def test_a_file_that_is_there_already(receiving: Receiving, inbox: Path) -> None:
    (inbox / "a.bin").write_bytes(b"same")
    answers = receiving.give(offer(b"same"))
    assert [answer["cmd"] for answer in answers] == ["accept", "done"]
    assert answers[0]["offset"] == 4
    assert os.listdir(inbox) == ["a.bin"]


def test_changed_content_is_not_kept(receiving: Receiving, inbox: Path) -> None:
    answers = receiving.give(offer(b"good"), bytes.fromhex(ID) + b"evil")
    assert (answers[-1]["cmd"], answers[-1]["reason"]) == ("failed", "hash")
    assert os.listdir(inbox) == []


def test_more_than_was_announced(receiving: Receiving, inbox: Path) -> None:
    answers = receiving.give(offer(b"good"), bytes.fromhex(ID) + b"good and more")
    assert answers[-1]["cmd"] == "failed"
    assert "a.bin" not in os.listdir(inbox)
    # What was under way is still known for what it is.
    assert receiving.give(bytes.fromhex(ID) + b"late") == []


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
    assert [path for path in os.listdir(inbox) if not path.endswith(".part")] == []


def test_larger_than_wanted(inbox: Path) -> None:
    receiving = Receiving(inbox, maximum_size=3)
    assert receiving.give(offer(b"data"))[0]["cmd"] == "refuse"
    assert os.listdir(inbox) == []


def test_one_at_a_time(receiving: Receiving, inbox: Path) -> None:
    receiving.give(offer(b"data"))
    assert receiving.give(offer(b"other"))[0]["cmd"] == "refuse"
    other = Receiving(inbox)
    assert other.give(offer(b"data"))[0]["reason"] == "it is being received already"
    receiving.give(build("abort", ID))
    assert receiving.progress[-1].reason == "the sender gave up"
    assert other.give(offer(b"data"))[0]["cmd"] == "accept"
    other.receiver.close()


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


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        Receiving(tmp_path / "missing")


@pytest.mark.parametrize(
    "answer", [{"offset": -1}, {"offset": 8}, {"offset": "0"}, {}, {"offset": True}]
)
def test_answers_that_cannot_be(
    pair: tuple[Call, Call], tmp_path: Path, answer: dict[str, Any]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with Blocked(lambda: send_file(pair[0], path)) as sender:
        body = parse(pair[1].recv(TIMEOUT))
        assert body is not None
        pair[1].send(build("accept", body["id"], **answer))
    with pytest.raises(FileTransferError):
        sender.result()


def test_answers_nobody_asked_for_are_not_kept() -> None:
    sender = FileSender(Replies())  # type: ignore[arg-type]
    answer = build("done", ID, reason="x" * 1000)
    assert memory_of(lambda: repeat(lambda: sender.take(answer))) < 100_000


def test_answers_given_again_and_again_are_kept_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    call = Talkative()
    call.sender.send(tmp_path / "a.txt", timeout=TIMEOUT)
    assert call.memory < 100_000


def test_a_call_that_ended_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    call = Replies()
    sender = FileSender(call)  # type: ignore[arg-type]
    sender.close()
    for _ in range(2):
        with pytest.raises(CallClosedError):
            sender.send(tmp_path / "a.txt", timeout=TIMEOUT)


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
