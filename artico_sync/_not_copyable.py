"""The base of objects that cannot be copied, because each is one live connection, call or track."""

from __future__ import annotations

from typing import ClassVar, NoReturn, SupportsIndex


class NotCopyable:
    """Refuses to be copied or pickled."""

    #: Advice for the error message.
    _copy_hint: ClassVar[str]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # `copy`, `deepcopy`, `pickle` and so `multiprocessing` all call it.
        raise TypeError(f"{type(self).__name__} cannot be copied or pickled: {self._copy_hint}")
