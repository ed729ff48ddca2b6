"""The only place that names a private name of aiortc, aioice, pyOpenSSL or janus.

Classes here derive from those of these libraries and give public names to what the rest of
`_webrtc` needs: an `Alias` for an attribute or a method, and a method for each hook that their code
calls.
"""

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
