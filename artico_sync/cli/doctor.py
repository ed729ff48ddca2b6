"""`artico-sync doctor`: what works from here and what does not, step by step; main thread."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync._webrtc.configuration import DEFAULT_SERVERS
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.cli import stun
from artico_sync.cli.exit_status import ExitStatus
from artico_sync.cli.output import Output, colours, one_line
from artico_sync.errors import (
    ArticoError,
    ArticoTimeoutError,
    ConnectionFailedError,
    PeerUnavailableError,
    SignalingError,
)

# Seconds each step may take.
LIMIT = 5.0
# Seconds after which a server that says nothing about an unknown id is one that never does.
SILENCE = 1.0
LARGE = 256 * 1024
TEXT = "doctor \N{STETHOSCOPE}"


class CheckFailed(Exception):
    """A step did not work.

    Args:
        what: What happened.
        advice: What to do about it.
    """

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice


class Report:
    """Prints what each step found."""

    def __init__(self, output: Output) -> None:
        self._output = output
        coloured = colours(sys.stdout)
        self._marks = {
            "ok": "\x1b[32m✓\x1b[0m" if coloured else "ok    ",
            "failed": "\x1b[31m✗\x1b[0m" if coloured else "FAILED",
            "skipped": "\x1b[33m-\x1b[0m" if coloured else "-     ",
        }
        self.failed = 0

    def step(self, name: str, check: Callable[[], str]) -> bool:
        """Run one check, which returns its result or raises `CheckFailed`; tell if it passed."""
        begun = monotonic()
        self._output.progress(f"{name} ...")
        try:
            found = check()
        except CheckFailed as error:
            self.failed += 1
            self._print("failed", name, error.what, error.advice, monotonic() - begun)
            return False
        self._print("ok", name, found, None, monotonic() - begun)
        return True

    def skip(self, name: str, why: str) -> None:
        self._print("skipped", name, why, None, 0.0)

    def _print(self, state: str, name: str, text: str, advice: str | None, seconds: float) -> None:
        self._output.result(f"{self._marks[state]} {name}: {one_line(text)}")
        if advice is not None:
            self._output.result(f"         {one_line(advice)}")
        self._output.event(
            "check", name=name, state=state, text=text, advice=advice, seconds=round(seconds, 3)
        )


def doctor(options: argparse.Namespace, output: Output) -> int:
    """Check everything a call needs; returns the exit status."""
    findings = Report(output)
    status = _examine(options, findings)
    if findings.failed:
        output.result(f"{findings.failed} of the checks failed.")
    else:
        output.result("Everything a call needs works from here.")
    output.event("doctor", ok=not findings.failed)
    return status


def _examine(options: argparse.Namespace, findings: Report) -> ExitStatus:
    url: str = options.url
    servers = _ice_servers(options.rtc_config)
    stuns = [server for server in servers if server["urls"].startswith("stun")]
    turns = [server for server in servers if server["urls"].startswith("turn")]
    alone: dict[str, Any] = {"iceServers": []}
    if not (
        findings.step("server", lambda: _check_server(url))
        and findings.step("signalling", lambda: _check_signaling(url, options.token))
    ):
        return ExitStatus.SIGNALING
    findings.step(
        "data channel, directly",
        lambda: _check_call(
            url, options.token, alone, "Something on this machine keeps UDP from it: a firewall?"
        ),
    )
    if stuns:
        findings.step("STUN", lambda: _check_stun([server["urls"] for server in stuns]))
    else:
        findings.skip("STUN", "no STUN server is configured")
    for server in turns:
        relayed = {"iceServers": [server], "iceTransportPolicy": "relay"}
        advice = "Check its address, user and password, and that its UDP ports are open."
        check = partial(_check_call, url, options.token, relayed, advice)
        findings.step(f"TURN, through {server['urls']}", check)
    if not turns:
        findings.skip(
            "TURN", "no TURN server is configured; calls between strict networks need one"
        )
    return ExitStatus.ERROR if findings.failed else ExitStatus.OK


def _ice_servers(rtc_config: dict[str, Any] | None) -> list[dict[str, Any]]:
    # One for each URL.
    default = {"iceServers": [{"urls": list(DEFAULT_SERVERS)}]}
    return [
        {**server, "urls": url}
        for server in (rtc_config or default)["iceServers"]
        for url in server["urls"]
    ]


def _check_server(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
    begun = monotonic()
    try:
        socket.create_connection((host, port), timeout=LIMIT).close()
    except socket.gaierror:
        raise CheckFailed(
            f"there is no host {host}", "Check the name, and that DNS works."
        ) from None
    except TimeoutError:
        advice = "A firewall in between, or the wrong port?"
        raise CheckFailed(f"{host} does not answer at port {port}", advice) from None
    except OSError as error:
        advice = "Is the server running there (artico-sync serve), and is the port right?"
        text = os.strerror(error.errno) if error.errno else str(error)
        raise CheckFailed(f"{host} port {port}: {text}", advice) from None
    return f"{host} port {port} answers after {1000 * (monotonic() - begun):.0f} ms"


def _check_signaling(url: str, token: str | None) -> str:
    alone: dict[str, Any] = {"iceServers": []}
    rtco = Artico(url, token=token, rtc_config=alone)
    begun = monotonic()
    try:
        rtco.connect(LIMIT)
    except ArticoTimeoutError:
        advice = "Something answers there, but no signalling server: check the port."
        raise CheckFailed(
            f"no word from {ServerUrl.parse(url)} within {LIMIT:g} s", advice
        ) from None
    except SignalingError as error:
        advice = "Is that a signalling server? Does it want a --token?"
        raise CheckFailed(error.message, advice) from error
    seconds = monotonic() - begun
    try:
        kind = _kind_of_server(rtco)
    finally:
        rtco.close(0)
    return f"ready after {1000 * seconds:.0f} ms; {kind}"


def _kind_of_server(rtco: Artico) -> str:
    # Nobody has this id: it is a random one of our own kind.
    call = rtco.call(f"{rtco.id}-nobody")
    try:
        call.wait_open(SILENCE)
    except PeerUnavailableError:
        return "it says when a peer is not there"
    except ArticoError:
        return "it does not say when a peer is not there, so such calls run into --timeout"
    return "and somebody answers to an id nobody has"


def _check_call(url: str, token: str | None, rtc_config: dict[str, Any], advice: str) -> str:
    """Two clients of this process call each other."""
    with (
        Artico(url, token=token, rtc_config=rtc_config, connect_timeout=LIMIT) as one,
        Artico(url, token=token, rtc_config=rtc_config, connect_timeout=LIMIT) as two,
    ):
        two.on("call", _echo)
        call = one.call(two.id)
        begun = monotonic()
        try:
            call.wait_open(LIMIT)
            seconds = monotonic() - begun
            for message in (TEXT, "x" * LARGE):
                call.send(message)
                if call.recv(LIMIT) != message:
                    raise CheckFailed("a message came back changed", "Please report this.")
        except (ConnectionFailedError, ArticoTimeoutError):
            raise CheckFailed(f"no connection to itself within {LIMIT:g} s", advice) from None
        except ArticoError as error:
            raise CheckFailed(error.message, advice) from error
        pair = call.stats().get("local", {})
        call.hangup()
    path = f"{pair.get('type', '?')} candidate {pair.get('address', '?')}"
    return f"open after {1000 * seconds:.0f} ms over the {path}; messages come back unchanged"


def _echo(call: Call) -> None:
    call.on("data", call.send)
    call.answer()


def _check_stun(urls: list[str]) -> str:
    advice = (
        "UDP to the outside is blocked. Calls within this network work; for others use a TURN"
        " server (--ice-server turn:HOST:PORT,USER,PASSWORD)."
    )
    mapped: dict[str, stun.Address] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        for url in urls:
            try:
                mapped[url] = stun.ask(endpoint, stun.parse_url(url), LIMIT / len(urls))
            except OSError:
                continue
    if not mapped:
        raise CheckFailed(f"no answer from {', '.join(urls)}", advice)
    if len(set(mapped.values())) > 1:
        raise CheckFailed(
            f"this network shows each server another port ({_addresses(mapped)})",
            "A symmetric NAT: calls to peers behind a similar one need a TURN server.",
        )
    silent = [url for url in urls if url not in mapped]
    also = f"; no answer from {', '.join(silent)}" if silent else ""
    return f"from outside this machine is {_addresses(mapped)}{also}"


def _addresses(mapped: dict[str, stun.Address]) -> str:
    return ", ".join(dict.fromkeys(f"{host}:{port}" for host, port in mapped.values()))
