"""Checks of arguments: what they accept, and what the errors say."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from typing import Any

import pytest

from artico_sync._checks import (
    LONGEST_SECONDS,
    check_callable,
    check_instance,
    check_number,
    check_optional_text,
    check_seconds,
    check_text,
    check_timeout,
    check_unicode,
    check_whole,
)
from artico_sync.media import MediaStream


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, None), (0, 0.0), (1.5, 1.5), (Fraction(1, 2), 0.5), (math.inf, None), (10**400, None)],
)
def test_timeouts_accepted(given: Any, seconds: float | None) -> None:
    assert check_timeout(given) == seconds


def test_timeouts_as_numbers_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert check_timeout(numpy.float32(0.5)) == 0.5
    assert check_timeout(numpy.int64(3)) == 3.0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("1", TypeError),
        (True, TypeError),
        (1j, TypeError),
        (-1, ValueError),
        (math.nan, ValueError),
        (-(10**400), ValueError),
    ],
)
def test_timeouts_refused(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout"):
        check_timeout(given)


def test_text() -> None:
    assert check_text("url", "x") == check_optional_text("url", "x") == "x"
    assert check_optional_text("url", None) is None
    with pytest.raises(TypeError, match="^url must be a str, not NoneType$"):
        check_text("url", None)
    with pytest.raises(TypeError, match="^url must be a str or None, not bytes$"):
        check_optional_text("url", b"x")


def test_surrogates_that_stand_alone() -> None:
    check_unicode("\U0001f600 and plain")
    with pytest.raises(UnicodeEncodeError):
        check_unicode("\ud83d")


def test_instances() -> None:
    stream = MediaStream()
    assert check_instance("stream", stream, MediaStream) is stream
    with pytest.raises(TypeError, match="^stream must be a MediaStream, not int$"):
        check_instance("stream", 1, MediaStream)
    with pytest.raises(TypeError, match="^error must be an ArithmeticError, not int$"):
        check_instance("error", 1, ArithmeticError)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.0, TypeError, "size must be a whole number of bytes, not float"),
        (True, TypeError, "size must be a whole number of bytes, not bool"),
        (1, ValueError, "size must be at least 2 bytes, not 1"),
        (6, ValueError, "size must be at most 5 bytes, not 6"),
    ],
)
def test_whole_numbers_refused(value: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        check_whole("size", value, least=2, most=5, unit="bytes")


def test_whole_numbers_accepted() -> None:
    assert [check_whole("size", size, least=2, most=5) for size in (2, 5)] == [2, 5]
    assert check_whole("size", -1) == -1
    with pytest.raises(TypeError, match="^size must be a whole number, not str$"):
        check_whole("size", "1")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("30", TypeError, "fps must be a number, not str"),
        (True, TypeError, "fps must be a number, not bool"),
        (0, ValueError, "fps must be above 0, not 0"),
        (math.nan, ValueError, "fps must be above 0, not nan"),
        (1001, ValueError, "fps must be at most 1000, not 1001"),
    ],
)
def test_numbers_refused(value: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        check_number("fps", value, above=0, most=1000)


def test_numbers_accepted() -> None:
    assert check_number("fps", 30, above=0, most=1000) == 30.0
    with pytest.raises(ValueError, match="at most"):
        check_number("fps", math.nan, most=1000)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (None, TypeError, "interval must be seconds, not NoneType"),
        (True, TypeError, "interval must be seconds, not bool"),
        (0.01, ValueError, "interval must be at least 0.05 seconds, not 0.01"),
        (math.nan, ValueError, "interval must be at least 0.05 seconds, not nan"),
    ],
)
def test_seconds_refused(value: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        check_seconds("interval", value, least=0.05)


def test_seconds_accepted() -> None:
    assert check_seconds("interval", 0.05, least=0.05) == 0.05
    assert check_seconds("ring_timeout", math.inf) == LONGEST_SECONDS
    for value in (0, math.nan):
        with pytest.raises(ValueError, match="ring_timeout must be more than 0 seconds"):
            check_seconds("ring_timeout", value)


async def coroutine_function() -> None:
    """Stand for a handler that no loop would await."""


async def generator_function() -> AsyncIterator[None]:
    yield


class AsynchronousCall:
    async def __call__(self) -> None:
        """The same, in an object."""


@pytest.mark.parametrize(
    "function", [coroutine_function, generator_function, AsynchronousCall()], ids=["a", "b", "c"]
)
def test_coroutine_functions_are_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="auth must be a plain function.*coroutine"):
        check_callable("auth", function)


def test_callables() -> None:
    assert check_callable("auth", len) is len
    with pytest.raises(TypeError, match="^auth must be callable, not int$"):
        check_callable("auth", 1)  # type: ignore[type-var]
