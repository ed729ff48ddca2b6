"""One run of a server on a port of its own; loop thread."""

from __future__ import annotations

import ssl

from artico_sync.server.aiohttp import make_application
from artico_sync.server.app import LoopBoundServer
from artico_sync.server.limits import ServerLimits
from artico_sync.server.listener import Listener

#: Seconds for the farewell where the user sets no limit.
STOP_TIMEOUT = 60.0


class RunningServer:
    """Owns the listener and ends what the site serves.

    Args:
        site: The signalling server.
        host, port, tls: See `Listener`.
    """

    def __init__(
        self,
        site: LoopBoundServer,
        limits: ServerLimits,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        behind_proxy: bool,
    ) -> None:
        self._site = site
        self._limits = limits
        self._behind_proxy = behind_proxy
        # All connections are the proxy's, and it keeps those it may need again.
        self._listener = Listener(host, port, tls, None if behind_proxy else limits)
        self.port = port

    async def start(self) -> None:
        """Listen and serve."""
        application = make_application(self._site, self._limits, behind_proxy=self._behind_proxy)
        self._site.open()
        try:
            self.port = await self._listener.start(application)
        except BaseException:
            await self._site.close(0.0)
            raise

    async def say_goodbye(self) -> None:
        """Listen no longer; the program ends, and its connections with it."""
        await self._listener.close()

    async def stop(self, timeout: float | None) -> None:
        """Disconnect everybody within `timeout` seconds, then close what is left."""
        await self._listener.close()
        await self._site.close(STOP_TIMEOUT if timeout is None else timeout)
        await self._listener.stop()
