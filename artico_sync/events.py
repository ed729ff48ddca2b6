"""Events as users see them: `on`, `once`, `off` and `wait_for`; user threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._not_copyable import NotCopyable

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


class EventEmitter(NotCopyable):
    """Base of the objects that emit events; every method may be called from any thread."""

    _EVENTS: dict[str, int] = {}

    def _mailbox_of(self) -> Mailbox:
        raise AssertionError("a subclass says where its events are kept")

    def _check_process(self) -> None:
        """Refuse any use in a forked child of the process that connected."""

    def _check_wait(self) -> None:
        """Refuse a blocking call that cannot work on this thread or in this process."""

    def _check_event(self, event: str) -> str:
        if not isinstance(event, str):
            raise TypeError(f"the event name must be a str, not {type(event).__name__}")
        if event not in self._EVENTS:
            raise ValueError(
                f"unknown event {event!r}; the events are {', '.join(sorted(self._EVENTS))}"
            )
        return event

    @overload
    def on(self, event: str, handler: None = None) -> Callable[[HandlerT], HandlerT]: ...

    @overload
    def on(self, event: str, handler: HandlerT) -> HandlerT: ...

    def on(self, event: str, handler: HandlerT | None = None) -> Any:
        """Have `handler` called for every event of that name, those kept so far included.

        Handlers run on one dispatcher thread per client, one at a time and in the order of the
        events; they may block and call anything here. A handler may take fewer arguments than the
        event has. An exception in one is logged, and ends nothing.

        Example:
            >>> @call.on("data")
            ... def answer(text):
            ...     call.send(text.upper())
            >>> incoming.send("hello")
            >>> incoming.recv(timeout=5)
            'HELLO'

        Args:
            event: The event's name.
            handler: Called with the event's arguments. Left out, `on` works as a decorator.

        Returns:
            The handler, or the decorator.

        Raises:
            ValueError: Unknown event; the message names the valid ones.
            ForkError: Connected in another process.
            TypeError: The handler is not callable, is a coroutine function, or needs more
                arguments.
        """
        return self._register(event, handler, once=False)

    @overload
    def once(self, event: str, handler: None = None) -> Callable[[HandlerT], HandlerT]: ...

    @overload
    def once(self, event: str, handler: HandlerT) -> HandlerT: ...

    def once(self, event: str, handler: HandlerT | None = None) -> Any:
        """Like `on`, for the next event only.

        Example:
            >>> @call.once("data")
            ... def first(text):
            ...     call.send(f"first: {text}")
            >>> incoming.send("one")
            >>> incoming.send("two")
            >>> incoming.recv(timeout=5), call.recv(timeout=5)
            ('first: one', 'two')

        Args:
            event: The event's name.
            handler: Called with the event's arguments. Left out, `once` works as a decorator.

        Returns:
            The handler, or the decorator.

        Raises:
            ValueError: Unknown event; the message names the valid ones.
            ForkError: Connected in another process.
            TypeError: The handler is not callable, is a coroutine function, or needs more
                arguments.
        """
        return self._register(event, handler, once=True)

    def _register(self, event: str, handler: HandlerT | None, *, once: bool) -> Any:
        self._check_event(event)
        self._check_process()
        if handler is not None:
            self._mailbox_of().on(event, handler, once=once)
            return handler

        def decorate(function: HandlerT) -> HandlerT:
            self._mailbox_of().on(event, function, once=once)
            return function

        return decorate

    def off(self, event: str, handler: Callable[..., Any] | None = None) -> None:
        """Remove a handler, or without one all handlers of the event; what is not registered is
        ignored.

        Example:
            >>> heard = []
            >>> handler = call.on("data", heard.append)
            >>> call.off("data", handler)
            >>> incoming.send("hello")
            >>> call.recv(timeout=5), heard
            ('hello', [])

        Args:
            event: The event's name.
            handler: What `on` was given; None for all.

        Raises:
            TypeError: The event's name is not a str.
            ValueError: Unknown event.
            ForkError: Connected in another process.
        """
        self._check_event(event)
        self._check_process()
        self._mailbox_of().off(event, handler)

    def wait_for(self, event: str, timeout: float | None = None) -> Any:
        """Block for the next event of a name: a kept one if there is one, else the next to come.

        Example:
            >>> carol = Artico(server.url, id="carol").connect()
            >>> ringing = rtco.call("carol", metadata="about lunch")
            >>> carol.wait_for("call", timeout=5).metadata
            'about lunch'

        Args:
            event: The event's name.
            timeout: Seconds to wait; None for ever, 0 polls.

        Returns:
            The event's first argument, or None where it has none.

        Raises:
            ArticoTimeoutError: The time ran out.
            CallClosedError: It is a call's event and the call is over (`NotReadyError` for a
                client).
            ValueError: Unknown event.
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        self._check_event(event)
        deadline = Deadline(timeout)
        self._check_wait()
        arguments = self._mailbox_of().take(event, deadline, f"the event {event!r}", observe=True)
        return arguments[0] if arguments else None
