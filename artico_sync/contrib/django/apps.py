"""The application that `INSTALLED_APPS` names: it checks the settings, and connects nothing."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from artico_sync.contrib.django.client import make_artico, settings_client

# Seconds a test that overrides the settings waits for the client of the earlier ones.
CLOSE_LIMIT = 1.0


class ArticoConfig(AppConfig):
    """Calls over WebRTC with Artico peers."""

    name = "artico_sync.contrib.django"
    label = "artico_sync"
    verbose_name = "Artico"

    def ready(self) -> None:
        register(check_settings, "artico_sync")
        setting_changed.connect(on_setting_changed)


def check_settings(app_configs: object, **options: object) -> list[CheckMessage]:
    """`manage.py check`: whether the setting `ARTICO` can be used."""
    try:
        make_artico()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="artico_sync.E001")]
    return []


def on_setting_changed(*, setting: str, **options: Any) -> None:
    """A test overrides the settings: the client of the earlier ones is no good any more."""
    if setting == "ARTICO":
        settings_client.close(CLOSE_LIMIT)
