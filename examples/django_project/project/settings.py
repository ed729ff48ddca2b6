"""Settings of a project whose views call, and that answers calls.

artico-sync serve &
python manage.py artico_answer calls.handlers.answer --id support &
python manage.py runserver                        # or: gunicorn project.wsgi
curl http://localhost:8000/ask/ -d peer=support -d 'text=how are you?'
"""

from __future__ import annotations

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "only for trying it out")
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
INSTALLED_APPS = ["artico_sync.contrib.django", "calls"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
STATIC_URL = "static/"

ARTICO = {
    "URL": os.environ.get("ARTICO_URL", "http://localhost:9000"),
    # With several workers, only one could have a fixed id.
    "ID": os.environ.get("ARTICO_ID"),
    "CONNECT_TIMEOUT": 5.0,
}
