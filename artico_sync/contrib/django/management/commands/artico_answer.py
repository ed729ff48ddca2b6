"""`manage.py artico_answer shop.calls.answer`: serve incoming calls until Ctrl-C or SIGTERM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string

from artico_sync._bridge.waiting.deadline import MAIN_THREAD_POLL_INTERVAL
from artico_sync._stop_signals import stop_on_signals
from artico_sync.contrib.django.answering import Answering
from artico_sync.contrib.django.client import make_artico, read_settings
from artico_sync.errors import ArticoError

DEFAULT_MAX_CALLS = 100


class Command(BaseCommand):
    """Runs a function of the project for each incoming call, on a thread of its own."""

    help = "Serve incoming calls with a function of the project, until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "handler",
            help="Dotted path of a function that takes the call, and optionally its metadata. It"
            " may block. A call that it has not answered when it returns is rejected.",
        )
        parser.add_argument("--id", help="Peer id, in place of the one in the settings.")
        parser.add_argument(
            "--calls",
            type=int,
            default=DEFAULT_MAX_CALLS,
            help=f"Calls served at once ({DEFAULT_MAX_CALLS}); more are rejected.",
        )

    def handle(self, *args: object, **options: Any) -> None:
        handler = _load(options["handler"])
        if options["calls"] < 1:
            raise CommandError("--calls must be 1 or more.")
        rtco = make_artico(options["id"])
        try:
            answering = Answering(rtco, handler, options["calls"])
        except TypeError as error:
            raise CommandError(f"{options['handler']}: {error}.") from error
        with stop_on_signals() as stop:
            try:
                rtco.connect(read_settings()["CONNECT_TIMEOUT"])
                self.stdout.write(f"Answering calls to {rtco.id} (Ctrl-C ends it).")
                self.stdout.flush()
                while not stop.wait(MAIN_THREAD_POLL_INTERVAL):
                    continue
            except ArticoError as error:
                raise CommandError(str(error)) from error
            finally:
                rtco.close()
                answering.join()
        self.stdout.write("Ended.")


def _load(path: str) -> Callable[..., Any]:
    try:
        handler = import_string(path)
    except ImportError as error:
        raise CommandError(f"There is no {path}: {error}") from error
    if not callable(handler):
        raise CommandError(f"{path} is not callable.")
    function: Callable[..., Any] = handler
    return function
