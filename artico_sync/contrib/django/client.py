"""The client of this process, as described by the setting `ARTICO`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from artico_sync.artico import Artico
from artico_sync.contrib.process_client import ProcessClient

#: The keys of the setting and their defaults.
DEFAULTS: dict[str, Any] = {
    "URL": None,
    "ID": None,
    "TOKEN": None,
    "RTC_CONFIG": None,
    "CONNECT_TIMEOUT": 10.0,
    "OPTIONS": {},
}


def read_settings() -> dict[str, Any]:
    """Return the setting `ARTICO` with its defaults filled in.

    Raises:
        ImproperlyConfigured: It is not a mapping, or has unknown keys.
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


def make_artico(requested_id: str | None = None) -> Artico:
    """Return an `Artico` made from the settings, not connected.

    Args:
        requested_id: Replaces the `ID` of the setting.

    Raises:
        ImproperlyConfigured: The setting cannot be used; the message says why.
    """
    values = read_settings()
    peer_id = requested_id or values["ID"]
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
    """The client of this process, made from the settings."""

    def __init__(self) -> None:
        super().__init__(make_artico)

    def connected(self, timeout: float | None = None) -> Artico:
        limit = read_settings()["CONNECT_TIMEOUT"] if timeout is None else timeout
        return super().connected(limit)


#: A process has one set of settings, and so one client.
settings_client = SettingsClient()
