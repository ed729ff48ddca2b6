"""A file on its way onto this disk: a safe name, a partial file, and the move when it is whole.

User threads; one object belongs to one thread at a time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import unicodedata
from pathlib import Path
from typing import BinaryIO

# Windows forbids these, and names that begin like its devices; nobody misses them.
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
# Bytes of a name, and characters of what counts as its suffix.
_LONGEST = 200
_LONGEST_SUFFIX = 20
_BLOCK = 1024 * 1024


def safe_name(name: str) -> str:
    """What a stranger's file name becomes here: never a path, never hidden, valid everywhere."""
    base = re.split(r"[/\\]", name)[-1]
    # Control and format characters can make a name look like another one.
    visible = "".join(c for c in base if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    plain = _FORBIDDEN.sub("_", visible).strip(" .")
    plain = _shorten(plain)
    if _DEVICE.match(plain):
        plain = f"_{plain}"
    return plain or "file"


def _shorten(name: str) -> str:
    if len(name.encode()) <= _LONGEST:
        return name
    stem, suffix = os.path.splitext(name)
    if len(suffix) >= _LONGEST_SUFFIX:
        stem, suffix = name, ""
    kept = stem.encode()[: _LONGEST - len(suffix.encode())].decode(errors="ignore")
    return f"{kept}{suffix}".rstrip(" .")


def hash_file(file: BinaryIO, size: int | None = None) -> tuple[int, hashlib._Hash]:
    """Read from the start, `size` bytes or all; how many they were, and their SHA-256."""
    digest = hashlib.sha256()
    count = 0
    file.seek(0)
    while block := file.read(_BLOCK if size is None else min(_BLOCK, size - count)):
        digest.update(block)
        count += len(block)
    return count, digest


class ReceivedFile:
    """What has come of a file so far, kept under a temporary name until it is whole.

    Args:
        folder: Where it goes, and nowhere else.
        name: As the sender calls it.
        size: Bytes it will have.
        sha256: Of its content, in hexadecimal.

    Raises:
        OSError: It cannot be written there; BlockingIOError when another receiver is at it.
    """

    def __init__(self, folder: Path, name: str, size: int, sha256: str) -> None:
        self.name = safe_name(name)
        self.size = size
        self._folder = folder
        self._sha256 = sha256
        self._part = folder / f".{self.name}.{sha256[:16]}.part"
        self._existing = self._find_existing()
        self.offset = size
        if self._existing is None:
            self._file = _open_part(self._part)
            try:
                self._resume()
            except BaseException:
                self._file.close()
                raise

    def _find_existing(self) -> Path | None:
        path = self._folder / self.name
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size != self.size:
                return None
            with open(path, "rb") as file:
                return path if hash_file(file)[1].hexdigest() == self._sha256 else None
        except OSError:
            return None

    def _resume(self) -> None:
        self.offset, self._digest = hash_file(self._file, self.size)
        self._file.seek(self.offset)
        self._file.truncate()
        missing = self.size - self.offset
        if missing > shutil.disk_usage(self._folder).free:
            raise OSError("there is not enough space left")

    @property
    def complete(self) -> bool:
        """Whether every byte has come."""
        return self.offset == self.size

    def write(self, data: bytes) -> None:
        """Add what came next.

        Raises:
            ValueError: More than the file has.
            OSError: It cannot be written.
        """
        if self.offset + len(data) > self.size:
            raise ValueError("more came than the file has")
        self._file.write(data)
        self._digest.update(data)
        self.offset += len(data)

    def finish(self) -> Path | None:
        """Check it and give it its name, or a numbered one where that is taken.

        Returns:
            Where it is, or None where its content is not what was announced; it is gone then.

        Raises:
            OSError: It cannot be moved.
        """
        if self._existing is not None:
            return self._existing
        if self._digest.hexdigest() != self._sha256:
            self._file.close()
            self._part.unlink()
            return None
        self._file.flush()
        os.fsync(self._file.fileno())
        target = self._reserve()
        if sys.platform == "win32":
            self._file.close()
        os.replace(self._part, target)
        self._file.close()
        return target

    def _reserve(self) -> Path:
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
        """Keep what has come for another time; harmless after `finish`."""
        if self._existing is None:
            self._file.close()


def _open_part(path: Path) -> BinaryIO:
    # Never through a link that somebody put there.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    file = open(os.open(path, flags, 0o666), "r+b")
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return file
