"""Every private name of aiortc and aioice that the engine uses still exists."""

from __future__ import annotations

import ast
import functools
import inspect
from pathlib import Path

import aioice
import aiortc
import aiortc.contrib.media
import pytest

import artico_sync

SOURCES = Path(artico_sync.__file__).parent
PRIVATE_SPACE = SOURCES / "_webrtc"


@functools.cache
def foreign_names() -> set[str]:
    """All identifiers in the sources of aiortc and aioice, private ones of classes mangled."""
    found: set[str] = set()
    for package in (aiortc, aioice):
        assert package.__file__ is not None
        for path in Path(package.__file__).parent.rglob("*.py"):
            found |= names_in(ast.parse(path.read_text(encoding="utf-8")))
    return found


class Names(ast.NodeVisitor):
    """Collects identifiers, mangled as the compiler does it."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._classes: list[str] = []

    def _add(self, name: str) -> None:
        if name.startswith("__") and not name.endswith("__") and self._classes:
            name = f"_{self._classes[-1].lstrip('_')}{name}"
        self.found.add(name)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._add(node.name)
        self._classes.append(node.name)
        self.generic_visit(node)
        self._classes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._add(node.name)
        self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._add(node.name)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._add(node.attr)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._add(node.id)


def names_in(tree: ast.AST) -> set[str]:
    names = Names()
    names.visit(tree)
    return names.found


def mangled_names(path: Path) -> set[str]:
    """Mangled names of aiortc's and aioice's classes, written out as names or as text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in (
            getattr(node, "attr", None),
            getattr(node, "id", None),
            getattr(node, "name", None),
            getattr(node, "value", None),
        ):
            if isinstance(name, str) and name.isidentifier() and name.startswith("_RTC"):
                found.add(name)
    return found


def mangled_in_use() -> dict[str, str]:
    return {
        name: path.name
        for path in sorted(PRIVATE_SPACE.rglob("*.py"))
        for name in mangled_names(path)
    }


#: Names with one underscore, by the object they belong to.
SINGLE = {
    aiortc.rtcdtlstransport.RTCDtlsTransport: [
        "_register_rtp_receiver",
        "_register_rtp_sender",
        "_set_role",
        "_role",
        "_rtp_header_extensions_map",
        "_rtp_router",
        "_unregister_rtp_receiver",
        "_unregister_rtp_sender",
    ],
    aiortc.rtcicetransport.RTCIceTransport: ["_connection", "_recv", "_role_set", "_send"],
    aiortc.rtcicetransport.RTCIceGatherer: ["_connection"],
    aiortc.rtcrtpreceiver.RTCRtpReceiver: [
        "_enabled",
        "_handle_disconnect",
        "_handle_rtp_packet",
        "_run_rtcp",
        "_send_rtcp",
        "_send_rtcp_nack",
        "_set_rtcp_ssrc",
        "_track",
    ],
    aiortc.rtcrtpsender.RTCRtpSender: [
        "_enabled",
        "_rtx_ssrc",
        "_ssrc",
        "_stream_id",
        "_track_id",
    ],
    aiortc.rtcrtptransceiver.RTCRtpTransceiver: [
        "_bundled",
        "_codecs",
        "_headerExtensions",
        "_setCurrentDirection",
        "_set_mid",
        "_set_mline_index",
    ],
    aiortc.rtcsctptransport.RTCSctpTransport: ["_bundled"],
    aiortc.contrib.media.MediaPlayer: ["_player", "_stop"],
}


@pytest.mark.parametrize("name,where", sorted(mangled_in_use().items()))
def test_a_mangled_name_exists(name: str, where: str) -> None:
    assert name in foreign_names(), f"{where} uses {name}, which aiortc does not have any more"


@pytest.mark.parametrize("owner", SINGLE, ids=lambda owner: owner.__name__)
def test_the_private_names_of_a_class_exist(owner: type) -> None:
    module = ast.parse(inspect.getsource(inspect.getmodule(owner)))  # type: ignore[arg-type]
    peers = ast.parse(inspect.getsource(aiortc.rtcpeerconnection))
    there = names_in(module) | names_in(peers)
    missing = [name for name in SINGLE[owner] if name not in there]
    assert not missing


def test_the_functions_taken_from_aiortc_exist() -> None:
    from aiortc.rtcpeerconnection import (  # noqa: F401
        create_media_description_for_sctp,
        find_common_header_extensions,
        is_codec_compatible,
    )


def test_mangled_names_are_used_in_one_package_only() -> None:
    elsewhere = {
        path.name
        for path in SOURCES.rglob("*.py")
        if PRIVATE_SPACE not in path.parents and mangled_names(path)
    }
    assert not elsewhere


def test_the_tested_versions_are_installed() -> None:
    assert aiortc.__version__.startswith("1.16.")
    assert aioice.__version__.startswith("0.13.")
