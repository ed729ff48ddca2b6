"""`artico-sync demo` and `serve`, the help, and wrong command lines."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from time import monotonic

import pytest

from artico_sync import Artico
from artico_sync.cli import main
from artico_sync.cli.arguments import parse_arguments, parse_size
from artico_sync.cli.output import MEANINGS, ExitStatus
from tests.command_line import artico_sync
from tests.conftest import TIME_UNIT, MakeArtico

RTC_CONFIG: dict[str, object] = {"iceServers": []}


@pytest.mark.slow
def test_demo_does_every_step_in_time() -> None:
    begun = monotonic()
    with artico_sync("demo") as demo:
        assert demo.wait() == 0
        lines = demo.out.all()
        assert demo.err.all() == []
    assert monotonic() - begun < 5 * TIME_UNIT
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * 8
    assert "All of it worked" in lines[-1]


def test_demo_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["step"] * 8 + ["demo"]
    assert all(event["ok"] for event in events)
    assert events[5]["bytes"] == 4 * 1024 * 1024


def test_demo_tells_when_a_step_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from artico_sync.cli import demo

    monkeypatch.setattr(demo, "METADATA", "other")
    monkeypatch.setattr(demo.Bob, "_on_call", lambda bob, call, metadata: bob.called.set())
    assert main(["demo"]) == 1
    assert "FAILED StepFailed: bob was shown the metadata None" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.net
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's network namespaces")
def test_demo_needs_no_network() -> None:
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us make a network namespace")
    # There is no `ip` everywhere; this is what `ip link set lo up` does.
    code = (
        "import fcntl, socket, struct, sys; s = socket.socket();"
        "fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', 1)); s.close();"
        "from artico_sync.cli import main; sys.exit(main(['demo']))"
    )
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [*alone, sys.executable, "-c", code], capture_output=True, text=True, timeout=20, cwd=root
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_a_signal(number: signal.Signals) -> None:
    with artico_sync("serve", "--port", "0") as serve:
        url = serve.out.wait_for("serving at ").split()[-1]
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            assert answer.status == 200
        with Artico(url, id="bob", rtc_config=RTC_CONFIG):
            pass
        status, seconds = serve.interrupt(number)
        assert status == 0
        assert seconds < 2 * TIME_UNIT
        assert "Traceback" not in "\n".join(serve.err.all())


@pytest.mark.slow
def test_serve_as_json() -> None:
    with artico_sync("serve", "--port", "0", "--json") as serve:
        event = json.loads(serve.out.wait_for("{"))
        assert event["event"] == "serving"
        assert event["url"].startswith("http://127.0.0.1:")
        assert serve.interrupt()[0] == 0
        assert json.loads(serve.out.all()[-1]) == {"event": "stopped"}


@pytest.mark.slow
def test_serve_with_a_token() -> None:
    with artico_sync("serve", "--port", "0", "--token", "sesame") as serve:
        url = serve.out.wait_for("serving at ").split()[-1]
        with artico_sync("call", "bob", "--no-stun", url=url) as call:
            assert call.wait() == ExitStatus.SIGNALING
        with artico_sync("call", "bob", "--no-stun", "--token", "sesame", url=url) as call:
            assert call.wait() == ExitStatus.UNAVAILABLE


def test_serve_where_the_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == ExitStatus.ERROR
    assert capsys.readouterr().err.startswith("artico-sync: ")


@pytest.mark.parametrize(
    "arguments",
    [["--key", "key.pem"], ["--origin", "not an origin"], ["--cert", "/nowhere/cert.pem"]],
)
def test_serve_refuses_what_it_cannot_use(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0", *arguments]) in (ExitStatus.USAGE, ExitStatus.ERROR)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["call"],
        ["call", ""],
        ["call", "bob", "--id", "bob"],
        ["call", "bob", "--timeout", "-1"],
        ["call", "bob", "--timeout", "soon"],
        ["call", "bob", "--replies", "0"],
        ["call", "bob", "--url", "nonsense"],
        ["call", "bob", "--no-stun", "--ice-server", "stun:stun.example"],
        ["call", "bob", "--ice-server", "http://stun.example"],
        ["call", "bob", "--ice-server", "turn:turn.example"],
        ["call", "bob", "--ice-server", "turn:turn.example,user"],
        ["serve", "--port", "70000"],
    ],
    ids=" ".join,
)
def test_wrong_command_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == ExitStatus.USAGE
    assert "artico-sync" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["demo"], ["serve"], ["call"], ["answer"]])
def test_help_tells_the_exit_statuses(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert MEANINGS.strip() in capsys.readouterr().out


def test_each_exit_status_is_documented() -> None:
    for status in ExitStatus:
        assert f"\n  {status.value} " in MEANINGS


def test_a_turn_server_with_credentials(make_artico: MakeArtico) -> None:
    options = parse_arguments(["call", "bob", "--ice-server", "turn:turn.example:3478,me,a,b"])
    assert options.rtc_config == {
        "iceServers": [{"urls": ["turn:turn.example:3478"], "username": "me", "credential": "a,b"}]
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("123 B", 123),
        ("1k", 1024),
        ("1.5MiB", 3 * 2**19),
        ("2G", 2**31),
        ("2 gb", 2 * 10**9),
        (" 4T ", 2**42),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "1.M", "-1", "1e9", "1P", "1 MBit", "1 2", "nan", "٣", "9" * 5000]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def complete(script: str, *words: str) -> set[str]:
    """Return what bash completes the last of these words to."""
    line = " ".join(f"'{word}'" for word in words)
    code = (
        f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_artico_sync;"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_in_bash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    (tmp_path / "film.mp4").touch()
    assert complete(script, "artico-sync", "de") == {"demo"}
    assert complete(script, "artico-sync", "call", "--pl") == {"--play"}
    assert complete(script, "artico-sync", "call", "--play", f"{tmp_path}/f") == {
        f"{tmp_path}/film.mp4"
    }
    assert "--port" in complete(script, "artico-sync", "serve", "-")
    assert "--port" not in complete(script, "artico-sync", "call", "-")
    assert "--timeout" not in complete(script, "artico-sync", "demo", "-")


@pytest.mark.parametrize(
    "shell, line", [("zsh", "compdef _shtab_artico_sync"), ("fish", "-l play -xka")]
)
def test_completion_in_other_shells(
    capsys: pytest.CaptureFixture[str], shell: str, line: str
) -> None:
    assert main(["completion", shell]) == 0
    assert line in capsys.readouterr().out
