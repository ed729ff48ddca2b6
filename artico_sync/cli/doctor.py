"""`artico-sync doctor`: checks of everything a call needs, step by step."""

from __future__ import annotations

import argparse
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from aioice import stun

from artico_sync._bridge.client import DEFAULT_SERVERS
from artico_sync._bridge.signaling import shown_url
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.cli.output import ExitStatus, Output, one_line, uses_color
from artico_sync.errors import (
    ArticoError,
    ArticoTimeoutError,
    ConnectionFailedError,
    PeerUnavailableError,
    SignalingError,
)

# Limit of each step.
STEP_SECONDS = 5.0
# A server that reports unavailable peers does so within this time.
UNAVAILABLE_SECONDS = 1.0
LARGE_MESSAGE_CHARACTERS = 256 * 1024
# Time until a STUN request is retransmitted, doubled each time (RFC 8489 section 6.2.1).
FIRST_RTO_SECONDS = 0.25
TEXT = "doctor \N{STETHOSCOPE}"

_STUN_URL = re.compile(r"stuns?:(\[[^\]]+\]|[^:?]+)(?::(\d+))?")

Address = tuple[str, int]


class CheckFailed(Exception):
    """A check found a fault.

    Args:
        problem: A description of the fault.
        advice: A remedy.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice


class Report:
    """Prints the result of each check."""

    def __init__(self, output: Output) -> None:
        self._output = output
        colored = uses_color(sys.stdout)
        self._marks = {
            "ok": "\x1b[32m✓\x1b[0m" if colored else "ok    ",
            "failed": "\x1b[31m✗\x1b[0m" if colored else "FAILED",
            "skipped": "\x1b[33m-\x1b[0m" if colored else "-     ",
        }
        self.failed = 0

    def step(self, name: str, check: Callable[[], str]) -> bool:
        """Run and print one check; return True if it passed.

        Args:
            name: The name of the check.
            check: Returns the result, or raises `CheckFailed`.
        """
        begun = monotonic()
        self._output.progress(f"{name} ...")
        try:
            result = check()
        except CheckFailed as error:
            self.failed += 1
            self._print("failed", name, error.problem, error.advice, monotonic() - begun)
            return False
        self._print("ok", name, result, None, monotonic() - begun)
        return True

    def skip(self, name: str, reason: str) -> None:
        self._print("skipped", name, reason, None, 0.0)

    def _print(self, state: str, name: str, text: str, advice: str | None, seconds: float) -> None:
        self._output.result(f"{self._marks[state]} {name}: {one_line(text)}")
        if advice is not None:
            self._output.result(f"         {one_line(advice)}")
        self._output.event(
            "check", name=name, state=state, text=text, advice=advice, seconds=round(seconds, 3)
        )


def doctor(options: argparse.Namespace, output: Output) -> int:
    """Check everything a call needs; return the exit status."""
    report = Report(output)
    status = _run_checks(options, report)
    if report.failed:
        output.result(f"{report.failed} of the checks failed.")
    else:
        output.result("Everything a call needs works from here.")
    output.event("doctor", ok=not report.failed)
    return status


def _run_checks(options: argparse.Namespace, report: Report) -> ExitStatus:
    url: str = options.url
    servers = _ice_servers(options.rtc_config)
    stun_servers = [server for server in servers if server["urls"].startswith("stun")]
    turn_servers = [server for server in servers if server["urls"].startswith("turn")]
    alone: dict[str, Any] = {"iceServers": []}
    if not (
        report.step("server", lambda: _check_server(url))
        and report.step("signalling", lambda: _check_signaling(url, options.token))
    ):
        return ExitStatus.SIGNALING
    report.step(
        "data channel, directly",
        lambda: _check_call(
            url, options.token, alone, "Something on this machine keeps UDP from it: a firewall?"
        ),
    )
    if stun_servers:
        report.step("STUN", lambda: _check_stun([server["urls"] for server in stun_servers]))
    else:
        report.skip("STUN", "no STUN server is configured")
    for server in turn_servers:
        relayed = {"iceServers": [server], "iceTransportPolicy": "relay"}
        advice = "Check its address, user and password, and that its UDP ports are open."
        check = partial(_check_call, url, options.token, relayed, advice)
        report.step(f"TURN, through {server['urls']}", check)
    if not turn_servers:
        report.skip("TURN", "no TURN server is configured; calls between strict networks need one")
    return ExitStatus.ERROR if report.failed else ExitStatus.OK


def _ice_servers(rtc_config: dict[str, Any] | None) -> list[dict[str, Any]]:
    # One entry for each URL.
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
        socket.create_connection((host, port), timeout=STEP_SECONDS).close()
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
        rtco.connect(STEP_SECONDS)
    except ArticoTimeoutError:
        advice = "Something answers there, but not a signaling server: check the port."
        raise CheckFailed(
            f"no word from {shown_url(url)} within {STEP_SECONDS:g} s", advice
        ) from None
    except SignalingError as error:
        advice = "Is that a signaling server? Does it want a --token?"
        raise CheckFailed(error.message, advice) from error
    seconds = monotonic() - begun
    try:
        kind = _check_unavailable_peer(rtco)
    finally:
        rtco.close(0)
    return f"ready after {1000 * seconds:.0f} ms; {kind}"


def _check_unavailable_peer(rtco: Artico) -> str:
    # An id that no peer has, because it derives from a random one.
    call = rtco.call(f"{rtco.id}-unused")
    try:
        call.wait_open(UNAVAILABLE_SECONDS)
    except PeerUnavailableError:
        return "it says when a peer is not there"
    except ArticoError:
        return "it does not say when a peer is not there, so such calls run into --timeout"
    return "and a peer answers to an id that no peer has"


def _check_call(url: str, token: str | None, rtc_config: dict[str, Any], advice: str) -> str:
    """Place a call between two clients of this process."""
    with (
        Artico(url, token=token, rtc_config=rtc_config, connect_timeout=STEP_SECONDS) as one,
        Artico(url, token=token, rtc_config=rtc_config, connect_timeout=STEP_SECONDS) as two,
    ):
        two.on("call", _echo)
        call = one.call(two.id)
        begun = monotonic()
        try:
            call.wait_open(STEP_SECONDS)
            seconds = monotonic() - begun
            for message in (TEXT, "x" * LARGE_MESSAGE_CHARACTERS):
                call.send(message)
                if call.recv(STEP_SECONDS) != message:
                    raise CheckFailed("a message came back changed", "Please report this.")
        except (ConnectionFailedError, ArticoTimeoutError):
            raise CheckFailed(
                f"no connection to itself within {STEP_SECONDS:g} s", advice
            ) from None
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
    mapped: dict[str, Address] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        for url in urls:
            try:
                timeout = STEP_SECONDS / len(urls)
                mapped[url] = request_mapped_address(endpoint, parse_stun_url(url), timeout)
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


def _addresses(mapped: dict[str, Address]) -> str:
    return ", ".join(dict.fromkeys(f"{host}:{port}" for host, port in mapped.values()))


def parse_stun_url(url: str) -> Address:
    """Return the host and port of a STUN server's URL (RFC 7064)."""
    match = _STUN_URL.match(url)
    if match is None:
        raise ValueError(f"not the URL of a STUN server: {url!r}")
    return match[1].strip("[]"), int(match[2] or 3478)


