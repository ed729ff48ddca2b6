"""Private names of other libraries: where they stand, that they exist, and that hooks are called.

Everything is read from the syntax trees of this library and of the installed versions of others.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import aioice
import aiortc
import pytest

import artico_sync
from artico_sync._webrtc import _aiortc

PACKAGE = Path(artico_sync.__file__).parent
LIBRARIES = ("aiortc", "aioice", "OpenSSL", "janus", "socketio", "engineio", "pylibsrtp")
#: The places for private names, the second for the libraries of signaling.
HOMES = ("_webrtc/_aiortc/", "_protocol/_socketio.py")
#: May only fall.
NAMES_MAXIMUM = 51


class PrivateName(NamedTuple):
    """A private name in use: of which class or module, and where."""

    owner: str
    name: str
    where: str


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def mangle(name: str, owner: str) -> str:
    """Return the name under which Python keeps an attribute of a class."""
    if name.startswith("__") and not name.endswith("__"):
        return f"_{owner.lstrip('_')}{name}"
    return name


@functools.cache
def source_files(library: str) -> tuple[Path, ...]:
    found = importlib.import_module(library).__file__
    assert found is not None
    path = Path(found)
    return tuple(sorted(path.parent.rglob("*.py"))) if path.name == "__init__.py" else (path,)


@functools.cache
def foreign_classes() -> dict[str, dict[str, set[str]]]:
    """The private names of each foreign class, by library and class: methods and attributes."""
    return {
        library: {
            node.name: private_names_of(node)
            for path in source_files(library)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef)
        }
        for library in LIBRARIES
    }


def private_names_of(node: ast.ClassDef) -> set[str]:
    found: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(inner.name)
        elif isinstance(inner, ast.Attribute):
            if isinstance(inner.value, ast.Name) and inner.value.id == "self":
                found.add(inner.attr)
        elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            found.add(inner.target.id)
    return {mangle(name, node.name) for name in found if is_private(name)}


@functools.cache
def all_foreign_names() -> set[str]:
    return {
        name
        for classes in foreign_classes().values()
        for names in classes.values()
        for name in names
    }


@functools.cache
def calls_in(library: str) -> set[str]:
    """The names of all methods a library calls, mangled by the class that contains the call."""
    found: set[str] = set()
    for path in source_files(library):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        scopes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for scope in [tree, *scopes]:
            owner = getattr(scope, "name", "")
            for node in ast.walk(scope):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    found.add(mangle(node.func.attr, owner))
    return found


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def own_names() -> set[str]:
    """Private names that classes and modules of this library define for themselves."""
    found: set[str] = set()
    for path, tree in modules():
        if path.startswith(HOMES):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def strings_to_names(node: ast.AST) -> Iterator[str]:
    """Private names given as text, as to getattr."""
    if isinstance(node, ast.Call):
        for argument in node.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                if argument.value.isidentifier() and is_private(argument.value):
                    yield argument.value


def foreign_uses(path: str, tree: ast.Module) -> Iterator[str]:
    """Describe each use of a foreign private name in a module."""
    for node in ast.walk(tree):
        names = list(strings_to_names(node))
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            names.append(node.attr)
        for name in names:
            if name in all_foreign_names() and name not in own_names():
                yield f"{path}:{getattr(node, 'lineno', 0)} {name}"
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            if parts[0] in LIBRARIES and any(is_private(part) for part in parts[1:]):
                yield f"{path}:{node.lineno} imports {node.module}"


def test_private_names_of_others_stand_in_one_place() -> None:
    elsewhere = [
        use
        for path, tree in modules()
        if not path.startswith(HOMES)
        for use in foreign_uses(path, tree)
    ]
    assert not elsewhere, "\n".join(elsewhere)


def foreign_bases(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__.partition(".")[0] in LIBRARIES]


def all_modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages([str(PACKAGE)], "artico_sync."):
        if "django" in found.name or "flask" in found.name or found.name.endswith("__main__"):
            continue
        yield importlib.import_module(found.name)


def test_no_attribute_of_artico_sync_hides_one_of_a_foreign_base() -> None:
    """A class that sets an attribute its base uses would break the base."""
    hidden = []
    for module in all_modules():
        path = Path(module.__file__ or "").resolve().relative_to(PACKAGE.resolve()).as_posix()
        if path.startswith(HOMES):
            continue
        for kind in vars(module).values():
            if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                continue
            own = private_names_of(class_node(kind))
            for base in foreign_bases(kind):
                classes = foreign_classes()[base.__module__.partition(".")[0]]
                hidden += [
                    f"{path} {kind.__name__}.{name} of {base.__name__}"
                    for name in own & classes.get(base.__name__, set())
                ]
    assert not hidden, "\n".join(hidden)


def class_node(kind: type) -> ast.ClassDef:
    tree = ast.parse(inspect.getsource(importlib.import_module(kind.__module__)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            return node
    raise AssertionError(kind)


def home_modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(_aiortc.__path__):
        yield importlib.import_module(f"{_aiortc.__name__}.{found.name}")
    if (PACKAGE / HOMES[1]).exists():
        yield importlib.import_module("artico_sync._protocol._socketio")


@functools.cache
def names_in_use() -> tuple[PrivateName, ...]:
    """Every private name of others that is in use, with its owner."""
    found: dict[tuple[str, str], PrivateName] = {}
    for module in home_modules():
        tree = ast.parse(inspect.getsource(module))
        own_classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        for node in ast.walk(tree):
            for name in names_of(node):
                owner = owner_of(name, module, own_classes, node)
                if owner is not None:
                    where = f"{module.__name__}:{getattr(node, 'lineno', 0)}"
                    found.setdefault((owner, name), PrivateName(owner, name, where))
    return tuple(sorted(found.values()))


def names_of(node: ast.AST) -> list[str]:
    names = list(strings_to_names(node))
    if isinstance(node, ast.Attribute):
        names.append(node.attr)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        names.append(node.name)
    elif isinstance(node, ast.ImportFrom):
        names += (node.module or "").split(".")
    return [name for name in names if is_private(name)]


def owner_of(
    name: str, module: ModuleType, own_classes: dict[str, ast.ClassDef], node: ast.AST
) -> str | None:
    """Return the foreign class a name belongs to, None if the name is this library's own."""
    for class_name, class_tree in own_classes.items():
        if any(inner is node for inner in ast.walk(class_tree)):
            for base in foreign_bases(getattr(module, class_name)):
                classes = foreign_classes()[base.__module__.partition(".")[0]]
                if name in classes.get(base.__name__, set()):
                    return base.__name__
    if name in set().union(*(private_names_of(tree) for tree in own_classes.values())):
        return None
    # Classes that the module imports go before others that have the same name.
    imported = [kind.__name__ for kind in vars(module).values() if inspect.isclass(kind)]
    for classes in foreign_classes().values():
        for class_name in sorted(classes, key=lambda known: known not in imported):
            if name in classes[class_name]:
                return class_name
    for library in LIBRARIES:
        if any(path.stem == name for path in source_files(library)):
            return library
    return None


