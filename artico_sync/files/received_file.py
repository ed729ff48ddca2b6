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
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from artico_sync.files.digests import Digests

# Windows forbids these, and names that begin like its devices; nobody misses them.
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
# Bytes of a name, and characters of what counts as its suffix.
_LONGEST = 200
_LONGEST_SUFFIX = 20


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


class ReceivedFile:
    """What has come of a file so far, kept under a temporary name until it is whole.

    Args:
        folder: Where it goes, and nowhere else.
        name: As the sender calls it.
        size: Bytes it will have.
        sha256: Of its content, in hexadecimal.
        digests: What the files there hash to, as far as that is known.

    Attributes:
        offset: Bytes that are there.
        added: Those of them that came this time; none where all are gone again.

    Raises:
        OSError: It cannot be written there; BlockingIOError when another receiver is at it.
    """

    def __init__(
        self, folder: Path, name: str, size: int, sha256: str, digests: Digests | None = None
    ) -> None:
        self.name = safe_name(name)
        self.size = size
        self._folder = folder
        self._sha256 = sha256
        self._digests = digests or Digests()
        self._part = folder / f".{self.name}.{sha256[:16]}.part"
        self._existing = self._find_existing()
        self._digest = hashlib.sha256()
        self.added = 0
        self.offset = size if self._existing is not None else 0
        if self._existing is None:
            self._file = _open_part(self._part)
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
                digest = self._digests.of(file)[1]
                return path if digest.hexdigest() == self._sha256 else None
        except OSError:
            return None

    def _resume(self) -> None:
        if os.fstat(self._file.fileno()).st_size > self.size:
            self._file.truncate(self.size)
        self.offset, self._digest = self._digests.of(self._file)
        self._file.seek(self.offset)
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
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest)
            self.added += written
            rest = rest[written:]
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
            self._discard()
            return None
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
        """Keep what has come for another time, nothing where that is none.

        Harmless after `finish`.
        """
        if self._existing is not None or self._file.closed:
            return
        if os.fstat(self._file.fileno()).st_size == 0:
            # Where it cannot be removed an empty file stays behind, and does no harm.
            with suppress(OSError):
                self._discard()
        else:
            self._digests.remember(self._file, self.offset, self._digest)
            self._file.close()

    def _discard(self) -> None:
        self.added = 0
        # Where a system allows it removed before the lock goes: later it may be another one's.
        with self._file:
            if sys.platform != "win32":
                self._part.unlink()
        if sys.platform == "win32":
            self._part.unlink()


def _open_part(path: Path) -> BinaryIO:
    # Never through a link that somebody put there.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    # Without a buffer, which on a full disk would fail once more when the file is closed.
    file = open(os.open(path, flags, 0o666), "r+b", buffering=0)
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):
                raise BlockingIOError(f"{path} was another one's until just now")
    except BaseException:
        file.close()
        raise
    return file
