"""A public name for a private attribute of a base class."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Alias(Generic[T]):
    """A descriptor that reads and sets an attribute under another name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, owner: Any, kind: type[Any] | None = None) -> T:
        found: T = getattr(owner, self._name)
        return found

    def __set__(self, owner: Any, value: T) -> None:
        setattr(owner, self._name, value)