@pytest.mark.parametrize("used", names_in_use(), ids=lambda used: f"{used.owner}.{used.name}")
def test_a_private_name_exists(used: PrivateName) -> None:
    names = set().union(*(classes.get(used.owner, set()) for classes in foreign_classes().values()))
    is_module = any(path.stem == used.name for path in source_files_of(used.owner))
    assert used.name in names or is_module, f"{used.where}: {used.owner} has no {used.name}"


def source_files_of(owner: str) -> tuple[Path, ...]:
    return source_files(owner) if owner in LIBRARIES else ()


def aliases() -> Iterator[tuple[type, str]]:
    for module in home_modules():
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.Assign):
                        for name in strings_to_names(inner.value):
                            yield getattr(module, node.name), name


@pytest.mark.parametrize(
    "kind, name", list(aliases()), ids=lambda value: getattr(value, "__name__", value)
)
def test_an_alias_is_of_a_name_its_base_has(kind: type, name: str) -> None:
    bases = foreign_bases(kind)
    assert any(
        name in foreign_classes()[base.__module__.partition(".")[0]].get(base.__name__, set())
        for base in bases
    )


def hooks() -> Iterator[tuple[type, str, str]]:
    """Yield the methods of artico_sync that a foreign base calls under a private name."""
    for module in home_modules():
        for node in ast.parse(inspect.getsource(module)).body:
            if not isinstance(node, ast.ClassDef):
                continue
            kind = getattr(module, node.name)
            for inner in node.body:
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    for base in foreign_bases(kind):
                        library = base.__module__.partition(".")[0]
                        if inner.name in foreign_classes()[library].get(base.__name__, set()):
                            yield kind, inner.name, library


@pytest.mark.parametrize(
    "kind, name, library", list(hooks()), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_hook_is_called_by_the_installed_version(kind: type, name: str, library: str) -> None:
    assert name in calls_in(library), f"{library} calls {kind.__name__}.{name} no more"


def test_every_alias_says_what_it_is_for() -> None:
    for module in home_modules():
        lines = inspect.getsource(module).splitlines()
        for number, line in enumerate(lines):
            if " = Alias[" in line:
                before = number - 1
                while " = Alias[" in lines[before]:
                    before -= 1
                assert lines[before].strip().startswith("#: "), f"{module.__name__}: {line}"


def test_private_names_only_become_fewer() -> None:
    listed = "\n".join(f"{used.owner}.{used.name}" for used in names_in_use())
    assert len(names_in_use()) <= NAMES_MAXIMUM, listed


def test_the_tested_versions_are_installed() -> None:
    assert aiortc.__version__.startswith("1.16.")
    assert aioice.__version__.startswith("0.13.")
