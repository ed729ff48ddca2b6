"""Messages between Python and a page: texts of every kind, their order, and their limits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Error as PlaywrightError

import artico_sync
from tests.browser.browser_peer import BrowserCall
from tests.browser.conftest import MakeBrowserPeer
from tests.conftest import MakeArtico

LARGEST = 262_144
CLEF = "\N{MUSICAL SYMBOL G CLEF}"

AWKWARD = [
    "",
    " ",
    "\0",
    "a\0b",
    "\n\r\n\t",
    "\ufeffafter a byte order mark",
    "null",
    "5",
    "-0.0",
    "NaN",
    "true",
    '"text"',
    "[]",
    "{}",
    '["[artico]"]',
    '"[artico]"',
    '{"type":"[artico]"}',
    '{"type":"[artico]","data":null}',
    '{"type":"[Artico]","data":{"cmd":"stream-meta"}}',
    '{"type":"artico","data":{"cmd":"stream-meta"}}',
    '{"data":{"cmd":"stream-meta","payload":{"streamId":"x","metadata":"y"}}}',
    '{"type":["[artico]"],"data":{"cmd":"stream-meta"}}',
    '{"type":"[artico]","data":{"cmd":"stream-meta"}',
    '[{"type":"[artico]","data":{"cmd":"stream-meta"}}]',
    '{"type":"sdp","data":{"type":"offer","sdp":"v=0"}}',
    "\u00e9 \u05e9\u05dc\u05d5\u05dd \u200d \u2028 \u2029 \uffff",
    f"{CLEF} \N{GRINNING FACE} \U0010ffff",
    "e\u0301 is not \u00e9",
    "x" * 16_384,
    "x" * 65_535,
    "x" * 65_536,
    "[" * 10_000,
]

# Messages that the JavaScript peer treats as internal commands; they never reach a user.
CONTROL = [
    '{"type":"[artico]","data":{"cmd":"never heard of"}}',
    '{"type":"[artico]","data":{}}',
    ' { "data" : { "cmd" : 5 } , "type" : "[artico]" } ',
    '{"type":"\\u005bartico]","data":{"cmd":"x"}}',
    '{"type":"[artico]","data":{"cmd":"stream-meta","payload":{"streamId":"s","metadata":"m"}}}',
]


@pytest.fixture(params=["python calls", "page calls"])
def ends(
    request: pytest.FixtureRequest, make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> Iterator[tuple[artico_sync.Call, BrowserCall]]:
    """The two ends of an open call, made by either side."""
    rtco = make_artico("python")
    page = make_browser_peer("page", answer=True)
    if request.param == "python calls":
        call = rtco.call("page").wait_open()
        page_call = page.wait_call().wait_open()
    else:
        page_call = page.call("python")
        call = rtco.wait_for("call", timeout=10).answer().wait_open()
        page_call.wait_open()
    yield call, page_call
    call.hangup()


def test_awkward_texts_arrive_unchanged(ends: tuple[artico_sync.Call, BrowserCall]) -> None:
    call, page_call = ends
    for text in AWKWARD:
        call.send(text)
    assert page_call.receive(len(AWKWARD)) == AWKWARD
    page_call.send(*AWKWARD)
    assert [call.recv(timeout=10) for _ in AWKWARD] == AWKWARD


def test_control_messages_never_reach_the_user(ends: tuple[artico_sync.Call, BrowserCall]) -> None:
    call, page_call = ends
    page_call.send(*CONTROL, "from the page")
    assert call.recv(timeout=10) == "from the page"
    for text in CONTROL:
        call.send(text)
    call.send("from python")
    assert page_call.receive(1) == ["from python"]
    assert page_call.events() == ["open"]


@pytest.mark.parametrize(("unit", "times"), [("x", LARGEST), (CLEF, LARGEST // 4)])
def test_the_largest_message(
    ends: tuple[artico_sync.Call, BrowserCall], unit: str, times: int
) -> None:
    call, page_call = ends
    call.send(unit * times)
    assert page_call.receive(1) == [unit * times]
    page_call.send_built(unit, times)
    assert call.recv(timeout=10) == unit * times


def test_larger_messages_are_refused_by_the_sender(
    ends: tuple[artico_sync.Call, BrowserCall],
) -> None:
    call, page_call = ends
    with pytest.raises(artico_sync.MessageTooLargeError):
        call.send("x" * (LARGEST + 1))
    with pytest.raises(ValueError):
        call.send(CLEF * (LARGEST // 4) + "x")
    with pytest.raises(PlaywrightError):
        page_call.send_built("x", LARGEST + 1)
    call.send("from python")
    page_call.send("from the page")
    assert page_call.receive(1) == ["from python"]
    assert call.recv(timeout=10) == "from the page"


def test_hundreds_of_messages_both_ways_keep_their_order(
    ends: tuple[artico_sync.Call, BrowserCall],
) -> None:
    call, page_call = ends
    from_python = [f"p{number} {'x' * (number * 37 % 3000)}" for number in range(500)]
    from_page = [f"j{number} {'y' * (number * 53 % 3000)}" for number in range(500)]

    def send_all() -> None:
        for text in from_python:
            call.send(text)

    sender = threading.Thread(target=send_all, name="sender")
    sender.start()
    page_call.send(*from_page)
    assert [call.recv(timeout=10) for _ in from_page] == from_page
    assert page_call.receive(len(from_python)) == from_python
    sender.join()


def test_messages_before_any_handler_are_kept(
    ends: tuple[artico_sync.Call, BrowserCall],
) -> None:
    call, page_call = ends
    page_call.send("one", "two")
    assert call.recv(timeout=10) == "one"
    seen: list[object] = []
    last = threading.Event()

    @call.on("data")
    def on_data(text: object) -> None:
        seen.append(text)
        if text == "three":
            last.set()

    page_call.send("three")
    assert last.wait(10)
    assert seen == ["two", "three"]


def test_bytes_do_not_disturb_a_page(ends: tuple[artico_sync.Call, BrowserCall]) -> None:
    call, page_call = ends
    call.send(b"\x00\x01")
    call.send(b"")
    call.send("text")
    assert page_call.receive(1) == ["text"]


def test_megabytes_both_ways(ends: tuple[artico_sync.Call, BrowserCall]) -> None:
    call, page_call = ends
    count, size = 24, 128 * 1024

    def send_all() -> None:
        for number in range(count):
            call.send(str(number % 10) * size)

    sender = threading.Thread(target=send_all, name="sender")
    sender.start()
    for number in range(count):
        page_call.send_built(str(number % 10), size)
    for number in range(count):
        assert call.recv(timeout=20) == str(number % 10) * size
    received = page_call.receive(count, timeout=20)
    assert [(text[0], len(text)) for text in received] == [
        (str(number % 10), size) for number in range(count)
    ]
    sender.join()
    call.flush(timeout=10)
