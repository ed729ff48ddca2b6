"""Tests of whole transfers over calls."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artico_sync import ArticoTimeoutError, Call, CallClosedError
from artico_sync.file_transfer import (
    FileProgress,
    FileReceiver,
    FileSender,
    FileTransferError,
    receive_file,
    send_file,
)
from artico_sync.files.messages import MAX_CONTENT_BYTES, build_message, parse_message
from tests.blocking import Blocked
from tests.conftest import TIME_UNIT, MakeArtico
from tests.unit.files.harness import ReceiverHarness, content_message, offer

TIMEOUT = 20.0 * TIME_UNIT


@pytest.fixture
def pair(make_artico: MakeArtico) -> tuple[Call, Call]:
    """Both ends of an open call."""
    bob = make_artico("bob")
    call = make_artico("alice").call("bob")
    answered: Call = bob.wait_for("call", TIMEOUT).answer().wait_open()
    return call.wait_open(), answered


@pytest.mark.parametrize("size", [0, 1, MAX_CONTENT_BYTES, MAX_CONTENT_BYTES + 1, 3_000_000])
def test_a_file_arrives(pair: tuple[Call, Call], tmp_path: Path, inbox: Path, size: int) -> None:
    content = os.urandom(size)
    path = tmp_path / "größe.bin"
    path.write_bytes(content)
    progress: list[FileProgress] = []
    with Blocked(lambda: receive_file(pair[1], inbox, timeout=TIMEOUT)) as receiver:
        send_file(pair[0], path, on_progress=progress.append, timeout=TIMEOUT)
    assert receiver.result() == inbox / "größe.bin"
    assert receiver.result().read_bytes() == content
    assert os.listdir(inbox) == ["größe.bin"]
    assert [progress[0].state, progress[-1].state] == ["begun", "done"]


def test_other_messages_go_to_on_message(
    pair: tuple[Call, Call], tmp_path: Path, inbox: Path
) -> None:
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


def test_a_peer_that_does_not_reply_gets_no_content(
    pair: tuple[Call, Call], tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with pytest.raises(ArticoTimeoutError):
        send_file(pair[0], path, timeout=0.1)
    # It received text messages, and no content of the file.
    assert [type(pair[1].recv(TIMEOUT)) for _ in range(2)] == [str, str]


def test_a_call_that_ends_ends_the_transfer(pair: tuple[Call, Call], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with pytest.raises(CallClosedError):
        with Blocked(lambda: send_file(pair[0], path)) as sender:
            pair[1].hangup()
        sender.result()


def test_an_interrupted_transfer_is_resumed(
    pair: tuple[Call, Call], tmp_path: Path, inbox: Path
) -> None:
    content = os.urandom(500_000)
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    first = ReceiverHarness(inbox)
    first.exchange(offer(content), content_message(content[:MAX_CONTENT_BYTES]))
    first.receiver.close()
    assert first.progress[-1].reason == "the call ended"
    progress: list[FileProgress] = []
    with Blocked(lambda: receive_file(pair[1], inbox, timeout=TIMEOUT)):
        send_file(pair[0], path, on_progress=progress.append, timeout=TIMEOUT)
    assert progress[0].moved == MAX_CONTENT_BYTES
    assert (inbox / "a.bin").read_bytes() == content


def test_a_wrong_partial_file_is_replaced(
    pair: tuple[Call, Call], tmp_path: Path, inbox: Path
) -> None:
    content = os.urandom(200_000)
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    first = ReceiverHarness(inbox)
    first.exchange(offer(content), content_message(os.urandom(1000)))
    first.receiver.close()
    receiver = FileReceiver(pair[1], inbox)

    def receive() -> None:
        while not (inbox / "a.bin").exists():
            assert receiver.take(pair[1].recv(TIMEOUT))

    with Blocked(receive):
        send_file(pair[0], path, timeout=TIMEOUT)
    assert (inbox / "a.bin").read_bytes() == content


def test_files_in_both_directions_at_once(pair: tuple[Call, Call], tmp_path: Path) -> None:
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
        with ThreadPoolExecutor(1) as executor:
            other = executor.submit(senders[1].send, tmp_path / "1.bin", timeout=TIMEOUT)
            senders[0].send(tmp_path / "0.bin", timeout=TIMEOUT)
        other.result()
        pair[0].hangup()
    assert (folders[1] / "0.bin").read_bytes() == contents[0]
    assert (folders[0] / "1.bin").read_bytes() == contents[1]


@pytest.mark.parametrize(
    "reply", [{"offset": -1}, {"offset": 8}, {"offset": "0"}, {}, {"offset": True}]
)
def test_invalid_offsets_raise(
    pair: tuple[Call, Call], tmp_path: Path, reply: dict[str, Any]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with Blocked(lambda: send_file(pair[0], path)) as sender:
        body = parse_message(pair[1].recv(TIMEOUT))
        assert body is not None
        pair[1].send(build_message("accept", body["id"], **reply))
    with pytest.raises(FileTransferError):
        sender.result()
