"""What a track pulls its frames from: an iterable, a function, a remote track; worker threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from artico_sync.bridge.frames import FrameReader
from artico_sync.bridge.waiting import Deadline
from artico_sync.errors import MediaError
from artico_sync.media.arrays import array_of


def items_of(
    source: Iterable[Any] | Callable[[], Any], flush: Callable[[], None] | None = None
) -> Iterator[Any]:
    """The items of an iterable or of a function called again and again, until None.

    Raises:
        TypeError: Neither of the two.
    """
    if not callable(source) and not isinstance(source, Iterable):
        raise TypeError(f"expected an iterable or a function, not {type(source).__name__}")

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
        self._reader = reader
        self._function = function

    def __next__(self) -> Any:
        try:
            frame, _ = self._reader.get(Deadline(None))
        except MediaError:
            # The end of the track it is made from ends the track.
            raise StopIteration from None
        return self._function(array_of(frame))
