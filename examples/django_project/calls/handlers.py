"""Answers calls, on a thread for each: `python manage.py artico_answer calls.handlers.answer`."""

from __future__ import annotations

from artico_sync import Call


def answer(call: Call, metadata: str | None) -> None:
    """Answer every question until the caller hangs up."""
    if metadata == "advertisement":
        call.hangup()  # before the answer, this rejects
        return
    with call.answer():
        for text in call:
            call.send(f"You said: {text!s}")
