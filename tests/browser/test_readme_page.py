"""The page in README.rst, as it stands, in a real browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from artico_sync import ArticoServer, Call
from tests.browser.chromium import Chromium, serve
from tests.conftest import MakeArtico
from tests.documentation.test_readme import block

# Replaces the module from the network by the one bundled with the page of the browser tests.
MODULE = "export const { Artico, SocketSignaling } = window.rtco;"


def test_the_page_asks_and_shows_the_answer(
    browser: Chromium,
    page_url: str,
    server: ArticoServer,
    make_artico: MakeArtico,
    tmp_path: Path,
) -> None:
    bob = make_artico("bob")

    @bob.on("call")
    def incoming(call: Call, metadata: str | None) -> None:
        assert metadata == "from the page"
        call.on("data", lambda text: call.send(text.upper()))
        call.answer()

    def ask(page: Page, url: str) -> str | None:
        bundle = page.request.get(f"{page_url}page.js").text()
        headers = {"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"}
        page.route("https://esm.sh/**", lambda route: route.fulfill(body=MODULE, headers=headers))
        page.add_init_script(bundle)
        page.goto(url)
        page.fill("#question:enabled", "how are you?")
        page.click("button")
        answer = page.text_content("#answers li")
        page.context.close()
        return answer

    (tmp_path / "index.html").write_text(block("page", server.url), encoding="utf-8")
    with serve(tmp_path) as url:
        assert browser.run(ask, browser.open_page(), url) == "HOW ARE YOU?"
