"""The application for INSTALLED_APPS: system checks, the command, the template tag."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from tagcache.contrib.django.checks import check_caches


class TagCacheConfig(AppConfig):
    """With ``"tagcache.contrib.django"`` in INSTALLED_APPS, ``manage.py check`` checks CACHES."""

    name = "tagcache.contrib.django"
    label = "tagcache"
    verbose_name = "TagCache"

    def ready(self) -> None:
        checks.register(check_caches, checks.Tags.caches)
