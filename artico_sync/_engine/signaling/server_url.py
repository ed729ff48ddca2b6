"""The signaling server's URL, parsed and checked."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
# Parameters of the protocol itself, dropped from the user's query.
RESERVED_QUERY = frozenset({"id", "EIO", "transport", "sid", "t"})
SOCKET_IO_PATH = "socket.io"


@dataclass(frozen=True)
class ServerUrl:
    """The address of a signaling server.

    Attributes:
        origin: Scheme, host and port.
        path: Path of the Socket.IO endpoint, without slashes at its ends.
        query: The user's own query parameters.
    """

    origin: str
    path: str
    query: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, url: str) -> ServerUrl:
        """Parse a URL.

        Raises:
            TypeError: It is not a string.
            ValueError: It is not the URL of a server; the message gives the reason.
        """
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}")
        if any(character.isspace() or not character.isprintable() for character in url):
            raise ValueError("The signaling URL has blanks or control characters in it.")
        parts = urlsplit(url)
        scheme = SCHEMES.get(parts.scheme.lower())
        if scheme is None:
            raise ValueError(
                "The signaling URL must begin with http://, https://, ws:// or wss://,"
                f" as in 'http://localhost:9000'; it begins with {url.partition(':')[0][:20]!r}."
            )
        if parts.username is not None or parts.password is not None:
            # The message does not quote the URL, which contains a password.
            raise ValueError(
                "User and password in the signaling URL are not supported: pass a token."
            )
        shown = parts._replace(query="", fragment="").geturl()  # the query may contain secrets
        if not parts.hostname:
            raise ValueError(f"The signaling URL {shown!r} names no host.")
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"The signaling URL {shown!r} has an impossible port.") from error
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        try:
            host.encode("idna" if ":" not in host else "ascii")
        except UnicodeError as error:
            raise ValueError(f"The signaling URL {shown!r} has an impossible host name.") from error
        path = parts.path.strip("/")
        if path.rpartition("/")[2] != SOCKET_IO_PATH:
            path = f"{path}/{SOCKET_IO_PATH}" if path else SOCKET_IO_PATH
        query = tuple(
            (name, value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
            if name not in RESERVED_QUERY
        )
        return cls(f"{scheme}://{host}" + (f":{port}" if port is not None else ""), path, query)

    def for_peer(self, peer_id: str) -> str:
        """Return the URL to connect to as `peer_id`; the Engine.IO client adds the path."""
        return f"{self.origin}/?{urlencode([*self.query, ('id', peer_id)])}"

    def __str__(self) -> str:
        # Without the query, which may contain secrets.
        prefix = self.path.removesuffix(SOCKET_IO_PATH).strip("/")
        return f"{self.origin}/{prefix}" if prefix else self.origin
