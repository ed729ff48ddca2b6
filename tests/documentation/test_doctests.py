"""The examples in the docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib
import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

import artico_sync
from tests.conftest import RTC_CONFIG
from tests.documentation.docstring_scene import Scene

PACKAGE = Path(artico_sync.__file__).parent
# Modules that need an optional package.
OPTIONAL = {"artico_sync.contrib.flask": "flask", "artico_sync.contrib.django": "django"}
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def examples() -> list[doctest.DocTest]:
    """Return the docstrings with examples, of all modules."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " not in path.read_text(encoding="utf-8"):
            continue
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if name in OPTIONAL and importlib.util.find_spec(OPTIONAL[name]) is None:
            continue
        module = importlib.import_module(name)
        found += [test for test in finder.find(module, name, globs={}) if test.examples]
    return found


# On Python 3.12 and later a fork beside threads is warned of.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("example", examples(), ids=lambda example: str(example.name))
def test_example(
    example: doctest.DocTest,
    server: artico_sync.ArticoServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = "".join(part.source for part in example.examples)
    if "os.fork" in source and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    for part in example.examples:
        # A timeout that suits a reader is too short on a busy machine.
        part.source = re.sub(r"\btimeout=5\b", "timeout=30", part.source)
        part.source = part.source.replace("display(timeout=0.2)", "display(timeout=4)")
    monkeypatch.chdir(tmp_path)
    if example.name.startswith("artico_sync.contrib.flask"):
        defaults = importlib.import_module("artico_sync.contrib.flask").DEFAULTS
        monkeypatch.setitem(defaults, "ARTICO_RTC_CONFIG", RTC_CONFIG)
    report: list[str] = []
    with ExitStack() as closing:
        example.globs = Scene(example.name, source, server, tmp_path, closing).names
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append, clear_globs=False)
    assert not report, "".join(report)


def test_the_examples_are_found() -> None:
    modules = {example.name.rpartition(".")[0] for example in examples()}
    assert {"artico_sync.call.Call", "artico_sync.events.EventEmitter"} <= modules
