"""Run Django's own tests of caches against ours; print the outcome of each as JSON.

    python -m tests.contrib.django_suite FOLDER URL sync|async|redis

FOLDER holds the source of the installed Django, whose tests are not part of the package. ``redis``
is Django's own backend for Redis.
"""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path
from typing import Any

import django
from asgiref.sync import async_to_sync
from django.conf import settings

from tagcache.contrib.django import TagCache

BACKENDS = {
    "sync": "tagcache.contrib.django.TagCache",
    "async": f"{__spec__.name}.ThroughAsync",
    "redis": "django.core.cache.backends.redis.RedisCache",
}


def _through(name: str) -> Any:
    def method(self: TagCache, *args: Any, **kwargs: Any) -> Any:
        return async_to_sync(getattr(self, f"a{name}"))(*args, **kwargs)

    return method


class ThroughAsync(TagCache):
    """Runs every operation as its coroutine, each in a new event loop."""

    for _name in (
        *("get", "set", "add", "touch", "delete", "get_many", "set_many", "delete_many"),
        *("get_or_set", "incr", "decr", "has_key", "incr_version", "decr_version", "clear"),
        *("invalidate_tag", "invalidate_tags"),
    ):
        locals()[_name] = _through(_name)


class Result(unittest.TextTestResult):
    """Records the tests that passed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.passed: list[str] = []

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed.append(test.id())


def configure(kind: str, url: str) -> dict[str, Any]:
    """Configure Django; return the settings of one cache."""
    base = {"BACKEND": BACKENDS[kind], "LOCATION": url}
    settings.configure(
        INSTALLED_APPS=["cache"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        CACHES={"default": base},
        SECRET_KEY="for tests",
        USE_TZ=False,
        ALLOWED_HOSTS=["testserver"],
    )
    django.setup()
    return base


def main() -> None:
    folder, url, kind = sys.argv[1:]
    sys.path.insert(0, str(Path(folder) / "tests"))
    base = configure(kind, url)

    from cache.tests import BaseCacheTests, CacheHEADTest, CacheMiddlewareTest, RedisCacheTests
    from cache.tests import caches_setting_for_tests as caches
    from django.test import TestCase, override_settings
    from django.test.runner import DiscoverRunner

    # The server limits the cache; MAX_ENTRIES is not supported.
    excluded = {"cull", "zero_cull"}

    @override_settings(CACHES=caches(base=base, exclude=excluded, TIMEOUT=300))
    class TagCacheTests(BaseCacheTests, TestCase):
        pass

    classes: list[type[unittest.TestCase]]
    classes = [RedisCacheTests if kind == "redis" else TagCacheTests]
    if kind != "async":
        two = {"default": base, "other": {**base, "KEY_PREFIX": "other", "TIMEOUT": 1}}
        for each in (CacheHEADTest, CacheMiddlewareTest):
            changed = {"default": base} if each is CacheHEADTest else two
            classes.append(override_settings(CACHES=changed)(type(each.__name__, (each,), {})))

    class Runner(DiscoverRunner):
        def get_resultclass(self) -> type[Result]:
            return Result

        def get_test_runner_kwargs(self) -> dict[str, Any]:
            return {**super().get_test_runner_kwargs(), "resultclass": Result}

    runner = Runner(verbosity=1)
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(each) for each in classes)
    old = runner.setup_databases()
    result = runner.run_suite(suite)
    runner.teardown_databases(old)
    failed = [(test.id(), text) for test, text in result.failures + result.errors]
    skipped = [(test.id(), why) for test, why in result.skipped]
    print(json.dumps({"passed": result.passed, "failed": failed, "skipped": skipped}))


if __name__ == "__main__":
    main()
