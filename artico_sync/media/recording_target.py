"""The files that can be recorded to, and whether one can; any thread."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

from artico_sync.errors import MediaError


@dataclass(frozen=True)
class FileFormat:
    """What a kind of file holds; a codec of None: nothing of the kind."""

    container: str
    audio: str
    video: str | None


FORMATS = {
    ".mp4": FileFormat("mp4", "aac", "libx264"),
    ".m4v": FileFormat("mp4", "aac", "libx264"),
    ".mov": FileFormat("mov", "aac", "libx264"),
    ".mkv": FileFormat("matroska", "libopus", "libx264"),
    ".webm": FileFormat("webm", "libopus", "libvpx"),
    ".m4a": FileFormat("mp4", "aac", None),
    ".wav": FileFormat("wav", "pcm_s16le", None),
    ".ogg": FileFormat("ogg", "libopus", None),
    ".oga": FileFormat("ogg", "libopus", None),
    ".opus": FileFormat("ogg", "libopus", None),
}


def check_target(path: str) -> FileFormat:
    """Make sure that a recording can be written to `path`; what is there stays as it is.

    Returns:
        What kind of file it will be.

    Raises:
        ValueError: A suffix of no known format.
        MediaError: The file, or those beside it while it is recorded, cannot be written.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise ValueError(f"a recording ends in one of {', '.join(FORMATS)}, not {path!r}")
    try:
        existed = os.path.lexists(path)
        with open(path, "ab"):
            pass
        if not existed:
            os.unlink(path)
        parent = os.path.dirname(os.path.abspath(path))
        with tempfile.TemporaryDirectory(prefix=".recording-", dir=parent):
            pass
    except OSError as error:
        raise MediaError(f"Cannot record to {path}: {error.strerror or error}.") from error
    return FORMATS[suffix]
