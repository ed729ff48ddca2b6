"""The C objects of pyOpenSSL's connections, and the library they belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

from artico_sync._speedups.gil_held_dtls import OpenSslHandles


def handles_of(connection: SSL.Connection) -> OpenSslHandles:
    """Return the C objects of a connection whose handshake is complete.

    Raises:
        ImportError, AttributeError: pyOpenSSL has other internals than expected.
    """
    # cffi's access to the library, which ctypes cannot find by itself: wheels link it statically.
    from OpenSSL._util import ffi, lib

    raise_error: Callable[[Any, int], None] = connection._raise_ssl_error
    return OpenSslHandles(
        ffi=ffi,
        library=lib,
        ssl=connection._ssl,
        into_ssl=connection._into_ssl,
        from_ssl=connection._from_ssl,
        raise_error=lambda result: raise_error(connection._ssl, result),
    )
