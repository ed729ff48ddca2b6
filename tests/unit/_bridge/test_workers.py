"""Workers are waited for while others begin."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from artico_sync._bridge import threads
from artico_sync._bridge.threads import Worker

LIMIT = 10.0


def nothing() -> None:
    """What the workers here do."""


def make_worker() -> Worker:
    return Worker("test", nothing, nothing, lambda: False)


def test_a_worker_may_begin_while_others_are_waited_for() -> None:
    first = make_worker()
    later: list[Worker] = []
    began = threading.Thread(target=lambda: later.append(make_worker()))

    def interfere(frame: FrameType, event: str, argument: Any) -> None:
        # In the middle of the iteration.
        if frame.f_code.co_name == "__iter__" and event == "return" and not began.ident:
            began.start()
            began.join(0.1)

    sys.setprofile(interfere)
    try:
        threads.join_finished_workers()
    finally:
        sys.setprofile(None)
    began.join(LIMIT)
    assert later and not first.alive
