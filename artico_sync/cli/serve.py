"""`artico-sync serve`: a signaling server until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import hmac
import socket

from artico_sync.cli.output import ExitStatus, Output
from artico_sync.server.server import ArticoServer, AuthFunction, serve_forever


def serve(options: argparse.Namespace, output: Output) -> int:
    """Serve until a signal; return the exit status."""
    try:
        server = ArticoServer(
            options.host,
            options.port,
            auth=None if options.token is None else _make_auth(options.token),
            allowed_origins="*" if options.origin == ["*"] else options.origin,
            certfile=options.cert,
            keyfile=options.key,
            behind_proxy=options.behind_proxy,
        )
    except ValueError as error:
        output.error(error, ExitStatus.USAGE)
        return ExitStatus.USAGE

    def on_started() -> None:
        output.event("serving", url=server.url)
        output.result(f"serving at {server.url}")
        if options.host in ("", "0.0.0.0", "::"):
            scheme, port = server.url.split(":")[0], server.url.rsplit(":", 1)[1]
            output.note(f"from other machines: {scheme}://{socket.gethostname()}:{port}")
        output.note("Ctrl-C stops it")

    serve_forever(server, on_started=on_started)
    output.event("stopped")
    output.note("stopped")
    return ExitStatus.OK


def _make_auth(wanted: str) -> AuthFunction:
    # Bytes of the command line that are not UTF-8 become surrogates, which no client can send;
    # encoding them must not fail.
    expected = wanted.encode("utf-8", "surrogatepass")

    def auth(token: str | None) -> bool:
        return token is not None and hmac.compare_digest(token.encode(), expected)

    return auth
