"""Files between Python peers over an ordinary call: resumable, checked by hash; user threads.

`send_file` and `receive_file` are all that most programs need; one that reads the call's messages
by itself gives them to a `FileSender` and a `FileReceiver`. `messages` tells what goes over the
wire.
"""

from __future__ import annotations

from artico_sync.files.blocking import receive_file, send_file
from artico_sync.files.messages import FileProgress, FileTransferError
from artico_sync.files.receiver import FileReceiver
from artico_sync.files.sender import FileSender

__all__ = [
    "FileProgress",
    "FileReceiver",
    "FileSender",
    "FileTransferError",
    "receive_file",
    "send_file",
]
