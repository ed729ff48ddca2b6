"""Ctrl-C at any moment leaves no lock held, no message lost and no thread waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import janus
import pytest

from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.portal import acquire_portal
from artico_sync._bridge.send_buffer import SendBuffer
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._bridge.waiting.interrupt_safe import Condition, PriorityQueue, Queue
from artico_sync.errors import ArticoTimeoutError, NotReadyError
from tests.polling import wait_until
from tests.unit._bridge.waiting.interrupts import interrupted_everywhere

LIMIT = 10.0


def is_free(lock: Any) -> bool:
    """Return True if another thread can acquire it."""
    found: list[bool] = []

    def look() -> None:
        found.append(lock.acquire(timeout=LIMIT))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def test_a_condition_is_never_left_taken() -> None:
    condition = Condition(threading.RLock())

    def use() -> None:
        with condition:
            condition.notify_all()
            condition.wait(0.001)

    for _ in interrupted_everywhere(lambda: use):
        assert is_free(condition)


@pytest.mark.parametrize("make", [Queue, PriorityQueue])
def test_a_queue_is_never_left_locked(make: Callable[[], janus.Queue[int]]) -> None:
    queue = make()
    # The private names of janus are still the same.
    plain: janus.Queue[int] = janus.Queue()
    assert vars(plain).keys() <= {*vars(queue).keys(), "_queue"}
    assert vars(queue).keys() <= {*vars(plain).keys(), "_heap_queue"}

    def use() -> None:
        queue.sync_q.put_nowait(1)
        queue.sync_q.get_nowait()

    for _ in interrupted_everywhere(lambda: use):
        assert is_free(queue._sync_mutex)


def test_a_post_after_an_interrupted_post_is_run() -> None:
    portal = acquire_portal()
    try:
        for _ in interrupted_everywhere(lambda: partial(portal.post, int)):
            reached = threading.Event()
            portal.post(reached.set)
            assert reached.wait(LIMIT)
    finally:
        portal.release()


# Python itself drops an interrupt that comes during the collection of a task.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_blocking_call_leaves_the_loop_alone() -> None:
    async def nothing() -> None:
        """Return immediately."""

    portal = acquire_portal()
    try:
        for _ in interrupted_everywhere(lambda: partial(portal.run, nothing, timeout=LIMIT)):
            portal.run(nothing, timeout=LIMIT)
            assert not portal._thread.tasks
    finally:
        portal.release()


class Sent:
    """Stands for a session."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.something = threading.Event()

    def send(self, messages: list[Any], size: int) -> None:
        self.messages += messages
        self.something.set()


def test_a_message_accepted_before_ctrl_c_is_sent_without_another() -> None:
    portal = acquire_portal()
    check: Callable[[int], None] = lambda size: None  # noqa: E731
    lock = threading.RLock()
    session: Any = None
    send_buffer: Any = None

    def prepare() -> Callable[[], Any]:
        nonlocal session, send_buffer
        session = current = Sent()
        engine: Any = lambda: current  # noqa: E731
        send_buffer = SendBuffer(portal, lock, Condition(lock), 1000, engine)
        return partial(send_buffer.enqueue_message, "one", 3, Deadline(0), check)

    try:
        for _ in interrupted_everywhere(prepare):
            if send_buffer._accepted:
                assert session.something.wait(LIMIT)
                assert session.messages == ["one"]
            assert is_free(lock)
    finally:
        portal.release()


def test_a_signal_handler_may_send_at_any_moment() -> None:
    portal = acquire_portal()
    check: Callable[[int], None] = lambda size: None  # noqa: E731
    lock = threading.RLock()
    session: Any = None
    send_buffer: Any = None

    def put(data: str) -> None:
        send_buffer.enqueue_message(data, len(data), Deadline(LIMIT), check)

    def prepare() -> Callable[[], Any]:
        nonlocal session, send_buffer
        session = current = Sent()
        engine: Any = lambda: current  # noqa: E731
        send_buffer = SendBuffer(portal, lock, Condition(lock), 1000, engine)
        return partial(put, "message")

    try:
        for interrupted in interrupted_everywhere(prepare, lambda: put("handler's")):
            wanted = ["handler's", "message"] if interrupted else ["message"]
            wait_until(lambda: sorted(session.messages) == wanted, "all of them", LIMIT)
    finally:
        portal.release()


def make_mailbox(dispatcher: Dispatcher) -> Mailbox:
    return Mailbox("mine", {"data": 1}, dispatcher, ended=lambda: NotReadyError("ended"))


def test_an_event_whose_reader_is_interrupted_goes_to_the_next() -> None:
    mailbox: Any = None

    def prepare() -> Callable[[], Any]:
        nonlocal mailbox
        mailbox = make_mailbox(Dispatcher("test"))
        mailbox.emit_all("data", [("one",), ("two",)], lambda data: None)
        return take

    def take() -> Any:
        return mailbox.get("data", Deadline(LIMIT), "data", observe=False)

    for interrupted in interrupted_everywhere(prepare):
        assert is_free(mailbox._lock)
        assert take() == (("one",) if interrupted else ("two",))


def test_an_interrupted_reader_stops_waiting() -> None:
    mailbox = make_mailbox(Dispatcher("test"))

    def take() -> Any:
        with suppress(ArticoTimeoutError):
            mailbox.get("data", Deadline(0.001), "data", observe=False)

    for _ in interrupted_everywhere(lambda: take):
        mailbox.emit("data", "for others")
        assert mailbox.get("data", Deadline(0), "data", observe=False) == ("for others",)


def test_a_handler_whose_registration_is_interrupted_gets_what_comes() -> None:
    dispatcher = Dispatcher("test")
    # Its thread runs all the time: interrupts while Python starts one are not tested here.
    marks = make_mailbox(dispatcher)
    marks.on("data", lambda reached: reached.set())
    heard: list[Any] = []
    mailbox: Any = None

    def hear(data: Any) -> None:
        heard.append(data)

    def settle() -> None:
        reached = threading.Event()
        marks.emit("data", reached)
        assert reached.wait(LIMIT)

    def prepare() -> Callable[[], Any]:
        nonlocal mailbox
        settle()
        mailbox = make_mailbox(dispatcher)
        mailbox.emit("data", "pending")
        heard.clear()
        return partial(mailbox.on, "data", hear)

    for _ in interrupted_everywhere(prepare):
        if mailbox._handlers["data"]:
            mailbox.emit("data", "later")
            settle()
            assert heard == ["pending", "later"]
    assert dispatcher.stop(Deadline(LIMIT))
