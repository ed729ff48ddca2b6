"""The examples in the docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib

import pytest

import artico_sync
from tests.conftest import MakeArtico

MODULES = (
    "artico_sync.artico",
    "artico_sync.artico_server",
    "artico_sync.call",
    "artico_sync.events",
    "artico_sync.media.local",
    "artico_sync.media.remote",
    "artico_sync.media.streams",
    "artico_sync.sharing",
    "artico_sync.signaling",
    "artico_sync.turn",
)
TIMEOUT = 10


def picture() -> artico_sync.VideoTrack:
    """A dark picture that goes on for ever."""
    import av

    return artico_sync.VideoTrack.from_frames(lambda: av.VideoFrame(64, 48, "rgb24"), fps=10)


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        found += [test for test in finder.find(module, name) if test.examples]
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: str(example.name))
def test_example(
    example: doctest.DocTest, make_artico: MakeArtico, server: artico_sync.ArticoServer
) -> None:
    rtco, other = make_artico("alice"), make_artico("other")
    call = rtco.call("other")
    incoming = other.wait_for("call", TIMEOUT).answer()
    example.globs.update(
        vars(artico_sync),
        server=server,
        make_artico=make_artico,
        rtco=rtco,
        call=call.wait_open(TIMEOUT),
        incoming=incoming.wait_open(TIMEOUT),
        picture=picture,
    )
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=flags)
    runner.run(example, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


def test_there_are_examples() -> None:
    documented = {example.name.rpartition(".")[2] for example in examples()}
    assert documented >= {"send", "recv", "flush", "hangup", "connect", "on", "wait_for"}
