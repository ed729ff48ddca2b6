"""The DTLS records that carry data, encrypted and decrypted; loop thread.

pyOpenSSL gives up the interpreter's lock for each step of a record. Beside a thread that computes
each time costs a turn of that thread's, which is longer than all the steps together.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from OpenSSL import SSL

from artico_sync._speedups.gso import RUN_LENGTH_MAXIMUM, RUN_MAXIMUM

logger = logging.getLogger(__name__)

HEADER = 13
#: A record holds at most this many bytes of data, and less than so many beside it.
RECORD_MAXIMUM = 16 * 1024
RECORD_OVERHEAD = 128
SMALL = 2048


def runs(packets: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Divide packets into what one call of the system's can send: packets of equal size, of which
    the last may be smaller."""
    begin = room = 0
    for index, packet in enumerate(packets):
        needed = len(packet) + RECORD_OVERHEAD
        if index > begin and (
            index - begin == RUN_LENGTH_MAXIMUM
            or room + needed > RUN_MAXIMUM
            or not len(packets[index - 1]) == len(packets[begin]) >= len(packet)
        ):
            yield packets[begin:index]
            begin, room = index, 0
        room += needed
    yield packets[begin:]


class Records(Protocol):
    """The data of one DTLS connection whose handshake is over."""

    def encrypt(self, packets: Sequence[bytes]) -> bytes | memoryview:
        """The records of packets, one after another; valid until the next call.

        Raises SSL.Error.
        """

    def decrypt(self, record: bytes) -> bytes:
        """The packet in a record. Raises SSL.Error when it is not authentic."""


class PlainRecords:
    """As pyOpenSSL does it."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def encrypt(self, packets: Sequence[bytes]) -> bytes:
        room = 0
        for packet in packets:
            self._connection.send(packet)
            room += len(packet) + RECORD_OVERHEAD
        return self._connection.bio_read(room)

    def decrypt(self, record: bytes) -> bytes:
        self._connection.bio_write(record)
        return self._connection.recv(len(record))


class GilHeldRecords:
    """Calls OpenSSL, pyOpenSSL's, without giving up the interpreter's lock."""

    def __init__(self, connection: SSL.Connection, functions: _Functions) -> None:
        import ctypes

        self._connection = connection
        self._functions = functions
        self._ssl: int = functions.address(connection._ssl)
        self._into_ssl: int = functions.address(connection._into_ssl)
        self._from_ssl: int = functions.address(connection._from_ssl)
        self._make_buffer = ctypes.create_string_buffer
        self._bytes_at = ctypes.string_at
        # Most calls carry little: the buffers grow once they must.
        self._incoming = self._make_buffer(SMALL)
        self._outgoing = self._make_buffer(SMALL)
        self._view = memoryview(self._outgoing).cast("B")

    def encrypt(self, packets: Sequence[bytes]) -> memoryview:
        write = self._functions.write
        room = 0
        for packet in packets:
            result = write(self._ssl, packet, len(packet))
            if result <= 0:
                self._connection._raise_ssl_error(self._connection._ssl, result)
            room += len(packet) + RECORD_OVERHEAD
        if room > len(self._view):
            self._outgoing = self._make_buffer(max(room, RUN_MAXIMUM))
            self._view = memoryview(self._outgoing).cast("B")
        size = self._functions.take(self._from_ssl, self._outgoing, room)
        if size <= 0:
            raise SSL.WantReadError
        return self._view[:size]

    def decrypt(self, record: bytes) -> bytes:
        if len(record) > len(self._incoming):
            self._incoming = self._make_buffer(RECORD_MAXIMUM + RECORD_OVERHEAD)
        self._functions.give(self._into_ssl, record, len(record))
        result = self._functions.read(self._ssl, self._incoming, len(self._incoming))
        if result <= 0:
            self._connection._raise_ssl_error(self._connection._ssl, result)
        return self._bytes_at(self._incoming, result)


class _Functions:
    """OpenSSL's, as they are in pyOpenSSL's own copy of the library.

    Raises ImportError, AttributeError or TypeError where they cannot be had.
    """

    def __init__(self) -> None:
        import ctypes

        from OpenSSL._util import ffi, lib

        def function(name: str, *arguments: Any) -> Callable[..., int]:
            prototype = ctypes.PYFUNCTYPE(*arguments)
            return prototype(self.address(getattr(lib, name)))

        self._ffi: Any = ffi
        pointer, number = ctypes.c_void_p, ctypes.c_int
        source: Any = ctypes.c_char_p
        self.write = function("SSL_write", number, pointer, source, number)
        self.read = function("SSL_read", number, pointer, pointer, number)
        self.give = function("BIO_write", number, pointer, source, number)
        self.take = function("BIO_read", number, pointer, pointer, number)
        version = function("OpenSSL_version_num", ctypes.c_ulong)
        if version() != lib.OpenSSL_version_num():
            raise ImportError("OpenSSL's functions are not where they should be")

    def address(self, pointer: object) -> int:
        """Where a C object or function is."""
        return int(self._ffi.cast("uintptr_t", self._ffi.cast("void *", pointer)))


@functools.cache
def _functions() -> _Functions | None:
    try:
        return _Functions()
    except (ImportError, AttributeError, TypeError) as exc:
        logger.info("records pass through pyOpenSSL's own interface: %r", exc)
        return None


def records_of(connection: SSL.Connection, *, accelerate: bool) -> Records:
    """The fastest way there is through `connection`, once its handshake is over."""
    functions = _functions() if accelerate else None
    return PlainRecords(connection) if functions is None else GilHeldRecords(connection, functions)
