"""The settings of a Django project for tests, in this process.

Tests choose their CACHES with override_settings.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django
from django.conf import settings

FOLDER = Path(tempfile.mkdtemp(prefix="tagcache-django-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    SECRET_KEY="for tests",
    INSTALLED_APPS=["tests.contrib.blog"],
    ROOT_URLCONF="tests.contrib.django_urls",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    # A file, because each thread has its own connection.
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "blog.sqlite3"}
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"libraries": {"tagcache": "tagcache.contrib.django.templatetags.tagcache"}},
        }
    ],
    USE_TZ=True,
    LOGGING_CONFIG=None,
)
django.setup()

from django.apps import apps  # noqa: E402 - after the settings
from django.db import connection, connections  # noqa: E402
from django.test import override_settings  # noqa: E402


@contextmanager
def blog(url: str, **params: object) -> Iterator[None]:
    """Use the cache at ``url``, and empty tables."""
    cache = {"BACKEND": "tagcache.contrib.django.TagCache", "LOCATION": url, **params}
    dummy = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": cache, "dummy": dummy, "local": local}):
        models = [each for each in apps.get_models() if not each._meta.proxy]
        with connection.schema_editor() as editor:
            for model in models:
                editor.create_model(model)
        try:
            yield
        finally:
            with connection.schema_editor() as editor:
                for model in reversed(models):
                    editor.delete_model(model)
            connections.close_all()
