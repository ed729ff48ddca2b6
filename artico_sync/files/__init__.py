"""Files between Python peers over an ordinary call: resumable, checked by hash.

`send_file` and `receive_file` are all that most programs need; a program that reads the call's
messages itself passes them to a `FileSender` and a `FileReceiver`. `artico_sync.files.messages`
documents the messages on the wire. Import these names from `artico_sync.file_transfer`.
"""

from __future__ import annotations

from artico_sync.files.messages import FileProgress, FileTransferError
from artico_sync.files.receiver import FileReceiver, receive_file
from artico_sync.files.sender import FileSender, send_file

__all__ = [
    "FileProgress",
    "FileReceiver",
    "FileSender",
    "FileTransferError",
    "receive_file",
    "send_file",
]
