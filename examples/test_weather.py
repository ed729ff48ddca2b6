"""Tests of a program that calls a peer: python -m unittest examples/test_weather.py."""

import unittest

from artico_sync import Artico, ArticoTimeoutError, Call, MemoryHub


def ask_weather(rtco: Artico, city: str, timeout: float = 10) -> str:
    """The function under test: ask the peer "weather" about a city."""
    try:
        with rtco.call("weather") as call:
            call.send(city)
            return f"{city}: {call.recv(timeout=timeout)!s}"
    except ArticoTimeoutError:
        return f"{city}: nobody knows"


class AskWeatherTest(unittest.TestCase):
    def setUp(self) -> None:
        # Signals go through memory, the calls are real; no server, no network.
        hub = MemoryHub()
        self.weather, self.rtco = (
            Artico(signaling=hub.signaling(id), rtc_config={"iceServers": []}).connect()
            for id in ("weather", "me")
        )
        self.addCleanup(self.rtco.close)
        self.addCleanup(self.weather.close)

    def test_an_answer(self) -> None:
        self.weather.on("call", lambda call: self.answer(call, "sunny"))
        self.assertEqual(ask_weather(self.rtco, "Lisbon"), "Lisbon: sunny")

    def test_silence(self) -> None:
        self.weather.on("call", lambda call: call.answer())
        self.assertEqual(ask_weather(self.rtco, "Atlantis", timeout=0.5), "Atlantis: nobody knows")

    def answer(self, call: Call, text: str) -> None:
        call.on("data", lambda city: call.send(text))
        call.answer()
