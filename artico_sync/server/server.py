"""`ArticoServer`: Artico's signaling server, embedded in a blocking program."""

from __future__ import annotations

import logging
import ssl as tls
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from artico_sync._bridge.portal import Portal, acquire_portal, assert_not_loop_thread
from artico_sync._bridge.threads import ForkGuard
from artico_sync._bridge.waiting.deadline import MAIN_THREAD_POLL_INTERVAL, Deadline
from artico_sync._checks import NotCopyable
from artico_sync._stop_signals import stop_on_signals
from artico_sync.errors import ArticoTimeoutError
from artico_sync.server.app import LoopBoundServer
from artico_sync.server.auth import Authenticator, AuthFunction
from artico_sync.server.limits import ServerLimits
from artico_sync.server.origins import OriginPolicy, is_loopback

# The web server is imported when a server starts, which it does in few programs.
if TYPE_CHECKING:
    from aiohttp import web

    from artico_sync.server.asgi import ASGIApplication
    from artico_sync.server.listener import StandaloneServer
    from artico_sync.server.socketio_server import SocketIOServer

__all__ = ["ArticoServer", "AuthFunction", "ServerLimits", "serve_forever"]

logger = logging.getLogger(__name__)


class ArticoServer(NotCopyable):
    """Artico's signaling server, for JavaScript and Python clients; usable from any thread.

    Creating one starts nothing: call `start()` or use `with`, or put it into your own web
    application with `asgi_app` or `aiohttp_app`.

    Example:
        >>> with ArticoServer(port=0) as server, Artico(server.url, id="carol") as carol:
        ...     server.peers
        ('carol',)

    Args:
        host: Name or address to listen on; "0.0.0.0" for every IPv4 interface, "" for all.
        port: 0 picks a free one.
        auth: A plain function that gets the token a client presents (None without one). It returns
            the one id the client may have, True for any id, or None or False to reject it. It may
            block, because it runs on a worker thread. An exception rejects the client.
        allowed_origins: Origins of web pages that may connect besides those of the server's own
            host name, such as "https://app.example"; "*" for all. By default, pages of this machine
            (localhost, any port) may use a server that they address by a loopback name, and pages
            may use the host they come from. Clients other than browsers are always allowed.
        certfile: Certificate chain to serve https with, PEM.
        keyfile: Its private key, if that is not in `certfile`.
        ssl: A server-side `ssl.SSLContext` in place of the two files.
        behind_proxy: One reverse proxy stands before the server: take the client's address and the
            host name from its `X-Forwarded-For` and `X-Forwarded-Host` headers.
        ping_interval: Whole seconds between two pings. A peer that has vanished is noticed, and
            its id is free again, after `ping_interval` plus one or two times `ping_timeout`.
        ping_timeout: Whole seconds a peer has to answer a ping.
        limits: Sizes and rates; see `ServerLimits`.

    Raises:
        TypeError, ValueError: An argument cannot be used.
        OSError: A certificate file cannot be read.
    """

    _copy_hint = "one server has the port; give others its `url`."

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9000,
        *,
        auth: AuthFunction | None = None,
        allowed_origins: str | Iterable[str] | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        ssl: tls.SSLContext | None = None,
        behind_proxy: bool = False,
        ping_interval: int = 5,
        ping_timeout: int = 5,
        limits: ServerLimits | None = None,
    ) -> None:
        _check_arguments(host, port, ping_interval, ping_timeout, limits)
        self._host = host
        self._port = port
        self._limits = limits or ServerLimits()
        self._auth = auth
        self._behind_proxy = bool(behind_proxy)
        self._ping = (ping_interval, ping_timeout)
        if allowed_origins is not None and not isinstance(allowed_origins, str):
            allowed_origins = tuple(allowed_origins)
        self._allowed_origins = allowed_origins
        # Made once only to raise errors in the arguments at once.
        Authenticator(auth, self._limits)
        self._origin_policy(standalone=False)
        self._tls = _tls_context(certfile, keyfile, ssl)
        self._own = LoopBoundServer(lambda: self._make_server(standalone=True))
        self._mounted = LoopBoundServer(lambda: self._make_server(standalone=False))
        # Held while starting and stopping, to serialize these; no callback runs under it, and no
        # lock but the bridge's is taken.
        self._transition = threading.Lock()
        self._running: StandaloneServer | None = None
        self._portal: Portal | None = None
        self._guard: ForkGuard | None = None
        self._stopped = threading.Event()
        self._stopped.set()

    def _origin_policy(self, standalone: bool) -> OriginPolicy:
        loopback_only = standalone and is_loopback(self._host) and not self._behind_proxy
        return OriginPolicy(self._allowed_origins, loopback_only=loopback_only)

    def _make_server(self, standalone: bool) -> SocketIOServer:
        from artico_sync.server.registry import Registry
        from artico_sync.server.socketio_server import SocketIOServer

        registry = Registry(self._limits, Authenticator(self._auth, self._limits))
        ping_interval, ping_timeout = self._ping
        return SocketIOServer(
            registry,
            self._origin_policy(standalone),
            self._limits,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
        )

    # -- on a port of its own -------------------------------------------------------------------

    def start(self, timeout: float | None = 10) -> ArticoServer:
        """Listen and serve; has no effect if the server is running.

        Example:
            >>> here = ArticoServer(port=0).start()
            >>> here.url.rpartition(":")[0]
            'http://127.0.0.1'
            >>> here.stop()

        Args:
            timeout: Seconds to wait; None without limit.

        Returns:
            The server itself.

        Raises:
            OSError: The host or port is not available.
            ArticoTimeoutError: The timeout expired.
            ForkError: It was started in the parent of this process.
            RuntimeError: On the library's loop thread.
        """
        from artico_sync.server.listener import StandaloneServer

        assert_not_loop_thread()
        with self._transition:
            self._check_process()
            if self._running is not None:
                return self
            portal = acquire_portal()
            running = StandaloneServer(
                self._own, self._limits, self._host, self._port, self._tls, self._behind_proxy
            )
            try:
                portal.run(running.start, timeout=timeout)
            except BaseException:
                portal.release()
                raise
            self._portal, self._running = portal, running
            portal.at_exit(running.stop_listening)
            self._guard = ForkGuard("ArticoServer")
            self._stopped.clear()
        logger.info("serving signaling at %s", self.url)
        return self

    def stop(self, timeout: float | None = 5) -> None:
        """Disconnect every peer and stop; has no effect if the server is stopped.

        It can be started again.

        Example:
            >>> here = ArticoServer(port=0).start()
            >>> here.stop()
            >>> here
            <ArticoServer 127.0.0.1:0 stopped, 0 peers>

        Args:
            timeout: Seconds for a clean close of the connections; None for 60. Those still open
                after it are cut.

        Raises:
            ForkError: It was started in the parent of this process.
            RuntimeError: On the library's loop thread.
        """
        assert_not_loop_thread()
        deadline = Deadline(timeout)
        with self._transition:
            self._check_process()
            running, portal = self._running, self._portal
            if running is None or portal is None:
                return
            self._running = self._portal = self._guard = None
            try:
                # While the interpreter exits, the loop thread does not answer.
                if not portal.is_over:
                    portal.run(running.stop, deadline.remaining())
            finally:
                portal.release()
                self._stopped.set()
        logger.info("stopped serving signaling")

    def wait_stopped(self, timeout: float | None = None) -> None:
        """Block until the server is stopped; Ctrl-C ends the wait.

        A server that was never started is stopped.

        Example:
            >>> import threading
            >>> here = ArticoServer(port=0).start()
            >>> threading.Timer(0.1, here.stop).start()
            >>> here.wait_stopped(timeout=5)

        Args:
            timeout: Seconds to wait; None without limit, 0 polls.

        Raises:
            ArticoTimeoutError: The timeout expired.
            ForkError: It was started in the parent of this process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        assert_not_loop_thread()
        self._check_process()
        while not self._stopped.is_set():
            if deadline.expired:
                raise ArticoTimeoutError(f"The server is still running after {timeout:g} s.")
            self._stopped.wait(deadline.slice())

    def __enter__(self) -> ArticoServer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL for clients on this machine.

        Raises:
            RuntimeError: The port is 0 and the server has not been started.
        """
        running = self._running
        port = running.port if running is not None else self._port
        if port == 0:
            raise RuntimeError("The port is chosen when the server starts: call start() first.")
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def peers(self) -> tuple[str, ...]:
        """Ids of the connected peers, in the order of their arrival."""
        return (*self._own.peers, *self._mounted.peers)

    def __repr__(self) -> str:
        state = "running" if self._running is not None else "stopped"
        return f"<ArticoServer {self._host}:{self._port} {state}, {len(self.peers)} peers>"

    def _check_process(self) -> None:
        if self._guard is not None:
            self._guard.check()

    # -- inside the user's own web application ----------------------------------------------------

    def asgi_app(self, other: ASGIApplication | None = None) -> ASGIApplication:
        """Return this signaling server as an ASGI application, to use in place of `start()`.

        JavaScript clients look for `/socket.io/` at the root of the host. Peers connected through
        any application of one ArticoServer reach each other; one event loop at a time can serve
        them, so run one worker process.

        Example:
            >>> async def pages(scope, receive, send):
            ...     "Or an application of Django's `get_asgi_application()`, FastAPI, Starlette."
            >>> application = ArticoServer().asgi_app(pages)    # uvicorn module:application

        Args:
            other: An application for every request except those to `/socket.io/`, so that one port
                serves pages and signaling. Without it, mount the returned application under a path.

        Returns:
            The application.
        """
        from artico_sync.server.asgi import SignalingASGI

        return SignalingASGI(self._mounted, other, behind_proxy=self._behind_proxy)

    def aiohttp_app(self) -> web.Application:
        """Return this signaling server as an aiohttp application, to use in place of `start()`.

        See `asgi_app` about peers and event loops.

        Example:
            >>> from aiohttp import web
            >>> application = web.Application()
            >>> part = application.add_subapp("/socket.io/", ArticoServer().aiohttp_app())

        Returns:
            The application; JavaScript clients look for it under `/socket.io/`.
        """
        from artico_sync.server.aiohttp import make_application

        return make_application(self._mounted, self._limits, behind_proxy=self._behind_proxy)


