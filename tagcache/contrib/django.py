"""A cache backend for Django.

CACHES = {
    "default": {
        "BACKEND": "tagcache.contrib.django.TagCache",
        "LOCATION": "tagcache://127.0.0.1:1984",
    }
}
"""

from __future__ import annotations

from tagcache.contrib._async.django import AsyncOperations
from tagcache.contrib._sync.django import Operations
from tagcache.contrib.django_base import close_clients

__all__ = ["TagCache", "close_clients"]


class TagCache(Operations, AsyncOperations):
    """Django's cache API over TagCache, with tags.

    ``LOCATION`` is a URL or several. ``OPTIONS`` are the fields of tagcache.client.Options, and
    ``serializer`` as in Django's Redis backend. ``KEY_PREFIX`` and versions do not apply to tags:
    an invalidation is for everyone.

    Connections are shared by all threads, and stay open between requests. Errors of the client
    are raised (tagcache.errors), unless OPTIONS has ``ignore_exc``: then an unavailable cache is a
    miss. A value that the server has no room for is logged and not cached.
    """
