"""The arguments of the command line, and their completion in shells."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from artico_sync.artico import PUBLIC_URL, URL_VARIABLE
from artico_sync.cli.output import MEANINGS, ExitStatus, Output

TOKEN_VARIABLE = "ARTICO_TOKEN"
SHELLS = ("bash", "zsh", "fish")

#: The options that take a path, each with "FILE" or "DIR".
PathOptions = list[tuple[argparse.Action, str]]
#: Adds a command: its name, its summary, and the parsers of options it shares with others.
AddCommand = Callable[[str, str, list[argparse.ArgumentParser]], argparse.ArgumentParser]

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([kmgt]?)(i?b)?", re.ASCII | re.IGNORECASE)

_DESCRIPTION = """\
Place and answer WebRTC calls with Artico peers, and run their signaling server.

try it on this machine:
  artico-sync demo

chat between two terminals:
  artico-sync serve
  artico-sync answer --url http://localhost:9000 --id bob
  artico-sync call --url http://localhost:9000 bob
"""

_ENVIRONMENT = f"""\
environment:
  {URL_VARIABLE}    the signaling server, if --url is not given
  {TOKEN_VARIABLE}  the token shown to it, if --token is not given
"""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line.

    Raises:
        SystemExit: With status 2 if the command line is wrong, after a message on stderr.
    """
    parser = _make_parser()
    options = parser.parse_args(argv)
    _check(parser, options)
    return options


def completion(options: argparse.Namespace, output: Output) -> int:
    """Print the script that makes a shell complete the command line; return the exit status."""
    # Imported only here, because no other command needs it.
    import shtab

    parser: argparse.ArgumentParser = options.parser
    paths: PathOptions = options.paths
    for action, kind in paths:
        setattr(action, "complete", shtab.DIRECTORY if kind == "DIR" else shtab.FILE)
    output.result(shtab.complete(parser, options.shell).rstrip("\n"))
    return ExitStatus.OK


def _make_parser() -> argparse.ArgumentParser:
    import artico_sync

    parser = argparse.ArgumentParser(
        prog="artico-sync",
        description=_DESCRIPTION,
        epilog=f"{_ENVIRONMENT}\n{MEANINGS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=artico_sync.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    printing = _printing_options()

    def add(
        name: str, summary: str, parents: list[argparse.ArgumentParser]
    ) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=MEANINGS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[*parents, printing],
        )

    paths = _add_commands(add)
    completion = add(
        "completion", "print the script that makes a shell complete these commands", []
    )
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(parser=parser, paths=paths)
    return parser


def _add_commands(add: AddCommand) -> PathOptions:
    """Add the commands but for `completion`; return their options that take a path."""
    paths: PathOptions = []
    connecting = _connecting_options()
    chatting = [connecting, _chatting_options(), _content_options(paths)]
    demo = add("demo", "a server and two peers on this machine, calling each other", [])
    video = demo.add_argument(
        "--video",
        nargs="?",
        const="artico-sync-demo.png",
        metavar="FILE.png",
        help="show a test pattern both ways as well, and save what arrives; default: %(const)s",
    )
    paths.append((video, "FILE"))
    _add_serve(add("serve", "run a signaling server", []), paths)
    call = add("call", "call a peer: send lines of stdin, print its messages", chatting)
    call.add_argument("target", metavar="ID", help="the other peer's id")
    call.add_argument("--metadata", metavar="TEXT", help="shown to the other side with the call")
    add("answer", "wait for one call and answer it, then as for call", chatting)
    doctor = add("doctor", "check step by step what works from here", [connecting])
    doctor.add_argument("server", nargs="?", metavar="URL", help="the same as --url")
    return paths


def _printing_options() -> argparse.ArgumentParser:
    group = argparse.ArgumentParser(add_help=False)
    group.add_argument(
        "--json", action="store_true", help="print one JSON object a line, for programs"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="no notes on stderr")
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="log to stderr; twice for more",
    )
    return group


def _connecting_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("signaling")
    group.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE) or PUBLIC_URL,
        help=f"the signaling server; default: ${URL_VARIABLE}, else {PUBLIC_URL}",
    )
    group.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE),
        help=f"shown to a server that asks who connects; default: ${TOKEN_VARIABLE}",
    )
    group = parser.add_argument_group("connecting")
    group.add_argument(
        "--no-stun", action="store_true", help="use no STUN server: the own network only"
    )
    group.add_argument(
        "--ice-server",
        action="append",
        metavar="URL[,USER,PASSWORD]",
        help="a STUN or TURN server in place of Artico's; may be given several times",
    )
    return parser


def _chatting_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("chat")
    group.add_argument("--id", metavar="ID", help="own peer id; default: a random one")
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="how long to wait for the other side; default: 30 for call, no limit for answer",
    )
    group.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="after the end of stdin, stay until no message came for this time; default: 0",
    )
    group.add_argument(
        "--replies",
        type=_count,
        metavar="N",
        help="hang up once N messages have come and all is sent",
    )
    group.add_argument(
        "-n", "--no-input", action="store_true", help="do not read stdin, only listen"
    )
    return parser


