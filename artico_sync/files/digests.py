"""SHA-256 of files, computed once for each while it stays as it is; user threads."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

_BLOCK = 1024 * 1024
#: Files whose digest is known.
REMEMBERED = 1000


def hash_file(file: BinaryIO) -> tuple[int, hashlib._Hash]:
    """Read from the start to the end; how many bytes they were, and their SHA-256."""
    digest = hashlib.sha256()
    count = 0
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
        count += len(block)
    return count, digest


class Digests:
    """Remembers what files hash to: whoever offers one again and again makes us read it once.

    One object belongs to one thread at a time.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[tuple[int, int, int], hashlib._Hash]] = {}

    def of(self, file: BinaryIO) -> tuple[int, hashlib._Hash]:
        """The size of an open file and a digest that can be gone on with."""
        key, state = _identify(file)
        known = self._known.get(key)
        if known is not None and known[0] == state:
            return state[0], known[1].copy()
        size, digest = hash_file(file)
        if size == state[0]:
            self._remember(key, state, digest)
        return size, digest

    def remember(self, file: BinaryIO, size: int, digest: hashlib._Hash) -> None:
        """Take the word of the one who wrote a file for what it hashes to, if that is all of it."""
        key, state = _identify(file)
        if size == state[0]:
            self._remember(key, state, digest)

    def _remember(
        self, key: tuple[int, int], state: tuple[int, int, int], digest: hashlib._Hash
    ) -> None:
        self._known.pop(key, None)
        self._known[key] = (state, digest.copy())
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]


def _identify(file: BinaryIO) -> tuple[tuple[int, int], tuple[int, int, int]]:
    # Which file it is, and what differs once it was written to.
    status = os.fstat(file.fileno())
    return (status.st_dev, status.st_ino), (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
