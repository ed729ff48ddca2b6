"""Tests of the views and of the handler, with Django's client and live server.

python manage.py test
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.parse
import urllib.request

from django.test import LiveServerTestCase, SimpleTestCase, override_settings

from artico_sync.testing import ArticoTestCase, scripts
from calls.handlers import answer

RTC_CONFIG: dict[str, object] = {"iceServers": []}


class CallingTestCase(ArticoTestCase):
    """The project on the test's own signaling server."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(
            override_settings(ARTICO={"URL": self.server.url, "RTC_CONFIG": RTC_CONFIG})
        )


class AskTest(CallingTestCase, SimpleTestCase):
    def ask(self, peer: str, timeout: float = 5) -> tuple[int, dict[str, str]]:
        values = {"peer": peer, "text": "how are you?", "timeout": timeout}
        response = self.client.post("/ask/", values)
        return response.status_code, response.json()

    def test_the_answer_is_shown(self) -> None:
        self.make_fake_peer("bob")
        self.assertEqual(self.ask("bob"), (200, {"peer": "bob", "answer": "how are you?"}))

    def test_a_request_that_times_out_cancels_its_call(self) -> None:
        bob = self.make_fake_peer("bob", scripts.never_answers())
        status, _ = self.ask("bob", timeout=0.2)
        self.assertEqual(status, 504)
        bob.wait_for_call().wait_done(5)

    def test_an_answer_that_does_not_come_hangs_up(self) -> None:
        bob = self.make_fake_peer("bob", lambda call: call.answer())
        self.assertEqual(self.ask("bob", timeout=0.2)[0], 504)
        bob.wait_for_call().call.wait_closed(5)

    def test_nobody_there(self) -> None:
        self.assertEqual(self.ask("nobody")[0], 404)

    def test_rejected(self) -> None:
        self.make_fake_peer("bob", scripts.rejects())
        self.assertEqual(self.ask("bob")[0], 409)

    def test_a_client_for_the_process(self) -> None:
        first = self.client.get("/").json()["peer"]
        self.assertEqual(self.client.get("/").json()["peer"], first)
        self.assertEqual(self.server.peers, (first,))


class LiveTest(CallingTestCase, LiveServerTestCase):
    def test_requests_at_the_same_time(self) -> None:
        self.make_fake_peer("bob", scripts.answers_late(0.2))
        statuses: list[int] = []

        def ask() -> None:
            values = urllib.parse.urlencode({"peer": "bob", "text": "x"}).encode()
            with urllib.request.urlopen(f"{self.live_server_url}/ask/", values, 10) as response:
                statuses.append(response.status)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [200] * 4)


class AnswerTest(ArticoTestCase):
    def test_it_answers(self) -> None:
        self.make_artico("support").on("call", answer)
        with self.make_artico().call("support") as call:
            call.send("hello")
            self.assertEqual(call.recv(timeout=5), "You said: hello")
