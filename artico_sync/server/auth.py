"""Authentication: calls the user's `auth` function on a worker thread."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable

from artico_sync.server.limits import ServerLimits

logger = logging.getLogger(__name__)

#: From the presented token to the one permitted id, True for any id, None or False to reject.
AuthFunction = Callable[[str | None], str | bool | None]

MAXIMUM_TOKEN_LENGTH = 16 * 1024


class Rejected(Exception):
    """A connection is not admitted.

    Args:
        code: The argument of the `error` event sent to the client.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Authenticator:
    """Checks what a client presents with the user's `auth` function, if there is one.

    Raises:
        TypeError: `auth` is not a plain function.
    """

    def __init__(self, auth: AuthFunction | None, limits: ServerLimits) -> None:
        if auth is not None and not callable(auth):
            raise TypeError(f"auth must be a function, not {type(auth).__name__}")
        if inspect.iscoroutinefunction(auth):
            raise TypeError("auth must be a plain function, not a coroutine function")
        self._auth = auth
        self._timeout = limits.handshake_timeout
        self._max_concurrent = limits.max_auth_at_once
        # Made on the loop that serves.
        self._slots: asyncio.Semaphore | None = None

    async def check(self, peer_id: str, token: str | None) -> None:
        """Return if a client may have an id.

        Raises:
            Rejected: It may not.
        """
        if self._auth is None:
            return
        if token is not None and not _is_valid_token(token):
            raise Rejected("unauthorized")
        if self._slots is None:
            self._slots = asyncio.Semaphore(self._max_concurrent)
        try:
            async with asyncio.timeout(self._timeout):
                await self._slots.acquire()
                loop = asyncio.get_running_loop()
                call = loop.run_in_executor(None, self._auth, token)
                # The slot is free when the function has returned, not when the timeout expires.
                call.add_done_callback(self._on_returned)
                verdict: object = await asyncio.shield(call)
        except TimeoutError:
            logger.warning("auth did not decide within %g s", self._timeout)
            raise Rejected("unauthorized") from None
        except Exception:
            # Logged without local variables: the token is among them.
            logger.exception("unexpected error in auth; the client is rejected")
            raise Rejected("unauthorized") from None
        self._apply(verdict, peer_id)

    def _on_returned(self, call: asyncio.Future[str | bool | None]) -> None:
        if self._slots is not None:
            self._slots.release()
        if not call.cancelled():
            # Retrieved here because after a timeout no other code does.
            call.exception()

    @staticmethod
    def _apply(verdict: object, peer_id: str) -> None:
        if verdict is True:
            return
        if isinstance(verdict, str) and verdict:
            if verdict != peer_id:
                raise Rejected("invalid-id")
            return
        if verdict is not None and verdict is not False:
            logger.error("auth returned %s; the client is rejected", type(verdict).__name__)
        raise Rejected("unauthorized")


def _is_valid_token(token: str) -> bool:
    if len(token) > MAXIMUM_TOKEN_LENGTH:
        return False
    try:
        # JSON may contain unpaired surrogates, which `auth` could not encode.
        token.encode()
    except UnicodeEncodeError:
        return False
    return True
