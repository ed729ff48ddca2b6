"""Pending events, late handlers and waiting threads of a mailbox; each event comes exactly once."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.mailbox import PENDING_LIMIT, Mailbox
from artico_sync._bridge.waiting.deadline import Deadline, Waiter
from artico_sync.errors import ArticoTimeoutError, NotReadyError
from tests.blocking import Blocked
from tests.polling import wait_until

EVENTS = {"open": 0, "data": 1, "call": 2, "error": 1, "close": 0}


class Box:
    """A mailbox with its dispatcher."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher("test")
        self.mailbox = Mailbox(
            "object under test",
            EVENTS,
            self.dispatcher,
            ended=lambda: NotReadyError("ended"),
            unbounded=frozenset({"data"}),
        )

    def take(self, name: str = "data", timeout: float | None = 5, *, observe: bool = False) -> Any:
        return self.mailbox.get(name, Deadline(timeout), f"a {name}", observe=observe)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A handler is at it all the while, so that none gets another event."""
        entered, go_on = threading.Event(), threading.Event()

        def wait(error: Any) -> None:
            entered.set()
            assert go_on.wait(10)

        self.mailbox.on("error", wait, once=True)
        self.mailbox.emit("error", ValueError("to be handled"))
        assert entered.wait(10)
        try:
            yield
        finally:
            go_on.set()
            self.settle()

    def settle(self) -> None:
        """Wait until every handler that has something to do has done it."""
        assert self.dispatcher.stop(Deadline(5))
        self.dispatcher.resume()


@pytest.fixture
def box() -> Iterator[Box]:
    box = Box()
    yield box
    box.settle()


def test_kept_events_come_in_order(box: Box) -> None:
    for number in range(5):
        box.mailbox.emit("data", number)
    assert [box.take()[0] for _ in range(5)] == [0, 1, 2, 3, 4]


def test_take_blocks_until_an_event_comes(box: Box) -> None:
    with Blocked(box.take) as blocked:
        box.mailbox.emit("data", "now")
    assert blocked.result() == ("now",)


def test_polling_an_empty_mailbox_times_out_at_once(box: Box) -> None:
    with pytest.raises(ArticoTimeoutError, match="a data"):
        box.take(timeout=0)


def test_late_handler_gets_what_was_kept(box: Box) -> None:
    seen: list[Any] = []
    for number in range(3):
        box.mailbox.emit("data", number)
    box.mailbox.on("data", seen.append)
    box.mailbox.emit("data", 3)
    box.settle()
    assert seen == [0, 1, 2, 3]
    with pytest.raises(ArticoTimeoutError):
        box.mailbox.off("data", None)
        box.take(timeout=0)


def test_events_keep_their_order_across_names(box: Box) -> None:
    seen: list[Any] = []
    box.mailbox.on("data", seen.append)
    box.mailbox.on("open", lambda: seen.append("open"))
    box.mailbox.emit("data", 1)
    box.mailbox.emit("open")
    box.mailbox.emit("data", 2)
    box.settle()
    assert seen == [1, "open", 2]


def test_once_takes_one_event_and_the_rest_is_kept(box: Box) -> None:
    seen: list[Any] = []
    box.mailbox.on("data", seen.append, once=True)
    for number in range(3):
        box.mailbox.emit("data", number)
    box.settle()
    assert seen == [0]
    assert [box.take()[0], box.take()[0]] == [1, 2]


def test_removed_handler_gets_nothing_more(box: Box) -> None:
    seen: list[Any] = []
    box.mailbox.on("data", seen.append)
    box.mailbox.off("data", seen.append)
    box.mailbox.emit("data", "pending")
    assert box.take() == ("pending",)
    assert seen == []


def test_a_handler_registered_later_has_precedence_over_a_blocked_thread(box: Box) -> None:
    seen: list[Any] = []
    with Blocked(box.take) as blocked:
        box.mailbox.on("data", seen.append)
        box.mailbox.emit("data", "for the handler")
        box.settle()
        box.mailbox.off("data", None)
        box.mailbox.emit("data", "for the thread")
    assert blocked.result() == ("for the thread",)
    assert seen == ["for the handler"]


def test_wait_beside_a_handler_sees_the_event_as_well(box: Box) -> None:
    seen: list[Any] = []
    box.mailbox.on("call", lambda call: seen.append(call))
    with Blocked(functools.partial(box.take, "call", observe=True)) as blocked:
        box.mailbox.emit("call", "a call", "its metadata")
    box.settle()
    assert blocked.result() == ("a call", "its metadata")
    assert seen == ["a call"]


def test_who_waits_as_the_first_handler_comes_sees_the_next_event_as_well(box: Box) -> None:
    heard: list[Any] = []
    with Blocked(functools.partial(box.take, "call", observe=True)) as blocked:
        box.mailbox.on("call", heard.append)
        box.mailbox.emit("call", "a call", "metadata")
    assert blocked.result() == ("a call", "metadata")
    box.settle()
    assert heard == ["a call"]


def test_who_waits_beside_a_handler_takes_the_next_event_once_it_is_gone(box: Box) -> None:
    heard: list[Any] = []
    box.mailbox.on("data", heard.append)
    with Blocked(functools.partial(box.take, observe=True)) as blocked:
        box.mailbox.off("data", heard.append)
        box.mailbox.emit("data", "for the waiting thread")
    assert blocked.result() == ("for the waiting thread",)
    assert not heard and not box.mailbox.pending_count("data")


def test_who_waits_beside_a_handler_of_one_event_takes_the_one_after_it(box: Box) -> None:
    heard: list[Any] = []
    with box.busy():
        box.mailbox.on("data", heard.append, once=True)
        box.mailbox.emit("data", "handled")
        with Blocked(functools.partial(box.take, observe=True)) as blocked:
            assert box.mailbox._observers["data"]
            box.mailbox.dispatch("data", sys.maxsize)
            box.mailbox.emit("data", "for the waiting thread")
    assert blocked.result() == ("for the waiting thread",)
    assert heard == ["handled"]


def test_each_event_goes_to_exactly_one_of_many_threads(box: Box) -> None:
    count = 200
    results: list[Any] = []

    def take_share() -> None:
        results.extend(box.take()[0] for _ in range(count // 4))

    threads = [threading.Thread(target=take_share) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(count):
        box.mailbox.emit("data", number)
    for thread in threads:
        thread.join(10)
    assert sorted(results) == list(range(count))


def test_a_batch_is_taken_in_order_and_each_is_consumed(box: Box) -> None:
    consumed: list[int] = []
    with Blocked(box.take) as blocked:
        box.mailbox.emit_all("data", [(number,) for number in range(3)], consumed.append)
    assert blocked.result() == (0,)
    assert [box.take()[0], box.take()[0]] == [1, 2]
    assert consumed == [0, 1, 2]


def test_an_event_handed_over_in_the_moment_of_ctrl_c_is_not_lost(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(waiter: Waiter[Any], deadline: Deadline) -> None:
        box.mailbox.emit("data", "for others")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Waiter, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            box.take()
    box.mailbox.emit("data", "later")
    assert [box.take()[0], box.take()[0]] == ["for others", "later"]


def test_the_end_releases_those_who_wait_after_what_was_kept(box: Box) -> None:
    box.mailbox.emit("data", "last")
    box.mailbox.finish()
    assert box.take() == ("last",)
    with pytest.raises(NotReadyError, match="ended"):
        box.take(timeout=None)


def test_the_end_releases_a_blocked_thread(box: Box) -> None:
    with Blocked(functools.partial(box.take, timeout=None)) as blocked:
        box.mailbox.finish()
    with pytest.raises(NotReadyError):
        blocked.result()


def test_waiting_for_close_after_the_end_returns(box: Box) -> None:
    box.mailbox.emit("close")
    box.mailbox.finish()
    assert not box.take("close", observe=True)
    assert not box.take("close", observe=True)


def test_after_the_end_what_waits_for_a_handler_is_not_taken_from_it(box: Box) -> None:
    heard: list[Any] = []
    with box.busy():
        for name in ("data", "close"):
            box.mailbox.on(name, lambda *arguments: heard.append(arguments))
        box.mailbox.emit("data", "handled")
        box.mailbox.emit("close")
        box.mailbox.finish()
        with pytest.raises(NotReadyError, match="ended"):
            box.take()
        assert box.take("close", observe=True) is None
    assert heard == [("handled",), ()]


@pytest.mark.parametrize("observe", [False, True])
def test_after_the_end_what_a_handler_leaves_can_be_taken(box: Box, observe: bool) -> None:
    heard: list[Any] = []
    with box.busy():
        box.mailbox.on("data", heard.append, once=True)
        box.mailbox.emit_all("data", [("handled",), ("left",)])
        box.mailbox.finish()
        blocked = Blocked(functools.partial(box.take, observe=observe))
        blocked.__enter__()
    blocked.__exit__(None, None, None)
    assert blocked.result() == ("left",)
    assert heard == ["handled"]
    with pytest.raises(NotReadyError, match="ended"):
        box.take(observe=observe)


def test_a_handler_registered_after_the_end_gets_what_was_kept(box: Box) -> None:
    box.mailbox.emit("open")
    box.mailbox.finish()
    opened = threading.Event()
    box.mailbox.on("open", opened.set)
    assert opened.wait(5)


def test_reopened_mailbox_takes_events_again(box: Box) -> None:
    box.mailbox.emit("data", "before")
    box.mailbox.finish()
    box.mailbox.reopen()
    box.mailbox.emit("data", "after")
    assert [box.take()[0], box.take()[0]] == ["before", "after"]


def test_unhandled_events_are_bounded_with_one_warning(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(PENDING_LIMIT + 50):
        box.mailbox.emit("call", number, None)
    box.mailbox.emit("open")
    assert box.take("call")[0] == 51
    assert (
        box.mailbox.pending_count("call") + box.mailbox.pending_count("open") == PENDING_LIMIT - 1
    )
    assert sum("no handler gets" in record.message for record in caplog.records) == 1


def test_messages_are_not_bounded_by_number(box: Box) -> None:
    for number in range(PENDING_LIMIT + 50):
        box.mailbox.emit("data", number)
    assert box.mailbox.pending_count("data") == PENDING_LIMIT + 50


def test_events_for_a_busy_handler_are_bounded_with_one_warning(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    box.mailbox.on("call", seen.append)
    box.mailbox.on("close", lambda: seen.append("close"))
    with box.busy():
        for number in range(PENDING_LIMIT + 50):
            box.mailbox.emit("call", number, None)
        box.mailbox.emit("close")
        assert (
            box.mailbox.pending_count("call") + box.mailbox.pending_count("close") == PENDING_LIMIT
        )
        # Nor does the dispatcher keep anything of those that were dropped.
        assert box.dispatcher._queue.sync_q.qsize() <= 2
    assert seen == [*range(51, PENDING_LIMIT + 50), "close"]
    assert sum("not fast enough" in record.message for record in caplog.records) == 1


def test_no_event_is_delivered_in_place_of_a_dropped_one(box: Box) -> None:
    seen: list[Any] = []
    box.mailbox.on("call", lambda call: seen.append(call))
    box.mailbox.on("open", lambda: seen.append("open"))
    with box.busy():
        box.mailbox.emit("call", "dropped", None)
        box.mailbox.emit("open")
        for number in range(PENDING_LIMIT - 1):
            box.mailbox.emit("call", number, None)
    assert seen == ["open", *range(PENDING_LIMIT - 1)]


def test_messages_for_a_busy_handler_are_not_bounded_by_number(box: Box) -> None:
    seen: list[Any] = []
    box.mailbox.on("data", seen.append)
    box.mailbox.on("open", lambda: seen.append("open"))
    with box.busy():
        box.mailbox.emit("data", 0)
        for _ in range(PENDING_LIMIT + 50):
            box.mailbox.emit("open")
        box.mailbox.emit_all("data", [(number,) for number in range(1, PENDING_LIMIT + 50)])
    assert seen == [0, *["open"] * PENDING_LIMIT, *range(1, PENDING_LIMIT + 50)]


def test_events_of_several_objects_come_in_the_order_in_which_they_happened(box: Box) -> None:
    seen: list[Any] = []
    other = Mailbox("another", EVENTS, box.dispatcher, ended=lambda: NotReadyError("ended"))
    with box.busy():
        for mailbox in (box.mailbox, other):
            mailbox.on("call", lambda call: seen.append(call))
        for number in range(0, 30, 3):
            box.mailbox.emit("call", number, None)
            other.emit("call", number + 1, None)
            other.emit("call", number + 2, None)
    assert seen == list(range(30))


@pytest.mark.logs_errors
def test_an_error_without_a_handler_is_logged_and_stays_pending(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.mailbox.emit("error", ValueError("what happened"))
    assert "what happened" in caplog.text
    assert isinstance(box.take("error")[0], ValueError)


@pytest.mark.logs_errors
def test_an_exception_in_a_handler_ends_nothing(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    def faulty(data: Any) -> None:
        raise RuntimeError("the user's fault")

    box.mailbox.on("data", faulty)
    box.mailbox.on("data", lambda data: sys.exit(3))
    box.mailbox.on("data", seen.append)
    box.mailbox.emit("data", 1)
    box.mailbox.emit("data", 2)
    box.settle()
    assert seen == [1, 2]
    assert "the user's fault" in caplog.text and "Traceback" in caplog.text
    assert "SystemExit: 3" in caplog.text


def test_consumed_is_reported_after_the_handler_returned(box: Box) -> None:
    order: list[str] = []
    box.mailbox.on("data", lambda data: order.append("handled"))
    box.mailbox.emit_all("data", [(1,)], on_consumed=lambda data: order.append("consumed"))
    box.settle()
    assert order == ["handled", "consumed"]


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (lambda seen: lambda: seen.append(()), [()]),
        (lambda seen: lambda call: seen.append((call,)), [("c",)]),
        (lambda seen: lambda call, metadata: seen.append((call, metadata)), [("c", "m")]),
        (lambda seen: lambda *all: seen.append(all), [("c", "m")]),
        (
            lambda seen: lambda call, metadata=None, more=1: seen.append((call, metadata)),
            [("c", "m")],
        ),
    ],
)
def test_handlers_may_declare_fewer_parameters(
    box: Box, handler: Callable[[list[Any]], Callable[..., Any]], expected: list[Any]
) -> None:
    seen: list[Any] = []
    box.mailbox.on("call", handler(seen))
    box.mailbox.emit("call", "c", "m")
    box.settle()
    assert seen == expected


async def coroutine(*arguments: Any) -> None: ...


class WithAsyncCall:
    async def __call__(self, *arguments: Any) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        coroutine,
        functools.partial(coroutine, 1),
        WithAsyncCall(),
        "no function",
        lambda call, metadata, more: None,
        lambda call, *, needed: None,
    ],
)
def test_unfit_handlers_are_refused(box: Box, handler: Any) -> None:
    with pytest.raises(TypeError, match="call"):
        box.mailbox.on("call", handler)


def test_a_dispatcher_that_is_stopped_twice_while_it_is_busy_ends(box: Box) -> None:
    """It once went round and round between the two orders."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(data: str) -> None:
        entered.set()
        assert go_on.wait(10)

    box.mailbox.on("data", slow)
    box.mailbox.emit("data", "first")
    assert entered.wait(10)
    for _ in range(2):
        assert not box.dispatcher.stop(Deadline(0))
    go_on.set()
    assert box.dispatcher.stop(Deadline(10))


def test_a_dispatcher_that_waits_keeps_nothing_alive(box: Box) -> None:
    mailbox = Mailbox("other", {"data": 1}, box.dispatcher, ended=lambda: NotReadyError("ended"))
    heard = threading.Event()
    mailbox.on("data", lambda data: heard.set())
    mailbox.emit("data", "last")
    assert heard.wait(10)
    gone = weakref.ref(mailbox)
    del mailbox

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    wait_until(is_gone, "the end of the mailbox", 10)


def test_a_dispatcher_that_is_resumed_while_it_is_busy_goes_on(box: Box) -> None:
    entered, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def slow(data: str) -> None:
        entered.set()
        assert go_on.wait(10)
        if data == "second":
            done.set()

    box.mailbox.on("data", slow)
    box.mailbox.emit("data", "first")
    assert entered.wait(10)
    assert not box.dispatcher.stop(Deadline(0))
    box.dispatcher.resume()
    go_on.set()
    box.mailbox.emit("data", "second")
    assert done.wait(10)
