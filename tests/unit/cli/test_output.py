"""The output of the command line if it quotes text of a peer."""

from __future__ import annotations

import io
import json
import sys

import pytest

from artico_sync import CallRejectedError
from artico_sync.cli.doctor import CheckFailed, Report
from artico_sync.cli.output import ExitStatus, Output

#: Sets a terminal's title, clears the screen, and imitates a note of the command line.
STRANGE = "\x1b]0;owned\x07\x9b2J\r\nconnected in 0.01 s"
SHOWN = r"\x1b]0;owned\x07\x9b2J\x0d\x0aconnected in 0.01 s"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_controls_in_a_note_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    Output().note(f"answering mallory: {STRANGE}")
    assert capsys.readouterr().err == f"answering mallory: {SHOWN}\n"


@pytest.mark.parametrize("kind", [CallRejectedError, OSError])
def test_controls_in_an_error_are_escaped(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    Output(quiet=True).error(kind(f"bob said {STRANGE}"), ExitStatus.REJECTED)
    assert capsys.readouterr().err == f"artico-sync: bob said {SHOWN}\n"


def test_progress_stays_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Output().progress(f"calling {STRANGE} ...")
    assert terminal.getvalue() == f"\rcalling {SHOWN} ...\x1b[K"


def test_other_letters_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Output().note("größe\t→ 大 \\x1b")
    assert capsys.readouterr().err == "größe\t→ 大 \\x1b\n"


def test_json_holds_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json_lines=True).event("data", data=f"{STRANGE}\x7f größe")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert json.loads(line)["data"] == f"{STRANGE}\x7f größe"


def test_controls_in_a_result_of_the_doctor_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def check() -> str:
        raise CheckFailed(f"it answers {STRANGE}", f"ask {STRANGE}")

    findings = Report(Output())
    findings.step("the server", check)
    findings.step("the name", lambda: STRANGE)
    lines = capsys.readouterr().out.split("\n")
    assert lines[0].endswith(f" the server: it answers {SHOWN}")
    assert lines[1].strip() == f"ask {SHOWN}"
    assert lines[2].endswith(f" the name: {SHOWN}") and lines[3:] == [""]
