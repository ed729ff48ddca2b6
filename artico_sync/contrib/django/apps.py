"""The application for `INSTALLED_APPS`; it checks the settings and connects nothing."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from artico_sync.contrib.django.client import make_artico, settings_client

# Limit for closing the client of the previous settings.
CLOSE_SECONDS = 1.0


class ArticoConfig(AppConfig):
    """Calls over WebRTC with Artico peers."""

    name = "artico_sync.contrib.django"
    label = "artico_sync"
    verbose_name = "Artico"

    def ready(self) -> None:
        register(check_settings, "artico_sync")
        setting_changed.connect(on_setting_changed)


def check_settings(app_configs: object, **options: object) -> list[CheckMessage]:
    """Check the setting `ARTICO`, for `manage.py check`."""
    try:
        make_artico()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="artico_sync.E001")]
    return []


def on_setting_changed(*, setting: str, **options: Any) -> None:
    """Close the client of the previous settings, when a test overrides them."""
    if setting == "ARTICO":
        settings_client.close(CLOSE_SECONDS)
