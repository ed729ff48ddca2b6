"""The objects that docstring examples use: peers, calls, files."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import artico_sync
from artico_sync import Artico, ArticoServer, Call, MediaStream
from tests.call_media import sound
from tests.conftest import RTC_CONFIG, TIME_UNIT
from tests.media_content import make_film

TIMEOUT = 10 * TIME_UNIT
#: Modules that a reader of their help has imported: their names are available in the examples, as
#: are those of `artico_sync`.
SUBJECTS = (
    "artico_sync.server.server",
    "artico_sync.contrib.django",
    "artico_sync.contrib.flask",
    "artico_sync.files",
    "artico_sync.testing",
    "artico_sync.turn",
)
#: Subjects whose modules lie elsewhere.
ELSEWHERE = {"artico_sync.server.limits": "artico_sync.server.server"}
#: What the other side shares before the example begins, by the beginning of its name.
SHARED: dict[str, Callable[[], Any]] = {
    "artico_sync.media.remote.RemoteAudioTrack": lambda: sound(440),
    "artico_sync.media.remote": lambda: black(),
    "artico_sync.media.streams.Recorder": lambda: black(),
}


def black() -> artico_sync.VideoTrack:
    """Yield small black pictures without limit."""
    picture = np.zeros((48, 64, 3), np.uint8)
    return artico_sync.VideoTrack.from_frames(lambda: picture, fps=10)


class Scene:
    """Makes the objects that the examples of one docstring name, and closes them.

    Args:
        name: The documented object's full name.
        source: The text of its examples.
        server: Where the peers meet.
        folder: The current one, empty.
        closing: Runs what is left to do at the end.
    """

    def __init__(
        self, name: str, source: str, server: ArticoServer, folder: Path, closing: ExitStack
    ) -> None:
        self._name = name
        self._words = set(re.findall(r"[\w.]+", source)) | set(re.findall(r"\w+", source))
        self._server = server
        self._folder = folder
        self._closing = closing
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._import("artico_sync")
        for subject in SUBJECTS:
            if ELSEWHERE.get(name.rpartition(".")[0], name).startswith(subject):
                self._import(subject)
        self.names.update(server=server, Artico=self._make_class())
        self._set()

    def _import(self, module: str) -> None:
        subject = importlib.import_module(module)
        public = getattr(subject, "__all__", [name for name in vars(subject) if name[0] != "_"])
        self.names.update({name: getattr(subject, name) for name in public})

    def _make_class(self) -> type[Artico]:
        closing = self._closing

        class LocalArtico(Artico):
            """An Artico that contacts no server outside this machine, closed after the example."""

            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **{"rtc_config": dict(RTC_CONFIG), **options})
                closing.callback(self.close)

        return LocalArtico

    def _names(self, *wanted: str) -> bool:
        return not self._words.isdisjoint(wanted)

    def _set(self) -> None:
        make = self.names["Artico"]
        if self._names("bob"):
            self._answer_as_bob(make(self._server.url, id="bob").connect())
        if self._names("rtco", "call", "incoming"):
            self.names["rtco"] = make(self._server.url, id="alice").connect()
        if self._names("call", "incoming"):
            other = make(self._server.url).connect()
            call = self.names["rtco"].call(other.id)
            incoming = other.wait_for("call", TIMEOUT).answer().wait_open(TIMEOUT)
            self.names.update(call=call.wait_open(TIMEOUT), incoming=incoming)
            self._share(incoming)
        if self._names("film.mp4"):
            make_film(self._folder / "film.mp4", 1.0)
        if self._names("letter.txt"):
            (self._folder / "letter.txt").write_text("Dear Bob, ")
        if self._names("inbox"):
            (self._folder / "inbox").mkdir()
        if self._name.startswith("artico_sync.testing.fixtures.ArticoTestCase"):
            case = self.names["self"] = self.names["ArticoTestCase"]()
            case.setUp()
            self._closing.callback(case.doCleanups)
        if self._name.startswith("artico_sync.contrib.flask"):
            self._set_flask()
        if self._name.startswith("artico_sync.contrib.django"):
            self._set_django()

    def _answer_as_bob(self, bob: Artico) -> None:
        def incoming(call: Call) -> None:
            call.on("data", lambda text: call.send(text.upper()))
            call.answer()

        bob.on("call", incoming)

    def _share(self, incoming: Call) -> None:
        for beginning, track in SHARED.items():
            if self._name.startswith(beginning):
                incoming.add_stream(MediaStream([track()]), metadata="from the roof")
                return

    def _set_flask(self) -> None:
        flask = importlib.import_module("flask")
        contrib: Any = importlib.import_module("artico_sync.contrib.flask")
        app = flask.Flask("shop")
        app.config["ARTICO_URL"] = self._server.url
        artico = contrib.ArticoExtension(app)
        self._closing.callback(artico.close, app)
        self.names.update(app=app, artico=artico, Flask=flask.Flask, current_app=flask.current_app)

    def _set_django(self) -> None:
        settings: Any = importlib.import_module("django.conf").settings
        test: Any = importlib.import_module("django.test")
        client: Any = importlib.import_module("artico_sync.contrib.django.client")
        if not settings.configured:
            settings.configure()
        values = {"URL": self._server.url, "RTC_CONFIG": RTC_CONFIG}
        self._closing.enter_context(test.override_settings(ARTICO=values))
        self._closing.callback(client.settings_client.close, TIMEOUT)