def request_mapped_address(endpoint: socket.socket, server: Address, timeout: float) -> Address:
    """Return the address of a socket as a STUN server sees it.

    Args:
        endpoint: An unconnected IPv4 UDP socket.
        server: Host and port.
        timeout: Seconds.

    Raises:
        TimeoutError: No answer came in time.
        OSError: The server cannot be found or reached.
    """
    address = socket.getaddrinfo(*server, family=endpoint.family, type=socket.SOCK_DGRAM)[0][4]
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    end = monotonic() + timeout
    rto = FIRST_RTO_SECONDS
    while True:
        endpoint.sendto(bytes(request), address)
        retransmit_at = min(end, monotonic() + rto)
        rto *= 2
        while (left := retransmit_at - monotonic()) > 0:
            endpoint.settimeout(left)
            try:
                datagram = endpoint.recv(2048)
            except TimeoutError:
                break
            mapped = _parse_mapped_address(datagram, request)
            if mapped is not None:
                return mapped
        if monotonic() >= end:
            raise TimeoutError("no answer")


def _parse_mapped_address(datagram: bytes, request: stun.Message) -> Address | None:
    try:
        response = stun.parse_message(datagram)
    except (ValueError, struct.error):
        return None
    if (response.transaction_id, response.message_method, response.message_class) != (
        request.transaction_id,
        stun.Method.BINDING,
        stun.Class.RESPONSE,
    ):
        return None
    for name in ("XOR-MAPPED-ADDRESS", "MAPPED-ADDRESS"):
        if name in response.attributes:
            address: Address = response.attributes[name]
            return address
    return None
