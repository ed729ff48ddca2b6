"""The arrows of the library: which folder imports which, and no circle of files."""

from __future__ import annotations

import ast
import re
from configparser import ConfigParser

import pytest

from tests.architecture.source_tree import (
    ROOT,
    Import,
    foreign_imports,
    imports,
    modules,
)
from tests.architecture.thread_table import PUBLIC, place_of, row_of, rows

#: Modules that use a package only if the user has installed it: an extra, or the user's own.
OPTIONAL = {"IPython", "PIL", "django", "flask", "numpy", "pytest", "uvloop", "werkzeug"}
#: Packages by the name they are imported under, if it differs.
DISTRIBUTIONS = {
    "OpenSSL": "pyopenssl",
    "google_crc32c": "google-crc32c",
    "socketio": "python-socketio",
    "engineio": "python-engineio",
}


def violates(found: Import) -> bool:
    row = row_of(found.importer)
    place = place_of(found.imported)
    return place not in row.may_import and place not in row.places


def test_imports_follow_the_table() -> None:
    wrong = [str(found) for found in imports() if violates(found)]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Typing-only imports and those inside functions count as well."""
    edges: dict[str, set[str]] = {path: set() for path in modules()}
    for found in imports():
        edges[found.importer].add(found.imported)
    assert not circles(edges), "\n".join(" -> ".join(circle) for circle in circles(edges))


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for following in sorted(edges[node]):
            if following not in index:
                visit(following)
                low[node] = min(low[node], low[following])
            elif following in stack:
                low[node] = min(low[node], index[following])
        if low[node] == index[node]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == node:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_every_folder_has_its_row() -> None:
    named = {place for row in rows() for place in row.places} - {PUBLIC}
    for place in named:
        assert any(path == place or path.startswith(place) for path in modules()), place
    private = {path.partition("/")[0] + "/" for path in modules() if re.match(r"_[a-z]\w*/", path)}
    assert private <= named


def forbidden_on(thread: str) -> set[str]:
    """Return the modules that code on such a thread has no use for."""
    if thread.startswith("the loop thread"):
        return {"threading", "queue", "_thread", "janus"}
    if thread.startswith("any thread, pure"):
        return {"threading", "queue", "_thread", "janus", "asyncio", "aiortc", "aioice", "aiohttp"}
    if thread.startswith("the event loop"):
        return {"queue", "_thread", "janus"}
    return set()


def test_what_runs_on_the_loop_knows_no_threads_and_pure_code_no_loop() -> None:
    wrong = [
        f"{path}:{line} imports {package}, but runs on {row_of(path).thread}"
        for path, package, line in foreign_imports()
        if package in forbidden_on(row_of(path).thread)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", [p for p in modules() if row_of(p).thread == "user threads"])
def test_code_for_user_threads_is_not_asynchronous(path: str) -> None:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    lines = [node.lineno for node in ast.walk(modules()[path]) if isinstance(node, kinds)]
    assert not lines, f"{path} is asynchronous in lines {lines}"


def test_sctp_is_free_of_input_and_output() -> None:
    """All of it but its transport works on packets and times that are handed to it."""
    wrong = [
        f"{path}:{line} imports {package}"
        for path, package, line in foreign_imports()
        if path.startswith("_webrtc/sctp/")
        and path != "_webrtc/sctp/transport.py"
        and package in {"asyncio", "aiortc", "aioice", "socket", "threading", "time"}
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_imported_is_declared() -> None:
    import sys

    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    declared = {
        re.split(r"[\[<>=;~! ]", line)[0].lower().replace("_", "-")
        for line in parser["options"]["install_requires"].split("\n")
        if line.strip()
    }
    used = {
        DISTRIBUTIONS.get(package, package).lower().replace("_", "-")
        for _, package, _ in foreign_imports()
        if package not in sys.stdlib_module_names and package not in OPTIONAL
    } - {"artico-sync", "typing-extensions"}
    assert used <= declared, f"not in install_requires: {sorted(used - declared)}"
