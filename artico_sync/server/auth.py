"""Who may come in under which id: asks the user's `auth` function, off the loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable

from artico_sync.server.limits import ServerLimits

logger = logging.getLogger("artico_sync.server")

#: From the presented token to the one permitted id, True for any id, None or False for a refusal.
AuthFunction = Callable[[str | None], str | bool | None]

MAXIMUM_TOKEN = 16 * 1024


class Rejected(Exception):
    """A connection is not let in.

    Args:
        code: What the client is told in the `error` event.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Authenticator:
    """Checks what a client presents against the user's `auth` function, if there is one.

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
        self._places = limits.max_auth_at_once
        self._free: asyncio.Semaphore | None = None

    async def check(self, peer_id: str, token: str | None) -> None:
        """Let pass or raise `Rejected`."""
        if self._auth is None:
            return
        if token is not None and not _is_presentable(token):
            raise Rejected("unauthorized")
        if self._free is None:
            self._free = asyncio.Semaphore(self._places)
        try:
            async with asyncio.timeout(self._timeout):
                await self._free.acquire()
                loop = asyncio.get_running_loop()
                asking = loop.run_in_executor(None, self._auth, token)
                # Its place is free when the function has returned, not when we stop waiting.
                asking.add_done_callback(self._on_asked)
                verdict: object = await asyncio.shield(asking)
        except TimeoutError:
            logger.warning("auth did not decide within %g s", self._timeout)
            raise Rejected("unauthorized") from None
        except Exception:
            # Without the traceback's locals, but the user has to see the fault in the function.
            logger.exception("unexpected error in auth; the client is refused")
            raise Rejected("unauthorized") from None
        self._judge(verdict, peer_id)

    def _on_asked(self, asking: asyncio.Future[str | bool | None]) -> None:
        if self._free is not None:
            self._free.release()
        if not asking.cancelled():
            # Fetched here as well: nobody else does after a time-out.
            asking.exception()

    @staticmethod
    def _judge(verdict: object, peer_id: str) -> None:
        if verdict is True:
            return
        if isinstance(verdict, str) and verdict:
            if verdict != peer_id:
                raise Rejected("invalid-id")
            return
        if verdict is not None and verdict is not False:
            logger.error("auth returned %s; the client is refused", type(verdict).__name__)
        raise Rejected("unauthorized")


def _is_presentable(token: str) -> bool:
    if len(token) > MAXIMUM_TOKEN:
        return False
    try:
        # Half a surrogate pair is JSON but no text, and `auth` would fail where it does this.
        token.encode()
    except UnicodeEncodeError:
        return False
    return True
