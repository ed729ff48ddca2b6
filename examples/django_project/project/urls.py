"""The project's addresses."""

from __future__ import annotations

from calls.views import ask, whoami
from django.urls import path

urlpatterns = [path("", whoami), path("ask/", ask)]