def _content_options(paths: PathOptions) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("files and media")
    send_file = group.add_argument(
        "--send-file",
        action="append",
        metavar="FILE",
        help="send a file to a Python peer that takes files, in place of stdin; may be repeated",
    )
    receive_to = group.add_argument(
        "--receive-to",
        metavar="DIR",
        help="save files of the peer to this folder, and nowhere else, in place of reading stdin",
    )
    group.add_argument(
        "--receive-limit",
        type=_size,
        metavar="SIZE",
        help="most bytes to receive in one call, such as 500M or 2G; default: no limit",
    )
    play = group.add_argument(
        "--play",
        metavar="FILE",
        help="share a film, a sound, a camera, anything FFmpeg opens, in place of reading stdin",
    )
    group.add_argument("--loop", action="store_true", help="play it again and again")
    record = group.add_argument(
        "--record",
        metavar="FILE",
        help="record the peer's media, in place of reading stdin: .mp4, .webm, .mkv, .wav ...",
    )
    paths += [(action, "FILE") for action in (send_file, play, record)]
    paths.append((receive_to, "DIR"))
    return parser


def _add_serve(parser: argparse.ArgumentParser, paths: PathOptions) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="where to listen; 0.0.0.0 for other machines too"
    )
    parser.add_argument("--port", type=_port, default=9000, help="default: 9000; 0 for a free one")
    parser.add_argument(
        "--origin",
        action="append",
        metavar="URL",
        help="web pages from there may use the server too, '*' for all; may be given several times",
    )
    cert = parser.add_argument(
        "--cert", metavar="FILE", help="serve https with this certificate chain (PEM)"
    )
    key = parser.add_argument(
        "--key", metavar="FILE", help="its private key (PEM), if it is not in --cert"
    )
    paths += [(cert, "FILE"), (key, "FILE")]
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="one reverse proxy stands before it: read the client's address from X-Forwarded-For",
    )
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE),
        help=f"serve only clients that show it; default: ${TOKEN_VARIABLE}, else all",
    )


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.command == "doctor":
        options.url = options.server or options.url
        _check_client(parser, options, id=None)
    elif options.command in ("call", "answer"):
        _check_client(parser, options, id=options.id)
        _check_paths(parser, options)
    elif options.command == "demo" and options.video is not None:
        folder = os.path.dirname(options.video) or "."
        if not options.video.lower().endswith(".png") or not os.path.isdir(folder):
            parser.error(f"--video: {options.video} is not a .png file in a folder that exists")
    if options.command == "call":
        if not options.target or options.target == options.id:
            parser.error("ID must be another peer's id")
        if options.timeout is None:
            options.timeout = 30.0


def _check_client(
    parser: argparse.ArgumentParser, options: argparse.Namespace, *, id: str | None
) -> None:
    from artico_sync.artico import Artico

    try:
        options.rtc_config = _rtc_config(options)
        # Checks the values before anything is done.
        Artico(options.url, id=id, token=options.token, rtc_config=options.rtc_config)
    except ValueError as error:
        parser.error(str(error))


def _check_paths(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for path in options.send_file or ():
        if not os.path.isfile(path):
            parser.error(f"--send-file: there is no file {path}")
    folder = options.receive_to
    if folder is not None and os.path.exists(folder) and not os.path.isdir(folder):
        parser.error(f"--receive-to: {folder} is not a folder")
    if options.receive_limit is not None and folder is None:
        parser.error("--receive-limit: there is no --receive-to")
    if options.record is not None:
        from artico_sync.media.streams import RECORDING_FORMATS

        if os.path.splitext(options.record)[1].lower() not in RECORDING_FORMATS:
            parser.error(f"--record: the name must end in one of {', '.join(RECORDING_FORMATS)}")


def _rtc_config(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.no_stun and options.ice_server:
        raise ValueError("--no-stun and --ice-server exclude one another")
    if options.no_stun:
        return {"iceServers": []}
    if not options.ice_server:
        return None
    return {"iceServers": [_ice_server(text) for text in options.ice_server]}


def _ice_server(text: str) -> dict[str, Any]:
    url, *credentials = text.split(",", 2)
    if not credentials:
        return {"urls": [url]}
    if len(credentials) != 2:
        raise ValueError("--ice-server is a URL, or URL,USER,PASSWORD")
    return {"urls": [url], "username": credentials[0], "credential": credentials[1]}


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0 or math.isinf(seconds):
        raise argparse.ArgumentTypeError("not a number of seconds")
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("not a number of 1 or more")
    return count


def parse_size(text: str) -> int:
    """Return the bytes of `500M`, `1.5 GiB` (units of 1024) or `2GB` (units of 1000).

    Raises:
        ValueError: Not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    number, unit, suffix = match.groups(default="")
    base = 1000 if suffix.lower() == "b" else 1024
    return int(float(number) * base ** " kmgt".index(unit.lower() or " "))


def _size(text: str) -> int:
    try:
        size = parse_size(text)
    except ValueError:
        size = 0
    if size < 1:
        raise argparse.ArgumentTypeError("not a size such as 500M or 2G")
    return size


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("not from 0 to 65535")
    return port
