"""The command line `artico-sync`, also `python -m artico_sync`; main thread."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from artico_sync._stop_signals import Terminated, raise_on_signals
from artico_sync.cli.arguments import completion, parse_arguments
from artico_sync.cli.output import ExitStatus, Output, status_of
from artico_sync.errors import ArticoError

if TYPE_CHECKING:
    import argparse

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name, else those of the process.

    Returns:
        The exit status; `artico-sync --help` explains each.
    """
    options = parse_arguments(argv)
    if options.verbose:
        logging.basicConfig(
            format="%(relativeCreated)8.0f ms %(levelname)s %(name)s: %(message)s",
            level=logging.WARNING,
        )
        level = logging.DEBUG if options.verbose > 1 else logging.INFO
        logging.getLogger("artico_sync").setLevel(level)
    status = _run(options, Output(json_lines=options.json, quiet=options.quiet))
    if argv is None:
        # The process ends now: a last garbage collection of all objects would keep the user
        # waiting for a quarter of a second after Ctrl-C.
        gc.freeze()
    return status


def _run(options: argparse.Namespace, output: Output) -> int:
    try:
        with raise_on_signals():
            status = _import_command(options.command)(options, output)
        output.flush()
        return status
    except KeyboardInterrupt:
        output.end_line()
        return ExitStatus.INTERRUPTED
    except Terminated as error:
        return 128 + error.number
    except BrokenPipeError:
        # The program that read the output has ended, such as `head`. Output that is still buffered
        # must not fail again.
        with open(os.devnull, "wb") as devnull:
            os.dup2(devnull.fileno(), sys.stdout.fileno())
        return ExitStatus.BROKEN_PIPE
    except (ArticoError, OSError) as error:
        status = status_of(error)
        output.error(error, status)
        return status


def _import_command(name: str) -> Callable[[argparse.Namespace, Output], int]:
    # Each is imported only when it runs, so that --help appears at once.
    if name == "serve":
        from artico_sync.cli.serve import serve

        return serve
    if name == "demo":
        from artico_sync.cli.demo import demo

        return demo
    if name == "completion":
        return completion
    if name == "doctor":
        from artico_sync.cli.doctor import doctor

        return doctor
    from artico_sync.cli.chat import answer, call

    return call if name == "call" else answer