def serve_forever(server: ArticoServer, *, on_started: Callable[[], object] | None = None) -> None:
    """Start a server, and return when it is stopped by Ctrl-C, SIGTERM, or `server.stop()`.

    On the main thread SIGINT and SIGTERM stop it gracefully, a second one at once; the previous
    handlers are restored at the end. On another thread only `server.stop()` stops it.

    Example:
        >>> import threading
        >>> here = ArticoServer(port=0)
        >>> serve_forever(here, on_started=threading.Timer(0.1, here.stop).start)

    Args:
        server: The server; may be running already.
        on_started: Called when it serves.

    Raises:
        OSError: The host or port is not available.
        ForkError: It was started in the parent of this process.
        RuntimeError: On the library's loop thread.
    """
    with stop_on_signals() as stopping:
        try:
            server.start()
            if on_started is not None:
                on_started()
            while not stopping.is_set():
                try:
                    server.wait_stopped(MAIN_THREAD_POLL_INTERVAL)
                except ArticoTimeoutError:
                    continue
                break
        except KeyboardInterrupt:
            logger.info("interrupted")
        finally:
            server.stop()


def _check_arguments(
    host: object, port: object, ping_interval: object, ping_timeout: object, limits: object
) -> None:
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {type(host).__name__}")
    _check_whole("port", port, 0, 65535)
    _check_whole("ping_interval", ping_interval, 1, 3600)
    _check_whole("ping_timeout", ping_timeout, 1, 3600)
    if limits is not None and not isinstance(limits, ServerLimits):
        raise TypeError(f"limits must be ServerLimits, not {type(limits).__name__}")


def _check_whole(name: str, value: object, minimum: int, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not minimum <= value <= maximum:
        raise ValueError(f"{name} must be from {minimum} to {maximum}, not {value}")


def _tls_context(
    certfile: str | None, keyfile: str | None, ssl: tls.SSLContext | None
) -> tls.SSLContext | None:
    if ssl is not None and not isinstance(ssl, tls.SSLContext):
        raise TypeError(f"ssl must be an ssl.SSLContext, not {type(ssl).__name__}")
    if ssl is not None and (certfile is not None or keyfile is not None):
        raise ValueError("give certfile and keyfile, or ssl, not both")
    if certfile is None:
        if keyfile is not None:
            raise ValueError("keyfile needs certfile")
        return ssl
    context = tls.create_default_context(tls.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    except tls.SSLError as error:
        raise ValueError(f"{certfile!r} and its key are not usable PEM files: {error}") from error
    return context
