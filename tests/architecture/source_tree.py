"""The modules of the library as syntax trees, and the imports between them."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

import artico_sync

PACKAGE = Path(artico_sync.__file__).parent
ROOT = PACKAGE.parent


@dataclass(frozen=True)
class Import:
    """One import of a module of the library, in the module that contains it."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Syntax trees by path relative to the package, such as `_webrtc/sctp/packets.py`."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def dotted_name(path: str) -> str:
    """Return the name a module is imported by."""
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(["artico_sync", *parts])


@functools.cache
def _paths_by_name() -> dict[str, str]:
    return {dotted_name(path): path for path in modules()}


@functools.cache
def imports() -> tuple[Import, ...]:
    """Every import between modules of the library: at the top, in functions, typing-only ones."""
    return tuple(
        found
        for path, tree in modules().items()
        for node in ast.walk(tree)
        for found in _imports_of(path, node)
    )


def _imports_of(path: str, node: ast.AST) -> list[Import]:
    paths = _paths_by_name()
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        module = _absolute(path, node)
        # `from package import module` names a module, `from module import name` does not.
        names = [
            f"{module}.{alias.name}" if f"{module}.{alias.name}" in paths else module
            for alias in node.names
        ]
    line = getattr(node, "lineno", 0)
    return [
        Import(path, paths[name], line)
        for name in dict.fromkeys(names)
        if paths.get(name, path) != path
    ]


def _absolute(path: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = dotted_name(path).split(".")
    if not path.endswith("__init__.py"):
        package.pop()
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


@functools.cache
def foreign_imports() -> tuple[tuple[str, str, int], ...]:
    """Top-level packages of others that each module imports: path, package, line."""
    found = []
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [(path, alias.name.partition(".")[0], node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.append((path, node.module.partition(".")[0], node.lineno))
    return tuple(found)
