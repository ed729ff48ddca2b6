"""The client the setting `ARTICO` describes; user threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from artico_sync.artico import Artico
from artico_sync.contrib.process_client import ProcessClient

#: What the setting may hold, with the defaults.
DEFAULTS: dict[str, Any] = {
    "URL": None,
    "ID": None,
    "TOKEN": None,
    "RTC_CONFIG": None,
    "CONNECT_TIMEOUT": 10.0,
    "OPTIONS": {},
}


def read_settings() -> dict[str, Any]:
    """The setting `ARTICO`, with the defaults.

    Raises:
        ImproperlyConfigured: It is no mapping, or has keys nobody knows.
    """
    given = getattr(settings, "ARTICO", {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"ARTICO must be a dict, not {type(given).__name__}.")
    unknown = sorted(str(key) for key in set(given) - set(DEFAULTS))
    if unknown:
        raise ImproperlyConfigured(
            f"ARTICO has the unknown keys {', '.join(unknown)}; the keys are"
            f" {', '.join(sorted(DEFAULTS))}."
        )
    return {**DEFAULTS, **given}


def make_artico(wanted_id: str | None = None) -> Artico:
    """An `Artico` as the settings want it, not connected.

    Args:
        wanted_id: In place of the setting's `ID`.

    Raises:
        ImproperlyConfigured: The setting cannot be used; the message says what of it.
    """
    values = read_settings()
    peer_id = wanted_id or values["ID"]
    try:
        return Artico(
            values["URL"],
            id=peer_id.replace("{pid}", str(os.getpid())) if isinstance(peer_id, str) else peer_id,
            token=values["TOKEN"],
            rtc_config=values["RTC_CONFIG"],
            **values["OPTIONS"],
        )
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"ARTICO cannot be used: {error}") from error


class SettingsClient(ProcessClient):
    """This process's client."""

    def __init__(self) -> None:
        super().__init__(make_artico)

    def connected(self, timeout: float | None = None) -> Artico:
        limit = read_settings()["CONNECT_TIMEOUT"] if timeout is None else timeout
        return super().connected(limit)


#: There is one set of settings, and so one client, in a process.
settings_client = SettingsClient()
