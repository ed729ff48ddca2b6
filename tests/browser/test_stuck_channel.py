"""The watch for channels that Chromium leaves connecting distinguishes them from others."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import MakeBrowserPeer
from tests.conftest import MakeArtico
from tests.polling import wait_until

PRETEND = """
Object.defineProperty(RTCDataChannel.prototype, "readyState", { get: () => "connecting" })
"""


@pytest.mark.parametrize("stuck", [False, True])
def test_a_stuck_channel_is_distinguished_from_others(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, browser: Chromium, stuck: bool
) -> None:
    page = make_browser_peer("page", answer=True)
    if stuck:
        browser.run(page.page.evaluate, PRETEND)
    call = make_artico("python").call("page").wait_open()
    page.wait_call()
    found: list[str] = []

    def looked() -> bool:
        found.extend(browser.take_stuck_channels(to_the_end=True))
        return bool(found)

    if stuck:
        wait_until(looked, "the page to look", 10.0)
        assert '"state":"open"' in found[0]
    elif looked():
        pytest.xfail(f"Chromium's own fault: {found[0]}")
    call.hangup()
