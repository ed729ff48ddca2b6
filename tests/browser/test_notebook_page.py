"""The notebooks in examples/ calling the page that comes with them, in a real browser; test thread.

The notebook runs on the test's loop, the page on the browser's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from artico_sync import ArticoServer
from tests.browser.chromium import Chromium, serve
from tests.browser.test_flask_page import MODULE, WATCHING, is_negative
from tests.conftest import TIME_UNIT
from tests.documentation.test_notebooks import (
    NOTEBOOKS,
    cell_with,
    executed,
    printed,
    run,
    shown,
)
from tests.polling import wait_until

pytestmark = pytest.mark.timeout(120 * TIME_UNIT)

LIMIT = 30.0 * TIME_UNIT


@pytest.fixture
def page(browser: Chromium, page_url: str, server: ArticoServer) -> Iterator[Page]:
    """The page of the notebooks, as the peer "bob"."""

    def load(page: Page, url: str) -> None:
        bundle = page.request.get(f"{page_url}page.js").text()
        headers = {"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"}
        page.route("https://esm.sh/**", lambda route: route.fulfill(body=MODULE, headers=headers))
        page.add_init_script(bundle)
        page.set_default_timeout(LIMIT * 1000)
        page.goto(f"{url}peer.html?url={server.url}")
        page.wait_for_function("() => document.getElementById('id').textContent === 'bob'")

    opened = browser.open_page()
    with serve(NOTEBOOKS) as url:
        browser.run(load, opened, url)
        yield opened
        browser.run(lambda: opened.context.close())


def run_with_page(
    name: str, folder: Path, url: str, browser: Chromium, visit: Callable[[], None]
) -> list[Any]:
    """Run a notebook while a user types into the page; return its code cells."""

    async def scenario() -> list[Any]:
        async with asyncio.TaskGroup() as both:
            both.create_task(asyncio.to_thread(browser.run, visit))
            # No peer id is set: the notebook's default is the id of the page.
            notebook = both.create_task(executed(name, folder, {"ARTICO_URL": url}))
        return notebook.result()

    cells: list[Any] = run(scenario())
    return cells


def test_chatting_with_the_user_of_the_page(
    browser: Chromium, page: Page, server: ArticoServer, tmp_path: Path
) -> None:
    heard: list[str | None] = []

    def visit() -> None:
        # Its own answers are in the list as well.
        for position, answer in ((1, "Hi!"), (3, "Fine.")):
            heard.append(page.text_content(f"#messages li:nth-child({position})"))
            page.fill("#text:enabled", answer)
            page.click("button")

    cells = run_with_page("chat.ipynb", tmp_path, server.url, browser, visit)
    assert printed(cell_with(cells, "call.recv")) == "bob: Hi!\nbob: Fine.\n"
    assert heard == ["notebook: Hello!", "notebook: How are you?"]


def test_the_page_sees_its_camera_processed(
    browser: Chromium, page: Page, server: ArticoServer, tmp_path: Path
) -> None:
    def visit() -> None:
        page.wait_for_function(WATCHING)
        wait_until(lambda: is_negative(page), "the camera's negative", LIMIT)

    cells = run_with_page("video.ipynb", tmp_path, server.url, browser, visit)
    assert len(shown(cell_with(cells, "snapshot()"), "image/png")) == 1
