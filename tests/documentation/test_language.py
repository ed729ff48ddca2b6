"""Comments, docstrings, texts and README.rst are written in plain technical English."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: A docstring begins with a verb, or with the noun phrase for what the object is.
OPENINGS = re.compile(r"(What|Whether|Who|Whom|How|Where|When|As|Why)\b")
#: Phrases with a plainer one in the field, each with that one.
PHRASES = {
    "of ours": "artico_sync peer, local",
    "anew": "again",
    "for ever": "without limit",
    "all the same": "nevertheless",
    "harmless": "has no effect",
    "so many": "n, at most n",
    "so long as": "while",
    "is told": "is notified",
    "are told": "are notified",
    "meanwhile": "during this time",
    "signalling": "signaling",
}
PHRASE = re.compile(rf"\b({'|'.join(PHRASES)})\b", re.IGNORECASE)
#: A name in the output of `artico-sync doctor --json`, which programs read.
EXEMPT = {
    ("artico_sync/cli/doctor.py", '"signalling"'),
    ("tests/unit/cli/test_doctor.py", '"signalling"'),
}


def sources() -> Iterator[Path]:
    for folder in ("artico_sync", "tests", "examples"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def docstring_findings(text: str) -> Iterator[str]:
    """Yield the faulty first lines of the docstrings in a module."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = ast.get_docstring(node) or ""
        line = docstring.partition("\n")[0]
        if OPENINGS.match(line) or "?" in line or docstring.rstrip().endswith("?"):
            yield f"{getattr(node, 'name', 'module')}: {line}"


def phrase_findings(path: str, text: str) -> Iterator[str]:
    """Yield the comments and strings of a module that contain one of `PHRASES`."""
    if not PHRASE.search(" ".join(text.split())):
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_text = token.type in (tokenize.COMMENT, tokenize.STRING)
        # From Python 3.12 on, f-strings have tokens of their own.
        if not is_text and tokenize.tok_name[token.type] != "FSTRING_MIDDLE":
            continue
        if (path, token.string) not in EXEMPT:
            for match in PHRASE.finditer(" ".join(token.string.split())):
                yield f"{token.start[0]}: {match[0]}; say {PHRASES[match[0].lower()]!r}"


def findings() -> Iterator[str]:
    """Yield the description of each fault."""
    for path in sources():
        if path == Path(__file__):
            continue
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        for finding in (*docstring_findings(text), *phrase_findings(name, text)):
            yield f"{name}: {finding}"
    for name in ("README.rst", "CHANGES.rst", "tests/README.rst", "examples/README.rst"):
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
            for match in PHRASE.finditer(line):
                yield f"{name}:{number}: {match[0]}; say {PHRASES[match[0].lower()]!r}"


def test_texts_are_plain_technical_english() -> None:
    wrong = list(findings())
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "docstring",
    ["What a peer sends.", "Whether it is open.", "Is it open?", "A call; open? Yes.", "As above."],
)
def test_docstrings_that_are_no_noun_phrases_are_found(docstring: str) -> None:
    assert list(docstring_findings(f'"""{docstring}"""\n'))


@pytest.mark.parametrize("docstring", ["Return the state.", "Whatever is sent.", "A call.\n\nA?"])
def test_docstrings_that_are_questions_at_their_end_only(docstring: str) -> None:
    expected = docstring.endswith("?")
    assert bool(list(docstring_findings(f'"""{docstring}"""\n'))) == expected


@pytest.mark.parametrize(
    "line",
    ["# Begun anew.", 'text = f"so many {things}"', '"""It waits for\never."""', "'Meanwhile'"],
)
def test_phrases_are_found_in_comments_and_strings(line: str) -> None:
    assert list(phrase_findings("module.py", f"{line}\n"))


def test_names_are_not_texts() -> None:
    assert not list(phrase_findings("module.py", "meanwhile = signalling = 1\n"))
