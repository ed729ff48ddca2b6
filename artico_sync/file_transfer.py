"""The public name of file transfer: resumable, checked by hash, over an ordinary call.

`send_file` and `receive_file` are all that most programs need; a program that reads the call's
messages itself passes them to a `FileSender` and a `FileReceiver`.
"""

from __future__ import annotations

from artico_sync.files import (
    FileProgress,
    FileReceiver,
    FileSender,
    FileTransferError,
    receive_file,
    send_file,
)

__all__ = [
    "FileProgress",
    "FileReceiver",
    "FileSender",
    "FileTransferError",
    "receive_file",
    "send_file",
]
