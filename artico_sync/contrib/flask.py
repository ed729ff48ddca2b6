"""Calls in a Flask application.

A module `app.py`, for `flask run` and for gunicorn's `'app:create_app()'`::

    from flask import Flask

    from artico_sync.contrib.flask import ArticoExtension

    artico = ArticoExtension()

    def create_app():
        app = Flask(__name__)
        app.config["ARTICO_URL"] = "http://localhost:9000"
        artico.init_app(app)

        @app.get("/greet/<peer>")
        def greet(peer):
            with artico.calling(peer, timeout=5) as call:
                call.send("hello")
                return {"answer": call.recv(timeout=5)}

        return app

    @artico.on("call")
    def incoming(call, metadata):       # runs in the application's context
        call.on("data", lambda text: call.send(text.upper()))
        call.answer()

Workers that answer calls connect when they start: see `ArticoExtension.connect`. `current_artico`
stands for the client of the current application in this process, connected when it is used, such
as in `current_artico.id` in a view.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast, overload

from flask import Flask, current_app
from werkzeug.local import LocalProxy

from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.contrib.process_client import ProcessClient, calling, check_handler

__all__ = ["ArticoExtension", "current_artico"]

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_NAME = "artico"

#: The configuration keys and their defaults.
DEFAULTS: dict[str, Any] = {
    "ARTICO_URL": None,
    "ARTICO_ID": None,
    "ARTICO_TOKEN": None,
    "ARTICO_RTC_CONFIG": None,
    "ARTICO_CONNECT_TIMEOUT": 10.0,
    "ARTICO_OPTIONS": {},
}


class ArticoExtension:
    """Gives each process of a Flask application one client, connected when it is first used.

    Nothing is connected at import, so that an application may be loaded before its workers are
    forked (gunicorn's `--preload`), and the process of the reloader does not connect. A process
    that exits hangs up and disconnects. Every method may be called from any thread.

    Example:
        >>> artico = ArticoExtension()
        >>> app = Flask("shop")
        >>> app.config["ARTICO_URL"] = server.url
        >>> artico.init_app(app)
        >>> @app.get("/ask/<peer>")
        ... def ask(peer):
        ...     with artico.calling(peer, timeout=5) as call:
        ...         call.send("how are you?")
        ...         return {"answer": call.recv(timeout=5)}
        >>> app.test_client().get("/ask/bob").json
        {'answer': 'HOW ARE YOU?'}
        >>> artico.close(app)

    The application's configuration:

    - `ARTICO_URL`: the signaling server; else the environment variable of that name, else
      Artico's public server;
    - `ARTICO_ID`: the requested peer id, else a random one in each process. Only one of several
      workers can have it: `"shop-{pid}"` gives each its own;
    - `ARTICO_TOKEN`: shown to a server that authenticates its clients;
    - `ARTICO_RTC_CONFIG`: as `rtc_config` of `Artico`;
    - `ARTICO_CONNECT_TIMEOUT`: seconds a request may wait for signaling (10);
    - `ARTICO_OPTIONS`: a mapping of further arguments of `Artico`.

    Args:
        app: The application; or call `init_app` later.

    Raises:
        RuntimeError: The application has an `ArticoExtension` already.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._handlers: list[tuple[str, Callable[..., Any]]] = []
        self._clients: list[_AppClient] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up an application; to be called for each one that a factory makes.

        Example:
            >>> artico = ArticoExtension()
            >>> def create_app():
            ...     app = Flask("shop")
            ...     app.config["ARTICO_URL"] = "http://localhost:9000"
            ...     artico.init_app(app)
            ...     return app
            >>> create_app().config["ARTICO_CONNECT_TIMEOUT"]
            10.0

        Args:
            app: The application; configuration keys that it lacks are set to their defaults.

        Raises:
            RuntimeError: The application has an `ArticoExtension` already.
        """
        if _NAME in app.extensions:
            raise RuntimeError("This application has an ArticoExtension already.")
        for key, value in DEFAULTS.items():
            app.config.setdefault(key, value)
        client = _AppClient(app)
        for event, handler in self._handlers:
            client.on(event, handler)
        self._clients.append(client)
        app.extensions[_NAME] = client

    @overload
    def on(self, event: str, handler: None = None) -> Callable[[HandlerT], HandlerT]: ...

    @overload
    def on(self, event: str, handler: HandlerT) -> HandlerT: ...

    def on(self, event: str, handler: HandlerT | None = None) -> Any:
        """Register a handler for an event of each process's client, called in the application's
        context; also works as a decorator.

        Handlers of the call's own events, such as `data`, run outside that context: take what they
        need of the application before, as in the example.

        A process that has not used its client yet receives no calls; with `connect`, each worker
        connects when it starts.

        Example:
            >>> @artico.on("call")
            ... def incoming(call):
            ...     shop = current_app.name
            ...     call.on("data", lambda text: call.send(f"{shop}: {text}"))
            ...     call.answer()
            >>> with rtco.call(artico.connect(app).id) as call:
            ...     call.send("hello")
            ...     call.recv(timeout=5)
            'shop: hello'

        Args:
            event: `"call"` for incoming calls; see `Artico` for the others.
            handler: Called with the event's arguments. Without it, `on` works as a decorator.

        Returns:
            The handler, or the decorator.

        Raises:
            ValueError: The event is unknown.
            TypeError: The handler does not fit the event.
        """
        if handler is None:
            return functools.partial(self.on, event)
        check_handler(event, handler)
        self._handlers.append((event, handler))
        for client in self._clients:
            client.on(event, handler)
        return handler

    @property
    def client(self) -> Artico:
        """The current application's client in this process, connected.

        Raises:
            IdTakenError, InvalidIdError, SignalingError, ArticoTimeoutError: As `Artico.connect`.
            RuntimeError: Outside an application's context, or the application has no
                `ArticoExtension`.
        """
        return _client_of(current_app).connected()

    def connect(self, app: Flask | None = None) -> Artico:
        """Connect the client of this process now, instead of with the first request that needs it.

        Workers that answer calls need this. In gunicorn's configuration file, where `app` is the
        module with the extension::

            def post_worker_init(worker):
                from app import artico

                artico.connect(worker.wsgi)

        A worker that cannot reach the signaling server then does not start, and gunicorn exits.

        Example:
            >>> artico.connect(app).state
            'ready'

        Args:
            app: The application; else the current one.

        Returns:
            The client.

        Raises:
            IdTakenError, InvalidIdError, SignalingError, ArticoTimeoutError: As `Artico.connect`.
            RuntimeError: Outside an application's context, or the application has no
                `ArticoExtension`.
        """
        return _client_of(app or current_app).connected()

    def calling(
        self, target: str, metadata: str | None = None, timeout: float | None = 10
    ) -> AbstractContextManager[Call]:
        """Call a peer for the duration of a `with` block, which begins when the call is open; its
        end hangs up.

        Example:
            >>> with app.app_context(), artico.calling("bob", timeout=5) as call:
            ...     call.send("hello")
            ...     call.recv(timeout=5)
            'HELLO'

        Args:
            target: The other peer's id.
            metadata: Sent with the call.
            timeout: Seconds it may ring and connect; None waits without limit. A call that takes
                longer is canceled: the other side stops ringing.

        Returns:
            For `with`: the open `Call`.

        Raises:
            ArticoTimeoutError: The peer did not answer in time.
            CallError: The call failed for another reason: `PeerUnavailableError`,
                `CallRejectedError`, `ConnectionFailedError`.
            SignalingError: The server cannot be reached.
            RuntimeError: Outside an application's context, or the application has no
                `ArticoExtension`.
        """
        return calling(self.client, target, metadata, timeout)

    def close(self, app: Flask | None = None, timeout: float | None = 5) -> None:
        """Hang up and disconnect the client of this process; the next use connects again.
        A process that exits does so by itself.

        Example:
            >>> rtco = artico.connect(app)
            >>> artico.close(app)
            >>> rtco.state
            'disconnected'

        Args:
            app: The application; else the current one.
            timeout: Seconds for delivering sent messages; None waits without limit.

        Raises:
            RuntimeError: Outside an application's context, or the application has no
                `ArticoExtension`.
        """
        _client_of(app or current_app).close(timeout)


class _AppClient(ProcessClient):
    """The client of one application in this process."""

    def __init__(self, app: Flask) -> None:
        super().__init__(self._from_config)
        self._app = app

    def _from_config(self) -> Artico:
        config = self._app.config
        peer_id = config["ARTICO_ID"]
        return Artico(
            config["ARTICO_URL"],
            id=peer_id.replace("{pid}", str(os.getpid())) if isinstance(peer_id, str) else peer_id,
            token=config["ARTICO_TOKEN"],
            rtc_config=config["ARTICO_RTC_CONFIG"],
            **config["ARTICO_OPTIONS"],
        )

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        @functools.wraps(handler)
        def in_context(*arguments: Any) -> None:
            with self._app.app_context():
                handler(*arguments)

        super().on(event, in_context)

    def connected(self, timeout: float | None = None) -> Artico:
        return super().connected(
            self._app.config["ARTICO_CONNECT_TIMEOUT"] if timeout is None else timeout
        )


def _client_of(app: Flask) -> _AppClient:
    try:
        client: _AppClient = app.extensions[_NAME]
    except KeyError:
        raise RuntimeError(
            "This application has no ArticoExtension: call its init_app(app) first."
        ) from None
    return client


def _current_artico() -> Artico:
    return _client_of(current_app).connected()


#: The current application's client in this process, connected.
current_artico = cast(Artico, LocalProxy(_current_artico))
