"""Tests of the receiving side with a peer that sends anything."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from artico_sync import ArticoTimeoutError
from artico_sync.files.messages import MAX_CONTENT_BYTES, build_message
from artico_sync.files.receiver import MAX_UNSENT_REPLIES
from tests.polling import wait_until
from tests.unit.files.harness import (
    ID,
    FakeCall,
    ReceiverHarness,
    content_message,
    offer,
)


class UnreadCall(FakeCall):
    """A call whose peer reads nothing until `reading` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = threading.Event()

    def send(self, text: str, timeout: float | None = None) -> None:
        if not self.reading.wait(timeout):
            raise ArticoTimeoutError("The peer does not read.")
        super().send(text)


def test_no_file_is_overwritten(receiving: ReceiverHarness, inbox: Path) -> None:
    (inbox / "a.bin").write_bytes(b"mine")
    for content in (b"one", b"two"):
        receiving.exchange(offer(content), content_message(content))
    assert sorted(os.listdir(inbox)) == ["a (2).bin", "a (3).bin", "a.bin"]
    assert (inbox / "a.bin").read_bytes() == b"mine"


def test_an_existing_equal_file_is_not_sent_again(receiving: ReceiverHarness, inbox: Path) -> None:
    (inbox / "a.bin").write_bytes(b"same")
    replies = receiving.exchange(offer(b"same"))
    assert [reply["cmd"] for reply in replies] == ["accept", "done"]
    assert replies[0]["offset"] == 4
    assert os.listdir(inbox) == ["a.bin"]


def test_content_with_a_wrong_hash_is_deleted(receiving: ReceiverHarness, inbox: Path) -> None:
    replies = receiving.exchange(offer(b"good"), content_message(b"evil"))
    assert (replies[-1]["cmd"], replies[-1]["reason"]) == ("failed", "hash")
    assert os.listdir(inbox) == []


def test_more_content_than_announced_fails_the_transfer(
    receiving: ReceiverHarness, inbox: Path
) -> None:
    replies = receiving.exchange(offer(b"good"), content_message(b"good and more"))
    assert replies[-1]["cmd"] == "failed"
    assert "a.bin" not in os.listdir(inbox)
    # Content of the ended transfer is still recognized.
    assert receiving.exchange(content_message(b"late")) == []


def test_files_are_received_one_at_a_time(receiving: ReceiverHarness, inbox: Path) -> None:
    receiving.exchange(offer(b"data"))
    assert receiving.exchange(offer(b"other"))[0]["cmd"] == "refuse"
    other = ReceiverHarness(inbox)
    assert other.exchange(offer(b"data"))[0]["reason"] == "it is being received already"
    receiving.exchange(build_message("abort", ID))
    assert receiving.progress[-1].reason == "the sender gave up"
    assert other.exchange(offer(b"data"))[0]["cmd"] == "accept"
    other.receiver.close()


def test_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        ReceiverHarness(tmp_path / "missing")


@pytest.mark.parametrize("space", [MAX_CONTENT_BYTES + 1000, 2 * MAX_CONTENT_BYTES - 1000])
def test_a_full_disk_fails_the_transfer_and_allows_to_resume_it(
    receiving: ReceiverHarness, inbox: Path, space: int
) -> None:
    content = os.urandom(2 * MAX_CONTENT_BYTES)
    messages = [
        content_message(content[:MAX_CONTENT_BYTES]),
        content_message(content[MAX_CONTENT_BYTES:]),
    ]
    with largest_file(space):
        replies = receiving.exchange(offer(content), *messages)
    assert [reply["cmd"] for reply in replies] == ["accept", "failed"]
    assert replies[-1]["reason"] == os.strerror(errno.EFBIG)
    # Once there is space again, the transfer resumes after all that was written.
    (reply,) = receiving.exchange(offer(content))
    assert reply["offset"] == space
    receiving.exchange(content_message(content[reply["offset"] :]))
    assert (inbox / "a.bin").read_bytes() == content


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Make writes beyond this size fail, as they do on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
def test_names_with_paths_stay_in_the_folder(
    receiving: ReceiverHarness, inbox: Path, name: str
) -> None:
    receiving.exchange(offer(b"data", name), content_message(b"data"))
    (path,) = inbox.iterdir()
    assert receiving.progress[-1].path == path
    assert not path.name.startswith(".")
    assert os.listdir(inbox.parent) == ["inbox"]


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
def test_malformed_offers_are_refused(
    receiving: ReceiverHarness, inbox: Path, changed: dict[str, Any]
) -> None:
    message = json.dumps({**json.loads(offer(b"data")), **changed})
    assert [reply["cmd"] for reply in receiving.exchange(message)] == ["refuse"]
    assert os.listdir(inbox) == []


def test_files_above_the_maximum_size_are_refused(inbox: Path) -> None:
    receiving = ReceiverHarness(inbox, maximum_size=3)
    assert receiving.exchange(offer(b"data"))[0]["cmd"] == "refuse"
    assert os.listdir(inbox) == []


def test_files_above_the_maximum_total_are_refused(inbox: Path) -> None:
    receiving = ReceiverHarness(inbox, maximum_total=10)
    content = content_message(b"data")
    assert receiving.exchange(offer(b"data", "a"), content)[-1]["cmd"] == "done"
    # Content with a wrong hash is deleted and does not count.
    assert receiving.exchange(offer(b"good", "b"), content)[-1]["reason"] == "hash"
    # An incomplete file is kept and counts.
    receiving.exchange(offer(b"data..", "c"), content_message(b"dat"), build_message("abort", ID))
    (reply,) = receiving.exchange(offer(b"data", "d"))
    assert reply["reason"] == "no more than 10 bytes are accepted in total"
    # An existing file does not count again.
    assert receiving.exchange(offer(b"data", "a"))[-1]["cmd"] == "done"
    assert receiving.exchange(offer(b"dat", "e"), content_message(b"dat"))[-1]["cmd"] == "done"
    assert sorted(name for name in os.listdir(inbox) if not name.endswith(".part")) == ["a", "e"]
    assert len(os.listdir(inbox)) == 3


def test_a_resumed_file_counts_with_its_missing_part_only(inbox: Path) -> None:
    first = ReceiverHarness(inbox)
    first.exchange(offer(b"data"), content_message(b"dat"), build_message("abort", ID))
    receiving = ReceiverHarness(inbox, maximum_total=1)
    assert receiving.exchange(offer(b"data"), content_message(b"a"))[-1]["cmd"] == "done"


def test_offers_of_a_peer_that_does_not_read_are_ignored(inbox: Path) -> None:
    call = UnreadCall()
    receiving = ReceiverHarness(inbox, call)
    for _ in range(1000):
        receiving.exchange(offer(b"data", size=-1))
    assert os.listdir(inbox) == []
    call.reading.set()
    wait_until(lambda: len(call.sent) == MAX_UNSENT_REPLIES, "the replies")
    # Once it has read them, its offers are answered again.
    receiving.exchange(offer(b"data"))
    wait_until(lambda: len(call.sent) > MAX_UNSENT_REPLIES, "one more reply")
    assert call.sent[-1]["cmd"] == "accept"
    receiving.receiver.close()


def test_a_transfer_aborted_before_any_content_leaves_no_file(
    receiving: ReceiverHarness, inbox: Path
) -> None:
    for number in range(10):
        receiving.exchange(offer(b"data", f"{number}.bin"), build_message("abort", ID))
    assert receiving.progress[-1].state == "failed"
    assert os.listdir(inbox) == []
