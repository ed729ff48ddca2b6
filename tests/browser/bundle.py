"""Builds the page of the interop tests: @rtco/client, bundled with esbuild; test thread."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

SOURCES = Path(__file__).parent
INPUTS = ("package.json", "package-lock.json", "page.js", "page_ice.js", "page_media.js")
STEP_LIMIT = 180
PAGE = (
    '<!doctype html><meta charset="utf-8"><title>interop</title><script src="page.js"></script>\n'
)


class BundleError(Exception):
    """The page cannot be built here; the message says why."""


def build_page(cache: Path) -> Path:
    """Return a folder with `index.html` and its script, built there unless it already was."""
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((SOURCES / name).read_bytes())
    folder = cache / digest.hexdigest()[:16]
    site = folder / "site"
    # Several processes of one test run want it at the same time: one builds, the others wait.
    with FileLock(f"{folder}.lock", timeout=2 * STEP_LIMIT):
        if not site.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _build(folder, site)
    return site


def _build(folder: Path, site: Path) -> None:
    for name in INPUTS:
        shutil.copy(SOURCES / name, folder)
    # The packages' own install scripts build what is not used here.
    _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    # Written under another name first, so that a folder called `site` is always whole.
    unfinished = folder / "unfinished"
    unfinished.mkdir()
    bundler = str(folder / "node_modules" / ".bin" / "esbuild")
    _run([bundler, "page.js", "--bundle", "--format=iife", "--outfile=unfinished/page.js"], folder)
    (unfinished / "index.html").write_text(PAGE, encoding="utf-8")
    os.replace(unfinished, site)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_LIMIT,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BundleError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise BundleError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
