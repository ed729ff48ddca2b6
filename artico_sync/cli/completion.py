"""`artico-sync completion`: the script that makes a shell complete the command line."""

from __future__ import annotations

import argparse

from artico_sync.cli.output import ExitStatus, Output

SHELLS = ("bash", "zsh", "fish")


def completion(options: argparse.Namespace, output: Output) -> int:
    """Print the script of a shell; return the exit status."""
    # Imported only here, because no other command needs it.
    import shtab

    parser: argparse.ArgumentParser = options.parser
    paths: list[tuple[argparse.Action, str]] = options.paths
    for action, kind in paths:
        setattr(action, "complete", shtab.DIRECTORY if kind == "DIR" else shtab.FILE)
    output.result(shtab.complete(parser, options.shell).rstrip("\n"))
    return ExitStatus.OK
