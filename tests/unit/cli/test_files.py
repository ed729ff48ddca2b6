"""`--send-file` and `--receive-to`, run as a shell runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from artico_sync import ArticoServer
from artico_sync.cli import main
from artico_sync.files import FileProgress, send_file
from artico_sync.files.messages import parse_message
from tests.command_line import artico_sync
from tests.conftest import TIME_UNIT, MakeArtico

pytestmark = pytest.mark.slow

TIMEOUT = 20.0 * TIME_UNIT


def test_files_from_one_shell_to_another(server: ArticoServer, tmp_path: Path) -> None:
    contents = {"big.bin": os.urandom(5_000_000), "empty": b"", "größe.txt": b"text"}
    options: list[str] = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        options += ["--send-file", str(tmp_path / name)]
    inbox = tmp_path / "new" / "inbox"
    receiving = ["answer", "--id", "bob", "--no-stun", "--receive-to", str(inbox)]
    with artico_sync(*receiving, url=server.url) as bob:
        bob.err.wait_for("waiting")
        with artico_sync("call", "bob", "--no-stun", *options, url=server.url) as alice:
            assert alice.wait() == 0, alice.err.all()
            assert "SHA-256 checked" in alice.err.wait_for("sent big.bin")
            assert alice.out.all() == []
        assert bob.wait() == 0, bob.err.all()
        assert bob.out.all() == []
    assert {path.name: path.read_bytes() for path in inbox.iterdir()} == contents


def test_progress_as_json(server: ArticoServer, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    inbox = tmp_path / "inbox"
    receiving = ["answer", "--id", "bob", "--no-stun", "--json", "--receive-to", str(inbox)]
    with artico_sync(*receiving, url=server.url) as bob:
        bob.out.wait_for('"ready"')
        sending = ["call", "bob", "--no-stun", "--send-file", str(tmp_path / "a.bin")]
        with artico_sync(*sending, url=server.url) as alice:
            assert alice.wait() == 0
        assert bob.wait() == 0
        events = [json.loads(line) for line in bob.out.all()]
    files = [event for event in events if event["event"] == "file"]
    assert [event["state"] for event in files if event["state"] != "moving"] == ["begun", "done"]
    assert files[-1]["path"] == str(inbox / "a.bin")


def test_a_peer_that_takes_no_files(server: ArticoServer, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with artico_sync("answer", "--id", "bob", "-n", "--no-stun", url=server.url) as bob:
        bob.err.wait_for("waiting")
        sending = ["call", "bob", "--no-stun", "--send-file", str(path)]
        with artico_sync(*sending, url=server.url) as alice:
            assert alice.wait() == 8
        assert bob.wait() == 0
        assert bob.out.all() == []


def test_no_more_than_the_limit(server: ArticoServer, tmp_path: Path) -> None:
    options: list[str] = []
    for name, size in {"first": 700, "large": 400, "small": 300}.items():
        (tmp_path / name).write_bytes(os.urandom(size))
        options += ["--send-file", str(tmp_path / name)]
    inbox = tmp_path / "inbox"
    receiving = ["answer", "--id", "bob", "--no-stun", "--receive-to", str(inbox)]
    with artico_sync(*receiving, "--receive-limit", "1K", url=server.url) as bob:
        bob.err.wait_for("waiting")
        with artico_sync("call", "bob", "--no-stun", *options, url=server.url) as alice:
            assert alice.wait() == 8
            assert "no more than 1024 bytes" in alice.err.wait_for("was not sent")
        assert bob.wait() == 0, bob.err.all()
    assert sorted(os.listdir(inbox)) == ["first", "small"]


def test_going_on_after_an_interruption(
    server: ArticoServer, make_artico: MakeArtico, tmp_path: Path
) -> None:
    content = os.urandom(3_000_000)
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    inbox = tmp_path / "inbox"
    receiving = ["call", "bob", "--no-stun", "--receive-to", str(inbox)]
    bob = make_artico("bob")
    with artico_sync(*receiving, url=server.url) as alice:
        # A sender that goes away in the middle.
        call = bob.wait_for("call", TIMEOUT).answer().wait_open()

        def leave(progress: FileProgress) -> None:
            if progress.moved > 1_000_000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            send_file(call, path, on_progress=leave)
        call.hangup()
        assert alice.wait() == 8
    with artico_sync(*receiving, url=server.url) as alice:
        call = bob.wait_for("call", TIMEOUT).answer().wait_open()
        begun: list[int] = []
        send_file(call, path, on_progress=lambda p: begun.append(p.moved))
        call.hangup()
        assert alice.wait() == 0
        assert "going on at" in alice.err.wait_for("receiving a.bin")
    assert begun[0] > 1_000_000
    assert (inbox / "a.bin").read_bytes() == content


def test_a_plain_chat_is_not_harmed(
    server: ArticoServer, make_artico: MakeArtico, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    bob = make_artico("bob")
    sending = ["call", "bob", "--no-stun", "--timeout", "5", "--send-file", str(path)]
    with artico_sync(*sending, url=server.url) as alice:
        messages = list(bob.wait_for("call", TIMEOUT).answer())
        assert all(parse_message(message) is not None for message in messages)
        assert alice.wait() == 8


@pytest.mark.parametrize(
    "options",
    [
        ["--send-file", "/nowhere/at-all"],
        ["--receive-to", __file__],
        ["--receive-limit", "2G"],
        ["--receive-to", "/tmp", "--receive-limit", "many"],
        ["--receive-to", "/tmp", "--receive-limit", "0"],
        ["--receive-to", "/tmp", "--receive-limit", "-5M"],
    ],
    ids=" ".join,
)
def test_options_that_cannot_be(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["call", "bob", *options])
    assert caught.value.code == 2
