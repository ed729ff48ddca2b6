"""Each public object documents its purpose and its arguments, and has an example."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

#: The modules that users import from; each exports `__all__`, or what it defines.
MODULES = (
    "artico_sync",
    "artico_sync.server.server",
    "artico_sync.contrib.django",
    "artico_sync.contrib.flask",
    "artico_sync.file_transfer",
    "artico_sync.media",
    "artico_sync.testing",
    "artico_sync.testing.scripts",
    "artico_sync.turn",
)
#: Classes that users do not construct, with the reason.
MADE_FOR_THE_USER = {
    "ArticoTestCase": "made by unittest",
    "Call": "made by Artico.call and by incoming calls",
    "ConnectedPair": "made by connected_pair(); its attributes are documented",
    "FakeCall": "made by a FakePeer",
    "FileProgress": "made by a transfer; its attributes are documented",
    "LocalTrack": "the base of VideoTrack and AudioTrack",
    "Recorder": "made by stream.record()",
    "RemoteAudioTrack": "made by a call",
    "RemoteTrack": "made by a call",
    "RemoteVideoTrack": "made by a call",
}
#: Members inherited from other packages are documented there.
PACKAGE_NAME = "artico_sync"


def exported(module: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        own = value.__module__ == module.__name__ and not name.startswith("_")
        if name in names if names is not None else own:
            yield name, value


def public() -> dict[str, Any]:
    """Return the public classes, functions, methods and properties by name."""
    found: dict[str, Any] = {}
    for module_name in MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            # Flask or Django is not installed.
            continue
        for name, value in exported(module):
            found[f"{module_name}.{name}"] = value
            if inspect.isclass(value):
                found.update(members(f"{module_name}.{name}", value))
    return found


def members(name: str, owner: type) -> Iterator[tuple[str, Any]]:
    for member in inspect.classify_class_attrs(owner):
        own = member.defining_class.__module__.startswith(PACKAGE_NAME)
        if own and not member.name.startswith("_") and member.kind != "data":
            yield f"{name}.{member.name}", getattr(owner, member.name)


PUBLIC = public()


def section(text: str, title: str) -> str:
    """Return the indented lines below a title of a docstring."""
    found = re.search(rf"^{title}:\n((?:[ ]+.*\n|\n)*)", text + "\n", re.MULTILINE)
    return "" if found is None else found.group(1)


@pytest.mark.parametrize("name", PUBLIC)
def test_its_docstring_is_complete(name: str) -> None:
    thing = PUBLIC[name]
    text = inspect.getdoc(thing)
    assert text, f"{name} has no docstring"
    purpose = text.partition("\n\n")[0]
    assert purpose.rstrip().endswith((".", "::", ":")), f"{name}: {purpose}"
    if isinstance(thing, property):
        # The example of its class shows it.
        return
    assert ">>> " in section(text, "Example"), f"{name} has no example"
    if inspect.isclass(thing) and (
        thing.__name__ in MADE_FOR_THE_USER or issubclass(thing, Exception)
    ):
        return
    documented = section(text, "Args")
    for argument in arguments_of(thing):
        assert re.search(rf"^ +{argument}: ", documented, re.MULTILINE), f"{name}: {argument}"
    if not inspect.isclass(thing) and returns_a_value(thing):
        assert section(text, "Returns") or "\nYields:" in text, (
            f"{name} does not document its result"
        )


def arguments_of(thing: Any) -> list[str]:
    if inspect.isclass(thing) and thing.__init__ is object.__init__:
        return []
    try:
        signature = inspect.signature(thing)
    except ValueError:
        return []
    return [name for name in signature.parameters if name not in ("self", "cls")]


def returns_a_value(thing: Any) -> bool:
    return inspect.signature(thing).return_annotation not in (None, "None", "NoReturn")


def test_what_is_made_for_the_user_is_there() -> None:
    names = {name.rpartition(".")[2] for name, thing in PUBLIC.items() if inspect.isclass(thing)}
    assert names >= MADE_FOR_THE_USER.keys()


def test_the_walk_finds_what_is_public() -> None:
    assert {
        "artico_sync.Call.send",
        "artico_sync.Call.add_stream",
        "artico_sync.Call.wait_for",
        "artico_sync.Artico.id",
        "artico_sync.media.RemoteVideoTrack.map",
        "artico_sync.testing.scripts.rejects",
        "artico_sync.turn.turn_server",
    } <= PUBLIC.keys()
