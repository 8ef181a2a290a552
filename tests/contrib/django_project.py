"""The settings of a Django project for tests, in this process.

Tests choose their CACHES with override_settings.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import django
from django.conf import settings

FOLDER = Path(tempfile.mkdtemp(prefix="tagcache-django-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    SECRET_KEY="for tests",
    ROOT_URLCONF="tests.contrib.django_urls",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    # A file, because each thread has its own connection.
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "blog.sqlite3"}
    },
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    USE_TZ=True,
    LOGGING_CONFIG=None,
)
django.setup()
