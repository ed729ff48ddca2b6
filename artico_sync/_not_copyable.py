"""Objects that stand for something live, of which a copy would be a lie; any thread."""

from __future__ import annotations

from typing import ClassVar, NoReturn, SupportsIndex


class NotCopyable:
    """Base of what can be neither copied nor pickled: there is one connection, call or track."""

    #: What to do instead.
    _copy_hint: ClassVar[str]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # `copy`, `deepcopy`, `pickle` and so `multiprocessing` all ask here.
        raise TypeError(f"{type(self).__name__} cannot be copied or pickled: {self._copy_hint}")
