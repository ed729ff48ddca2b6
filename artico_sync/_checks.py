"""Checks of the use of public functions and objects.

A function checks an argument: it returns the argument, or raises `TypeError` for a wrong type and
`ValueError` for a wrong value, with a message that names the argument and says what it must be.
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, SupportsIndex, TypeVar

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

#: Seconds that stand for "without limit" where a number is needed: 31 years.
LONGEST_SECONDS = 1e9


def type_name(value: object) -> str:
    """Return the name of a value's type, as error messages have it."""
    return type(value).__name__


def check_text(name: str, value: object) -> str:
    """Return a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type_name(value)}")
    return value


def check_optional_text(name: str, value: object) -> str | None:
    """Return a str or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type_name(value)}")
    return value


def check_unicode(text: str) -> None:
    """Refuse text that cannot be sent, because surrogates stand alone in it.

    Raises:
        UnicodeEncodeError: A `ValueError`.
    """
    if not text.isascii():
        text.encode()


def check_instance(name: str, value: object, kind: type[T]) -> T:
    """Return an object of a class."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{name} must be {article} {kind.__name__}, not {type_name(value)}")
    return value


def check_whole(
    name: str,
    value: object,
    *,
    least: int | None = None,
    most: int | None = None,
    unit: str = "",
) -> int:
    """Return an int, within limits that are allowed themselves.

    Args:
        unit: Such as "bytes", for the messages.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        of_unit = f" of {unit}" if unit else ""
        raise TypeError(f"{name} must be a whole number{of_unit}, not {type_name(value)}")
    after = f" {unit}" if unit else ""
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}{after}, not {value}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}{after}, not {value}")
    return value


def check_number(
    name: str, value: object, *, above: float | None = None, most: float | None = None
) -> float:
    """Return a number as a float.

    Args:
        above: It must be larger than this.
        most: The largest allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type_name(value)}")
    if above is not None and not value > above:
        raise ValueError(f"{name} must be above {above:g}, not {value}")
    if most is not None and not value <= most:
        raise ValueError(f"{name} must be at most {most:g}, not {value}")
    return float(value)


def check_seconds(name: str, value: object, *, least: float | None = None) -> float:
    """Return a duration in seconds, cut to `LONGEST_SECONDS`.

    Args:
        least: The shortest allowed; without it, any above 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be seconds, not {type_name(value)}")
    if least is None and not value > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")
    if least is not None and not value >= least:
        raise ValueError(f"{name} must be at least {least:g} seconds, not {value}")
    return float(min(value, LONGEST_SECONDS))


def check_timeout(timeout: object) -> float | None:
    """Return a timeout in seconds, None for one without limit; infinity is one."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real):
        raise TypeError(f"timeout must be seconds or None, not {type_name(timeout)}")
    try:
        seconds = float(timeout)
    except OverflowError:
        # An int beyond all floats.
        seconds = -math.inf if timeout < 0 else math.inf
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"timeout must be 0 or more seconds, not {seconds}")
    return None if math.isinf(seconds) else abs(seconds)


def check_callable(name: str, value: FunctionT) -> FunctionT:
    """Return a function or another callable, unless calling it makes a coroutine."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type_name(value)}")
    for function in (value, getattr(type(value), "__call__", None)):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{name} must be a plain function, which may block, not a coroutine function"
            )
    return value


class NotCopyable:
    """Refuses to be copied or pickled."""

    #: Advice for the error message.
    _copy_hint: ClassVar[str]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # `copy`, `deepcopy`, `pickle` and so `multiprocessing` all call it.
        raise TypeError(f"{type(self).__name__} cannot be copied or pickled: {self._copy_hint}")
