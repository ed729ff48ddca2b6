"""Two Chromium peers, each in a page of its own, for comparison; parent process."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

#: The half of a connection that lives in a page. Chromium hides addresses behind mDNS names
#: from pages without a camera, which two pages of one browser resolve for one another.
PAGE = """
window.connection = new RTCPeerConnection();
window.gathered = () => new Promise((resolve) => {
  const done = () => connection.iceGatheringState === "complete" && resolve();
  connection.addEventListener("icegatheringstatechange", done);
  done();
});
window.describe = async () => {
  await gathered();
  return {type: connection.localDescription.type, sdp: connection.localDescription.sdp};
};
window.offer = async () => {
  window.channel = connection.createDataChannel("data");
  channel.binaryType = "arraybuffer";
  window.opened = new Promise((resolve) => (channel.onopen = resolve));
  await connection.setLocalDescription();
  return describe();
};
window.answer = async (description) => {
  connection.ondatachannel = ({channel}) => {
    channel.binaryType = "arraybuffer";
    let messages = 0;
    channel.onmessage = ({data}) => {
      if (data === "finish") {
        channel.send(String(messages));
        messages = 0;
      } else {
        messages += 1;
      }
    };
  };
  await connection.setRemoteDescription(description);
  await connection.setLocalDescription();
  return describe();
};
window.accept = async (description) => {
  await connection.setRemoteDescription(description);
  await opened;
};
window.flow = async ([size, seconds]) => {
  const message = new ArrayBuffer(size);
  const ahead = Math.min(1 << 20, 2000 * size);
  channel.bufferedAmountLowThreshold = ahead / 2;
  const begun = performance.now();
  while (performance.now() - begun < seconds * 1000) {
    const room = new Promise((resolve) => (channel.onbufferedamountlow = resolve));
    while (channel.bufferedAmount < ahead) channel.send(message);
    await room;
  }
  const count = new Promise((resolve) => (channel.onmessage = ({data}) => resolve(Number(data))));
  channel.send("finish");
  return (await count) * size / 1e6 / ((performance.now() - begun) / 1000);
};
null;  // What is evaluated to a function would be called.
"""


class ChromiumPair:
    """Two pages with an open data channel between them. Used on the thread that made it."""

    def __init__(self, browser: Any) -> None:
        self._source, sink = (browser.new_context().new_page() for _ in range(2))
        for page in (self._source, sink):
            page.evaluate(PAGE)
        offer = self._source.evaluate("offer()")
        answer = sink.evaluate("(description) => answer(description)", offer)
        self._source.evaluate("(description) => accept(description)", answer)

    def flow(self, size: int, seconds: float) -> float:
        """Send messages for `seconds`; return megabytes per second."""
        return float(self._source.evaluate("(wanted) => flow(wanted)", [size, seconds]))


def chromium_pair(closing: ExitStack) -> ChromiumPair | None:
    """Two pages, closed by `closing`; None if Chromium or Playwright is not installed."""
    try:
        from playwright.sync_api import sync_playwright

        from tests.browser.chromium import FLAGS, find_chromium
    except ImportError:
        sys.stderr.write("Playwright is not installed: no comparison with Chromium\n")
        return None
    executable = find_chromium()
    if executable is None:
        sys.stderr.write("Chromium is not installed: no comparison with it\n")
        return None
    playwright = closing.enter_context(sync_playwright())
    browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
    closing.callback(browser.close)
    return ChromiumPair(browser)
