"""Wake-ups of the loop thread by an eventfd, and the plain twin."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from artico_sync._speedups.wake_up import EventfdWakeUp, PlainWakeUp, make_wake_up

LIMIT = 10.0


@pytest.mark.parametrize("eventfd", [True, False])
def test_wakes_from_another_thread(eventfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not eventfd:
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")

    async def main() -> None:
        woken = asyncio.Event()
        wake_up = make_wake_up(asyncio.get_running_loop(), woken.set)
        assert isinstance(wake_up, EventfdWakeUp if eventfd else PlainWakeUp)
        for _ in range(3):
            threading.Thread(target=wake_up.wake).start()
            await asyncio.wait_for(woken.wait(), LIMIT)
            woken.clear()
        wake_up.close()
        wake_up.close()

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this system has no eventfd")
def test_a_closed_wake_up_writes_to_no_descriptor() -> None:
    async def main() -> None:
        wake_up = make_wake_up(asyncio.get_running_loop(), lambda: None)
        wake_up.close()
        with pytest.raises(RuntimeError):
            wake_up.wake()

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this system has no eventfd")
def test_a_wake_up_while_the_function_runs_is_not_lost() -> None:
    async def main() -> None:
        served = asyncio.Event()
        requested = [False]

        def function() -> None:
            if requested[0]:
                served.set()
                return
            # In the order of `LoopThread.post`: first the request, then the wake-up.
            requested[0] = True
            thread = threading.Thread(target=wake_up.wake)
            thread.start()
            thread.join()

        wake_up = make_wake_up(asyncio.get_running_loop(), function)
        wake_up.wake()
        await asyncio.wait_for(served.wait(), LIMIT)
        wake_up.close()

    asyncio.run(main())
