"""Files being received: safe names, partial files that can be resumed, cached digests."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from artico_sync._protocol.bounds import LruDict

# Windows forbids these characters, and names that begin like its devices.
_FORBIDDEN_CHARACTERS = re.compile(r'[<>:"|?*]')
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_MAX_NAME_BYTES = 200
# A longer "suffix" is part of the name.
_MAX_SUFFIX_CHARACTERS = 20
_READ_BYTES = 1024 * 1024
#: Number of files whose digest is cached.
MAX_CACHED_DIGESTS = 1000


def safe_name(name: str) -> str:
    """Return a file name made from a peer's: never a path, never hidden, valid on any system."""
    base = re.split(r"[/\\]", name)[-1]
    # Control and format characters can make a name look like another one.
    visible = "".join(c for c in base if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    plain = _FORBIDDEN_CHARACTERS.sub("_", visible).strip(" .")
    plain = _shorten(plain)
    if _DEVICE_NAME.match(plain):
        plain = f"_{plain}"
    return plain or "file"


def _shorten(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    stem, suffix = os.path.splitext(name)
    if len(suffix) >= _MAX_SUFFIX_CHARACTERS:
        stem, suffix = name, ""
    stem = stem.encode()[: _MAX_NAME_BYTES - len(suffix.encode())].decode(errors="ignore")
    return f"{stem}{suffix}".rstrip(" .")


def hash_file(file: BinaryIO) -> tuple[int, hashlib._Hash]:
    """Read a file from its start; return the number of bytes read and their SHA-256."""
    digest = hashlib.sha256()
    count = 0
    file.seek(0)
    while block := file.read(_READ_BYTES):
        digest.update(block)
        count += len(block)
    return count, digest


class DigestCache:
    """Caches the digests of unchanged files, so that offers repeated by a peer cost no reading.

    Used by one thread at a time.
    """

    def __init__(self) -> None:
        # Device and inode -> size and times of the file when it was hashed, and its digest.
        self._entries: LruDict[tuple[int, int], tuple[tuple[int, int, int], hashlib._Hash]]
        self._entries = LruDict(MAX_CACHED_DIGESTS)

    def digest_of(self, file: BinaryIO) -> tuple[int, hashlib._Hash]:
        """Return the size of an open file and its SHA-256, which the caller may update."""
        identity, version = _identify(file)
        entry = self._entries.get(identity)
        if entry is not None and entry[0] == version:
            return version[0], entry[1].copy()
        size, digest = hash_file(file)
        if size == version[0]:
            self._store(identity, version, digest)
        return size, digest

    def store(self, file: BinaryIO, size: int, digest: hashlib._Hash) -> None:
        """Cache the digest of the first `size` bytes of a file if the file is not longer."""
        identity, version = _identify(file)
        if size == version[0]:
            self._store(identity, version, digest)

    def _store(
        self, identity: tuple[int, int], version: tuple[int, int, int], digest: hashlib._Hash
    ) -> None:
        self._entries[identity] = (version, digest.copy())


def _identify(file: BinaryIO) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Return which file it is, and the values that differ after a write to it."""
    status = os.fstat(file.fileno())
    return (status.st_dev, status.st_ino), (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


class ReceivedFile:
    """The received part of a file, kept under a temporary name until it is complete.

    Used by one thread at a time.

    Args:
        folder: The only folder that is written to.
        name: The name given by the sender.
        size: Size of the complete file in bytes.
        sha256: SHA-256 of the complete file, in hexadecimal.
        digests: Cached digests of the files in the folder.

    Attributes:
        offset: Bytes present, including those of an earlier attempt.
        bytes_added: Bytes written by this object; 0 after they were discarded.

    Raises:
        OSError: The file cannot be written; BlockingIOError if another receiver is writing it.
    """

    def __init__(
        self, folder: Path, name: str, size: int, sha256: str, digests: DigestCache | None = None
    ) -> None:
        self.name = safe_name(name)
        self.size = size
        self._folder = folder
        self._sha256 = sha256
        self._digests = digests or DigestCache()
        self._part_path = folder / f".{self.name}.{sha256[:16]}.part"
        self._existing = self._find_existing()
        self._digest = hashlib.sha256()
        self.bytes_added = 0
        self.offset = size if self._existing is not None else 0
        if self._existing is None:
            self._file = _open_part(self._part_path)
            try:
                self._resume()
            except BaseException:
                self.suspend()
                raise

    def _find_existing(self) -> Path | None:
        path = self._folder / self.name
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size != self.size:
                return None
            with open(path, "rb") as file:
                digest = self._digests.digest_of(file)[1]
                return path if digest.hexdigest() == self._sha256 else None
        except OSError:
            return None

    def _resume(self) -> None:
        if os.fstat(self._file.fileno()).st_size > self.size:
            self._file.truncate(self.size)
        self.offset, self._digest = self._digests.digest_of(self._file)
        self._file.seek(self.offset)
        missing = self.size - self.offset
        if missing > shutil.disk_usage(self._folder).free:
            raise OSError("there is not enough space left")

    @property
    def complete(self) -> bool:
        """True once every byte has been received."""
        return self.offset == self.size

    def write(self, data: bytes) -> None:
        """Append the bytes received next.

        Raises:
            ValueError: The file would become longer than announced.
            OSError: The bytes cannot be written.
        """
        if self.offset + len(data) > self.size:
            raise ValueError("more content arrived than was announced")
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest)
            self.bytes_added += written
            rest = rest[written:]
        self._digest.update(data)
        self.offset += len(data)

    def finish(self) -> Path | None:
        """Check the hash and move the file to its name, or to a numbered one if that is taken.

        Returns:
            The path of the file, or None if the hash is wrong; the partial file is deleted then.

        Raises:
            OSError: The file cannot be moved.
        """
        if self._existing is not None:
            return self._existing
        if self._digest.hexdigest() != self._sha256:
            self._discard()
            return None
        os.fsync(self._file.fileno())
        target = self._reserve_name()
        if sys.platform == "win32":
            self._file.close()
        os.replace(self._part_path, target)
        self._file.close()
        return target

    def _reserve_name(self) -> Path:
        stem, suffix = os.path.splitext(self.name)
        number = 1
        while True:
            name = self.name if number == 1 else f"{stem} ({number}){suffix}"
            path = self._folder / name
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                number += 1
            else:
                return path

    def suspend(self) -> None:
        """Keep the partial file for another attempt, or delete it if it is empty.

        Has no effect after `finish`.
        """
        if self._existing is not None or self._file.closed:
            return
        if os.fstat(self._file.fileno()).st_size == 0:
            # An empty file that cannot be deleted stays; the next attempt uses it.
            with suppress(OSError):
                self._discard()
        else:
            self._digests.store(self._file, self.offset, self._digest)
            self._file.close()

    def _discard(self) -> None:
        self.bytes_added = 0
        # Deleted before the lock is released if the system permits: afterwards the file may
        # belong to another receiver.
        with self._file:
            if sys.platform != "win32":
                self._part_path.unlink()
        if sys.platform == "win32":
            self._part_path.unlink()


def _open_part(path: Path) -> BinaryIO:
    # O_NOFOLLOW: never write through a symbolic link.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    # Unbuffered: on a full disk, flushing a buffer would fail again when the file is closed.
    file = open(os.open(path, flags, 0o666), "r+b", buffering=0)
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):
                raise BlockingIOError(f"another receiver has just moved {path}")
    except BaseException:
        file.close()
        raise
    return file
