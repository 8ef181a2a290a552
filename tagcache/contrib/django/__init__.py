"""A cache backend for Django.

CACHES = {
    "default": {
        "BACKEND": "tagcache.contrib.django.TagCache",
        "LOCATION": "tagcache://127.0.0.1:1984",
    }
}
"""

from __future__ import annotations

from tagcache.client.collecting import cache_tag
from tagcache.contrib.django._async.operations import AsyncOperations
from tagcache.contrib.django._async.redis_names import AsyncRedisNames
from tagcache.contrib.django._sync.operations import Operations
from tagcache.contrib.django._sync.redis_names import RedisNames
from tagcache.contrib.django.base import close_clients

__all__ = ["TagCache", "cache_tag", "close_clients"]


class TagCache(Operations, AsyncOperations, RedisNames, AsyncRedisNames):
    """Django's cache API over TagCache, with tags, and with what django-redis adds to it.

    ``LOCATION`` is a URL or several. ``OPTIONS`` are the fields of tagcache.client.Options, and
    ``serializer`` as in Django's Redis backend. ``KEY_PREFIX`` and versions do not apply to tags:
    an invalidation is for everyone.

    Connections are shared by all threads, and stay open between requests. Errors of the client
    are raised (tagcache.errors), unless OPTIONS has ``ignore_exc``: then an unavailable cache is a
    miss. A value that the server has no room for is logged and not cached.
    """
