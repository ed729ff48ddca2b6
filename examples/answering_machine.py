"""Beep at each caller and record a message of up to a minute: answering_machine.py ID FOLDER."""

import contextlib
import os
import sys
import time

import numpy as np

from artico_sync import Artico, ArticoError, ArticoTimeoutError, AudioTrack, Call, MediaStream

if len(sys.argv) != 3:
    sys.exit(__doc__)
own, folder = sys.argv[1:]
BEEP = (8000 * np.sin(2 * np.pi * 880 * np.arange(72000) / 48000)).astype(np.int16)[:, None]


def take_message(call: Call) -> None:
    stream = call.wait_for("stream", timeout=20)
    path = os.path.join(folder, time.strftime(f"%Y-%m-%d %H.%M.%S {call.session[5:]}.webm"))
    with stream.record(path), contextlib.suppress(ArticoTimeoutError):
        call.add_stream(MediaStream([AudioTrack.from_chunks([BEEP])]), metadata="beep")
        call.wait_closed(timeout=60)
    print("message from", call.target, "in", path, flush=True)


with Artico(id=own) as rtco, contextlib.suppress(KeyboardInterrupt):
    print("waiting for calls as", own, flush=True)
    while True:
        call = rtco.wait_for("call")
        try:
            with call.answer():
                take_message(call)
        except ArticoError as error:
            print("no message:", error.message, flush=True)
