"""Files over calls: whole, resumed, refused, and where the disk is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from artico_sync import ArticoTimeoutError, Call, CallClosedError
from artico_sync.files import (
    FileProgress,
    FileReceiver,
    FileSender,
    FileTransferError,
    receive_file,
    send_file,
)
from artico_sync.files.messages import CONTENT, build, parse
from tests.blocking import Blocked
from tests.conftest import TIME_UNIT, MakeArtico
from tests.unit.files.file_receiving import ID, Receiving, Replies, offer

TIMEOUT = 20.0 * TIME_UNIT


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


def test_one_at_a_time(receiving: Receiving, inbox: Path) -> None:
    receiving.give(offer(b"data"))
    assert receiving.give(offer(b"other"))[0]["cmd"] == "refuse"
    other = Receiving(inbox)
    assert other.give(offer(b"data"))[0]["reason"] == "it is being received already"
    receiving.give(build("abort", ID))
    assert receiving.progress[-1].reason == "the sender gave up"
    assert other.give(offer(b"data"))[0]["cmd"] == "accept"
    other.receiver.close()


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


def test_a_call_that_ended_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    call = Replies()
    sender = FileSender(call)  # type: ignore[arg-type]
    sender.close()
    for _ in range(2):
        with pytest.raises(CallClosedError):
            sender.send(tmp_path / "a.txt", timeout=TIMEOUT)


@pytest.mark.parametrize("space", [CONTENT + 1000, 2 * CONTENT - 1000])
def test_a_full_disk(receiving: Receiving, inbox: Path, space: int) -> None:
    content = os.urandom(2 * CONTENT)
    messages = [bytes.fromhex(ID) + content[:CONTENT], bytes.fromhex(ID) + content[CONTENT:]]
    with largest_file(space):
        answers = receiving.give(offer(content), *messages)
    assert [answer["cmd"] for answer in answers] == ["accept", "failed"]
    assert answers[-1]["reason"] == os.strerror(errno.EFBIG)
    # Once there is space again it goes on, and with all that was written.
    (answer,) = receiving.give(offer(content))
    assert answer["offset"] == space
    receiving.give(bytes.fromhex(ID) + content[answer["offset"] :])
    assert (inbox / "a.bin").read_bytes() == content


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Have writing beyond this size fail, as it does where a disk is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
