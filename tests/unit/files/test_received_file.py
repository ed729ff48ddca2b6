"""Tests of received files: safe names, partial files, cached digests."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artico_sync.files import received_file
from artico_sync.files.messages import MAX_CONTENT_BYTES, build_message
from artico_sync.files.received_file import DigestCache, ReceivedFile, safe_name
from tests.unit.files.harness import ID, ReceiverHarness, content_message, offer

LARGE = 8_000_000


def test_a_link_in_place_of_the_partial_file_is_not_followed(
    receiving: ReceiverHarness, inbox: Path
) -> None:
    victim = inbox.parent / "victim"
    victim.write_bytes(b"precious")
    part = ReceivedFile(inbox, "a.bin", 4, hashlib.sha256(b"data").hexdigest())
    part.write(b"d")
    part.suspend()
    (hidden,) = inbox.iterdir()
    hidden.unlink()
    hidden.symlink_to(victim)
    assert receiving.exchange(offer(b"data"))[0]["cmd"] == "refuse"
    assert victim.read_bytes() == b"precious"


def test_a_partial_file_moved_while_it_is_opened_is_not_used(
    receiving: ReceiverHarness, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = fcntl.flock

    def end_other(file: Any, operation: int) -> None:
        # Another receiver finishes the file just before this one locks it.
        (part,) = inbox.iterdir()
        part.rename(inbox / "a.bin")
        (inbox / part.name).touch()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", end_other)
    assert receiving.exchange(offer(b"data"))[0]["reason"] == "it is being received already"
    monkeypatch.undo()
    replies = receiving.exchange(offer(b"data"), content_message(b"data"))
    assert replies[-1]["cmd"] == "done"
    assert (inbox / "a (2).bin").read_bytes() == b"data"


def bytes_read() -> int:
    """Return the number of bytes this process has read so far, from files and otherwise."""
    statistics = Path("/proc/self/io")
    if not statistics.exists():
        pytest.skip("needs the statistics of Linux")
    return int(statistics.read_text().split()[1])


def test_an_existing_file_is_hashed_once_for_many_offers(
    receiving: ReceiverHarness, inbox: Path
) -> None:
    (inbox / "a.bin").write_bytes(bytes(LARGE))
    before = bytes_read()
    for number in range(10):
        (reply,) = receiving.exchange(offer(b"other", size=LARGE, sha256=f"{number:064x}"))
        assert reply["offset"] == 0
        receiving.exchange(build_message("abort", ID))
    assert [reply["cmd"] for reply in receiving.exchange(offer(bytes(LARGE)))] == ["accept", "done"]
    assert bytes_read() - before < 2 * LARGE


def test_a_partial_file_is_hashed_once_for_many_offers(inbox: Path) -> None:
    content = os.urandom(LARGE)
    first = ReceiverHarness(inbox)
    first.exchange(offer(content))
    for start in range(0, LARGE - MAX_CONTENT_BYTES, MAX_CONTENT_BYTES):
        first.exchange(content_message(content[start : start + MAX_CONTENT_BYTES]))
    first.receiver.close()
    received = first.progress[-1].moved
    receiving = ReceiverHarness(inbox)
    before = bytes_read()
    for _ in range(10):
        (reply,) = receiving.exchange(offer(content))
        assert reply["offset"] == received
        receiving.exchange(build_message("abort", ID))
    assert bytes_read() - before < 2 * LARGE
    receiving.exchange(offer(content), content_message(content[received : received + 10]))
    receiving.exchange(
        build_message("abort", ID), offer(content), content_message(content[received + 10 :])
    )
    assert receiving.progress[-1].state == "done"
    assert (inbox / "a.bin").read_bytes() == content
    assert bytes_read() - before < 3 * LARGE


def test_a_changed_file_is_hashed_again(receiving: ReceiverHarness, inbox: Path) -> None:
    (inbox / "a.bin").write_bytes(b"same")
    receiving.exchange(offer(b"same"))
    (inbox / "a.bin").write_bytes(b"else")
    os.utime(inbox / "a.bin", (0, 0))
    replies = receiving.exchange(offer(b"same"), content_message(b"same"))
    assert replies[0]["offset"] == 0
    assert sorted(os.listdir(inbox)) == ["a (2).bin", "a.bin"]


def test_the_digest_cache_is_bounded(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received_file, "MAX_CACHED_DIGESTS", 2)
    cache = DigestCache()
    reading: list[int] = []

    def hash_one(name: str) -> None:
        with open(inbox / name, "rb") as file:
            cache.digest_of(file)
            # A cached file is not read, so its position stays at the start.
            reading.append(file.tell())

    for name in ("abbb", "bbb", "cccc"):
        (inbox / name[0]).write_bytes(name.encode())
    for name in "abbcba":
        hash_one(name)
    assert reading == [4, 3, 0, 4, 0, 4]


@pytest.mark.slow
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
def test_a_long_name_is_shortened_in_one_step(name: str, safe: str) -> None:
    # Removing one character at a time would take hours.
    assert safe_name(name) == safe
