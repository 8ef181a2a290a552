"""The settings of the blog, for this machine only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SECRET_KEY = "for the example only"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "examples.django_blog.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    # The template tag, the checks of CACHES, and the command `tagcache`.
    "tagcache.contrib.django",
    "examples.django_blog.blog",
]
MIDDLEWARE = [
    # Browsers that have the page already get a 304.
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "static/"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(tempfile.gettempdir()) / "tagcache-example-blog.sqlite3",
    }
}
CACHES = {
    "default": {
        "BACKEND": "tagcache.contrib.django.TagCache",
        "LOCATION": os.environ.get("TAGCACHE_URL", "tagcache://127.0.0.1:1984"),
        "KEY_PREFIX": "blog",
        # Without a cache the pages are made for each request.
        "OPTIONS": {"ignore_exc": True},
    }
}
