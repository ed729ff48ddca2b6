"""Modules, classes and functions are of a size to read; larger ones give a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.source_tree import PACKAGE, modules

MODULES_MAXIMUM = 150
MODULE_LINES_MAXIMUM = 450
FUNCTION_LINES_MAXIMUM = 40
ATTRIBUTES_MAXIMUM = 20
METHODS_MAXIMUM = 25
#: How a docstring says why its object is larger.
REASON = "Large because "


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its decorators and its docstring."""
    body = node.body
    if ast.get_docstring(node, clean=False) is not None:
        body = body[1:]
    if not body:
        return 0
    assert body[-1].end_lineno is not None
    signature = node.body[0].lineno - node.lineno
    return signature + body[-1].end_lineno - body[0].lineno + 1


def has_reason(node: ast.AST) -> bool:
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    return REASON in " ".join((ast.get_docstring(node) or "").split())


def attributes_of(node: ast.ClassDef) -> set[str]:
    """Return the instance attributes that the methods of a class assign or its slots declare."""
    found: set[str] = set()
    for inner in ast.walk(node):
        target: ast.AST | None = None
        if isinstance(inner, ast.Assign):
            targets = inner.targets
        elif isinstance(inner, (ast.AnnAssign, ast.AugAssign)):
            targets = [inner.target]
        else:
            continue
        for group in targets:
            for target in group.elts if isinstance(group, ast.Tuple) else [group]:
                if (
                    isinstance(target, ast.Attribute)
                    and isinstance(target.value, ast.Name)
                    and target.value.id == "self"
                ):
                    found.add(target.attr)
    return found


def methods_of(node: ast.ClassDef) -> set[str]:
    """Return the names of the methods of a class; special ones and overloads count once or not."""
    return {
        inner.name
        for inner in node.body
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not inner.name.startswith("__")
    }


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield path, node


def test_modules_are_few_and_short() -> None:
    few = [path for path in modules() if not path.endswith("__init__.py")]
    long = {
        path: lines
        for path in modules()
        if (lines := (PACKAGE / path).read_text(encoding="utf-8").count("\n"))
        > MODULE_LINES_MAXIMUM
        and REASON not in " ".join((ast.get_docstring(modules()[path]) or "").split())
    }
    assert not long
    assert len(few) <= MODULES_MAXIMUM


def test_functions_are_short() -> None:
    long = [
        f"{path}:{node.lineno} {node.name} has {lines_of(node)} lines"
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and lines_of(node) > FUNCTION_LINES_MAXIMUM
        and not has_reason(node)
    ]
    assert not long, "\n".join(long)


def test_classes_have_few_attributes_and_methods() -> None:
    large = []
    for path, node in classes():
        attributes, methods = len(attributes_of(node)), len(methods_of(node))
        if (attributes > ATTRIBUTES_MAXIMUM or methods > METHODS_MAXIMUM) and not has_reason(node):
            large.append(
                f"{path}:{node.lineno} {node.name}: {attributes} attributes, {methods} methods"
            )
    assert not large, "\n".join(large)


#: The same name for the same thing at two levels, or nested in another: no search mixes them up.
SAME_NAME_ALLOWED: set[str] = set()


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path, node in classes():
        places.setdefault(node.name, []).append(path)
    shared = {
        name: paths
        for name, paths in places.items()
        if len(paths) > 1 and name not in SAME_NAME_ALLOWED and not name.startswith("_")
    }
    assert not shared, shared
