"""DTLS records encrypted and decrypted by OpenSSL without releasing the GIL.

pyOpenSSL releases the GIL for each step of a record. Beside a thread that computes, each step then
waits for that thread's switch interval, which takes longer than all the steps together.

Measured gain: at least 1.5 times as many records of 1.2 kB encrypted and decrypted per second
beside a computing thread; 13 times if that thread gets the GIL at most of the steps (median of
rounds, 2 cores shared with other work, in memory; `python -m tests.benchmarks speedups`). The plain
twin is `PlainRecords`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from OpenSSL import SSL

from artico_sync._speedups.gso import BATCH_MAX_BYTES

logger = logging.getLogger(__name__)

#: A record holds at most this many bytes of data, and fewer than these around it.
RECORD_MAX_BYTES = 16 * 1024
RECORD_OVERHEAD_BYTES = 128
SMALL_BUFFER_BYTES = 2048


class Records(Protocol):
    """Encrypts and decrypts the application data of a connection after its handshake."""

    def encrypt(self, packets: Sequence[bytes]) -> bytes | memoryview:
        """Return the records of packets, one after another; valid until the next call.

        Raises SSL.Error.
        """

    def decrypt(self, record: bytes) -> bytes:
        """Return the packet in a record; raise SSL.Error if it is not authentic."""


class PlainRecords:
    """The plain twin of `GilHeldRecords`, by pyOpenSSL's own methods."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def encrypt(self, packets: Sequence[bytes]) -> bytes:
        """Return the records of packets, one after another."""
        size = 0
        for packet in packets:
            self._connection.send(packet)
            size += len(packet) + RECORD_OVERHEAD_BYTES
        return self._connection.bio_read(size)

    def decrypt(self, record: bytes) -> bytes:
        """Return the packet in a record."""
        self._connection.bio_write(record)
        return self._connection.recv(len(record))


@dataclass(frozen=True)
class OpenSslHandles:
    """The C objects behind a connection of pyOpenSSL, as cffi has them.

    Attributes:
        ffi, library: cffi's interface to OpenSSL.
        ssl, into_ssl, from_ssl: The SSL and its two memory BIOs.
        raise_error: Raises the SSL.Error for the result of a function.
    """

    ffi: Any
    library: Any
    ssl: Any
    into_ssl: Any
    from_ssl: Any
    raise_error: Callable[[int], None]


class GilHeldRecords:
    """Calls OpenSSL's functions by ctypes, which keeps the GIL."""

    def __init__(self, handles: OpenSslHandles, functions: _Functions) -> None:
        import ctypes

        self._functions = functions
        self._raise_error = handles.raise_error
        self._ssl = functions.address(handles.ssl)
        self._into_ssl = functions.address(handles.into_ssl)
        self._from_ssl = functions.address(handles.from_ssl)
        self._make_buffer = ctypes.create_string_buffer
        self._bytes_at = ctypes.string_at
        # Most calls carry little: the buffers grow on demand.
        self._incoming = self._make_buffer(SMALL_BUFFER_BYTES)
        self._outgoing = self._make_buffer(SMALL_BUFFER_BYTES)
        self._view = memoryview(self._outgoing).cast("B")

    def encrypt(self, packets: Sequence[bytes]) -> memoryview:
        """Return the records of packets, one after another; valid until the next call."""
        write = self._functions.write
        size = 0
        for packet in packets:
            result = write(self._ssl, packet, len(packet))
            if result <= 0:
                self._raise_error(result)
            size += len(packet) + RECORD_OVERHEAD_BYTES
        if size > len(self._view):
            self._outgoing = self._make_buffer(max(size, BATCH_MAX_BYTES))
            self._view = memoryview(self._outgoing).cast("B")
        written = self._functions.read_bio(self._from_ssl, self._outgoing, size)
        if written <= 0:
            raise SSL.WantReadError
        return self._view[:written]

    def decrypt(self, record: bytes) -> bytes:
        """Return the packet in a record."""
        if len(record) > len(self._incoming):
            self._incoming = self._make_buffer(RECORD_MAX_BYTES + RECORD_OVERHEAD_BYTES)
        self._functions.write_bio(self._into_ssl, record, len(record))
        result = self._functions.read(self._ssl, self._incoming, len(self._incoming))
        if result <= 0:
            self._raise_error(result)
        return self._bytes_at(self._incoming, result)


class _Functions:
    """OpenSSL's functions, in pyOpenSSL's own copy of the library.

    Raises ImportError, AttributeError or TypeError if they are not available.
    """

    def __init__(self, ffi: Any, library: Any) -> None:
        import ctypes

        def function(name: str, *arguments: Any) -> Callable[..., int]:
            prototype = ctypes.PYFUNCTYPE(*arguments)
            return prototype(self.address(getattr(library, name)))

        self._ffi: Any = ffi
        pointer, number = ctypes.c_void_p, ctypes.c_int
        source: Any = ctypes.c_char_p
        self.write = function("SSL_write", number, pointer, source, number)
        self.read = function("SSL_read", number, pointer, pointer, number)
        self.write_bio = function("BIO_write", number, pointer, source, number)
        self.read_bio = function("BIO_read", number, pointer, pointer, number)
        version = function("OpenSSL_version_num", ctypes.c_ulong)
        if version() != library.OpenSSL_version_num():
            raise ImportError("the functions found do not belong to pyOpenSSL's library")

    def address(self, pointer: object) -> int:
        """Return the address of a C object or function."""
        return int(self._ffi.cast("uintptr_t", self._ffi.cast("void *", pointer)))


@functools.cache
def _functions(ffi: Any, library: Any) -> _Functions | None:
    try:
        return _Functions(ffi, library)
    except (ImportError, AttributeError, TypeError) as exc:
        logger.info("DTLS records use pyOpenSSL's own interface: %r", exc)
        return None


def make_records(
    connection: SSL.Connection,
    get_handles: Callable[[SSL.Connection], OpenSslHandles],
    *,
    accelerate: bool,
) -> Records:
    """Return the fastest way through a connection whose handshake is complete."""
    if accelerate:
        handles = get_handles(connection)
        functions = _functions(handles.ffi, handles.library)
        if functions is not None:
            return GilHeldRecords(handles, functions)
    return PlainRecords(connection)
