"""Hosts on a network of the test: Linux network namespaces.

This machine's own network is not touched: the switch lives in a namespace as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import pytest

from tests.faults.peer_process import ROOT

#: The server's address on a network apart from that of the calls, and on the same network.
SERVER_APART = "10.198.0.1"
SERVER = "10.199.0.1"


class Host:
    """A namespace with two cables to the switch: `calls` and `signals`."""

    def __init__(self, switch: str, number: int) -> None:
        self.name = f"{switch}-{number}"
        #: A command with this prefix runs on the host.
        self.prefix = ("ip", "netns", "exec", self.name)
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        for network in ("calls", "signals"):
            cable = f"{network}{number}"
            command = ("link", "add", cable, "type", "veth", "peer", "name", network)
            ip("-n", switch, *command, "netns", self.name)
            ip("-n", switch, "link", "set", cable, "master", f"{network}-switch", "up")
            self.ip("link", "set", network, "up")
        # The signaling network is isolated, so calls cannot use it: it reaches the server only.
        ip("-n", switch, "link", "set", cable, "type", "bridge_slave", "isolated", "on")
        self.ip("address", "add", f"10.198.0.{10 + number}/24", "dev", "signals")

    def ip(self, *arguments: str) -> None:
        ip("-n", self.name, *arguments)

    def add_address(self, address: str) -> None:
        self.ip("address", "add", f"{address}/24", "dev", "calls")

    def pull_cable(self) -> None:
        """The one that calls use."""
        self.ip("link", "set", "calls", "down")

    def plug_in(self) -> None:
        self.ip("link", "set", "calls", "up")

    def remove_address(self, address: str) -> None:
        self.ip("address", "del", f"{address}/24", "dev", "calls")


class Cables:
    """A switch with hosts on it; use as a context manager. Skips the test where not permitted."""

    def __init__(self) -> None:
        self.switch = f"artico-{os.getpid()}"
        self.prefix = ("ip", "netns", "exec", self.switch)
        self._namespaces: list[str] = []

    def __enter__(self) -> Cables:
        if shutil.which("ip") is None:
            pytest.skip("ip (Debian's iproute2) is not installed")
        try:
            ip("netns", "add", self.switch)
            self._namespaces.append(self.switch)
            ip("-n", self.switch, "link", "set", "lo", "up")
            for network in ("calls", "signals"):
                bridge = f"{network}-switch"
                ip("-n", self.switch, "link", "add", bridge, "type", "bridge")
                ip("-n", self.switch, "link", "set", bridge, "up")
        except subprocess.CalledProcessError as error:
            self._remove()
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        for network, address in (("signals", SERVER_APART), ("calls", SERVER)):
            ip("-n", self.switch, "address", "add", f"{address}/24", "dev", f"{network}-switch")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for namespace in reversed(self._namespaces):
            ip("netns", "del", namespace)

    def host(self) -> Host:
        self._namespaces.append(f"{self.switch}-{len(self._namespaces)}")
        return Host(self.switch, len(self._namespaces) - 1)


def ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True, timeout=20)


@contextmanager
def serving(cables: Cables, address: str) -> Iterator[str]:
    """A signaling server at an address of the switch."""
    arguments = ("-m", "artico_sync", "serve", "--host", address, "--port", "9000")
    process = subprocess.Popen(
        (*cables.prefix, sys.executable, *arguments), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert address in process.stdout.readline().decode()
        yield f"http://{address}:9000"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
