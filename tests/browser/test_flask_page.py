"""The example application's page in a real browser, calling the Python process that served it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from artico_sync import ArticoServer
from tests.browser.chromium import Chromium
from tests.conftest import TIME_UNIT
from tests.polling import wait_until
from tests.unit.contrib.web_process import REPOSITORY, WebProcess

EXAMPLE = REPOSITORY / "examples" / "flask_app"
# Replaces the module from the network by the one bundled with the page of the browser tests.
MODULE = "export const { Artico, SocketSignaling } = window.rtco;"
LIMIT_MS = 20_000

# The mean color of a small copy of the picture in a video element.
COLOUR = """
(id) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  const context = canvas.getContext("2d");
  context.drawImage(document.getElementById(id), 0, 0, 8, 8);
  const { data } = context.getImageData(0, 0, 8, 8);
  const sum = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4) for (const j of [0, 1, 2]) sum[j] += data[i + j];
  return sum.map((value) => value / 64);
}
"""
WATCHING = "() => document.getElementById('processed').videoWidth > 0"

SERVERS = {
    "werkzeug": (
        ["-m", "flask", "--app", "app", "run", "--port", "0"],
        r"Running on (http://[\d.]+:\d+)",
    ),
    "gunicorn": (
        ["-m", "gunicorn", "-c", "gunicorn.conf.py", "-b", "127.0.0.1:0", "app:create_app()"],
        r"Listening at: (http://[\d.]+:\d+)",
    ),
}


@pytest.fixture(params=sorted(SERVERS))
def web(request: pytest.FixtureRequest, server: ArticoServer) -> Iterator[WebProcess]:
    pytest.importorskip(str(request.param))
    pytest.importorskip("flask")
    command, listening = SERVERS[str(request.param)]
    with WebProcess(command, EXAMPLE, {"ARTICO_URL": server.url}, listening) as process:
        yield process


def open_example(page: Page, url: str, page_url: str) -> Page:
    bundle = page.request.get(f"{page_url}page.js").text()
    headers = {"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"}
    page.route("https://esm.sh/**", lambda route: route.fulfill(body=MODULE, headers=headers))
    page.add_init_script(bundle)
    page.set_default_timeout(LIMIT_MS)
    page.goto(url)
    page.wait_for_function("() => document.getElementById('id').textContent !== ''")
    return page


def colours(page: Page) -> tuple[list[float], list[float]]:
    return page.evaluate(COLOUR, "camera"), page.evaluate(COLOUR, "processed")


def is_negative(page: Page) -> bool:
    camera, processed = colours(page)
    return all(abs(255 - one - other) < 40 for one, other in zip(camera, processed, strict=True))


def close(page: Page) -> None:
    page.context.close()


def test_the_page_calls_the_application_that_served_it(
    browser: Chromium, page_url: str, server: ArticoServer, web: WebProcess
) -> None:
    page = browser.run(open_example, browser.open_page(), web.url, page_url)
    own_id = browser.run(page.text_content, "#id")

    # The page calls Python, and is answered.
    browser.run(page.click, "#call")
    browser.run(page.wait_for_function, "() => reply.textContent !== ''")
    reply = "Hello from Flask: how are you?"
    assert browser.run(page.text_content, "#reply") == reply
    assert browser.run(page.text_content, "#state") == "in a call"
    browser.run(page.fill, "#text", "and now?")
    browser.run(page.click, "#talk button")
    browser.run(page.wait_for_function, "() => reply.textContent === 'Hello from Flask: and now?'")

    # The server sends the picture of its camera back as a negative.
    browser.run(page.wait_for_function, WATCHING)
    assert browser.run(page.get_attribute, "#processed", "title") == "negative"
    wait_until(lambda: browser.run(is_negative, page), "the negative", 15)

    # During that call, a request makes the application call the page.
    status, answer = web.post("/ask", {"peer": own_id, "text": "you there?", "timeout": 10})
    assert (status, answer["answer"]) == (200, "The page heard: you there?"), web.output

    browser.run(page.click, "#hangup")
    browser.run(page.wait_for_function, "() => state.textContent === 'not in a call'")
    browser.run(close, page)
    status, seconds = web.stop()
    assert status in (0, -15) and seconds < 5 * TIME_UNIT, (status, seconds, web.output)
    assert "Traceback" not in web.output, web.output
