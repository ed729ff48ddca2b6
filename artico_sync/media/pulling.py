"""What a track pulls its frames from: an iterable, a function, a remote track; worker threads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from artico_sync._bridge.streams import FrameReader
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.errors import MediaError
from artico_sync.media.arrays import array_of


def check_function(function: object) -> None:
    """Refuse what a worker thread cannot call.

    Raises:
        TypeError: Not callable, or a coroutine function.
    """
    if not callable(function):
        raise TypeError(f"expected a function, not {type(function).__name__}")
    call = getattr(type(function), "__call__", None)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        raise TypeError(
            "expected a plain function, which may block: nobody would await a coroutine function"
        )


def items_of(
    source: Iterable[Any] | Callable[[], Any], flush: Callable[[], None] | None = None
) -> Iterator[Any]:
    """The items of an iterable or of a function called again and again, until None.

    Raises:
        TypeError: Neither of the two, or a coroutine function.
    """
    if not callable(source) and not isinstance(source, Iterable):
        raise TypeError(f"expected an iterable or a function, not {type(source).__name__}")
    if not isinstance(source, Iterable):
        check_function(source)

    def items() -> Iterator[Any]:
        if isinstance(source, Iterable):
            yield from source
        else:
            while (item := source()) is not None:
                yield item
        if flush is not None:
            flush()

    return items()


class MappedItems(Iterator[Any]):
    """What a function makes of the frames of a remote track; an interrupted wait can go on
    later."""

    def __init__(self, reader: FrameReader, function: Callable[[Any], Any]) -> None:
        check_function(function)
        self._reader = reader
        self._function = function

    def __next__(self) -> Any:
        try:
            frame, _ = self._reader.get(Deadline(None))
        except MediaError:
            # The end of the track it is made from ends the track.
            raise StopIteration from None
        return self._function(array_of(frame))
