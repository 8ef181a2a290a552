"""The own tests of Redis clients, from their sources, with a server of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contrib.test_django_suite import run_django_tests
from tests.outside.redis_clients.server import AGAINST
from tests.outside.redis_clients.their_tests import Suite, run

pytestmark = pytest.mark.slow

NO_CULLING = "Django's backend for Redis has no MAX_ENTRIES"
CULLING = ("test_cull", "test_zero_cull", "test_cull_delete_when_store_empty")
NO_SETS = "sets are refused: TAG.SET stores an entry with tags"
NO_HASHES = "hashes are refused: store an entry for each field"
NO_SORTED_SETS = "sorted sets are refused"
NO_LISTS = "lists are refused"
SLIDING = "a sliding window takes a sorted set: use a fixed one"
NO_BITS = "bitmaps are refused"

# Settings of django-redis that take other servers or packages, or are like another; and a test
# that takes one to run before it.
NOT_HERE = ("sentinel", "usock", "lz4", "zstd", "gzip", "zlib", "msgpack", "uninitialized")
# What the tests of django-redis for other types have in their names.
HASHES_AND_SETS = (
    *("hset", "hdel", "hlen", "hkeys", "hexists", "hash_"),
    *("sadd", "scard", "sdiff", "sinter", "interstore", "sismember", "smembers", "smismember"),
    *("smove", "spop", "srandmember", "srem", "sscan", "sunion"),
)
REDIS_PY = {
    "test_pipeline": NO_SORTED_SETS,
    "test_exec_error_in_response": NO_LISTS,
    "test_watch_exec_no_unwatch": "they look at what MONITOR says",
    "test_watch_reset_unwatch": "they look at what MONITOR says",
    "test_pipeline_with_bitfield": NO_BITS,
    "test_send_set_commands_over_pipeline": NO_HASHES,
    "test_list_encoding": NO_LISTS,
}
SUITES = {
    "redis-py": Suite(
        "redis",
        ("test_lock.py", "test_pipeline.py", "test_encoding.py"),
        at_least=70,
        arguments=("--redis-url", "redis://127.0.0.1:{port}/0"),
        refused=REDIS_PY,
    ),
    "redis-py, asyncio": Suite(
        "redis",
        (
            "test_asyncio/test_lock.py",
            "test_asyncio/test_pipeline.py",
            "test_asyncio/test_encoding.py",
        ),
        at_least=135,
        arguments=(
            *("--redis-url", "redis://127.0.0.1:{port}/0"),
            *("-k", "not test_lock_class_argument"),
        ),
        refused={
            **{name: why for name, why in REDIS_PY.items() if "over_pipeline" not in name},
            "test_send_set_commands_over_async_pipeline": NO_HASHES,
        },
    ),
    "cachelib": Suite(
        "cachelib",
        ("test_redis_cache.py",),
        at_least=90,
        replaced={"port=6360": "port={port}"},
        # Otherwise it starts a Redis.
        environ={"CI": "true"},
    ),
    "Flask-Caching": Suite(
        "flask-caching",
        (
            *("test_backend_cache.py", "test_basic_app.py", "test_cache.py", "test_init.py"),
            *("test_memoize.py", "test_signals.py", "test_templates.py", "test_view.py"),
        ),
        at_least=200,
        # All of its tests, on this backend; with its own clock one cannot make Redis wait.
        replaced={
            "6360": "{port}",
            '"CACHE_TYPE"] = "SimpleCache"': '"CACHE_TYPE"] = "RedisCache"; '
            'app.config["CACHE_REDIS_PORT"] = {port}; '
            'app.config["CACHE_KEY_PREFIX"] = __import__("uuid").uuid4().hex',
            "self.now += seconds": "self.now += seconds; __import__('time').sleep(min(seconds, 5))",
        },
        # They mostly sleep, and each file has keys of its own.
        arguments=(
            *("-n", "6", "--dist=loadfile"),
            *("-k", "not Memcache and not test_memoize_entry_written_late"),
        ),
        elsewhere={
            "test_memoize_version_key_expires_once_its_entries_have": "looks into another backend",
        },
    ),
    "aiocache": Suite(
        "aiocache",
        tuple(
            f"acceptance/test_{name}.py"
            for name in ("base", "decorators", "factory", "lock", "plugins")
        ),
        at_least=75,
        replaced={"Cache.REDIS, ": "Cache.REDIS, port={port}, "},
        arguments=("-k", "not memcached and not memory"),
    ),
    "django-redis": Suite(
        "django-redis",
        ("test_backend.py", "test_client.py", "test_session.py"),
        at_least=400,
        replaced={":6379": ":{port}", ":56379": ":1"},
        # A process for each of four settings, because Django is configured once.
        arguments=(
            *("-n", "5"),
            *("-k", f"not ({' or '.join(NOT_HERE)} or {' or '.join(HASHES_AND_SETS)})"),
        ),
    ),
    "cashews": Suite(
        "cashews",
        tuple(
            f"test_{name}.py"
            for name in (
                *("backend_commands", "bugs", "cache", "cache_exception", "callback"),
                *("invalidate", "iterators_cache", "lock_decorator", "pickle_serializer"),
                *("rate_limit", "redis_down", "tags_feature", "transaction", "wrapper"),
            )
        ),
        at_least=600,
        # Neither has what it needs: fixtures of the same context, and a file that is not shipped.
        arguments=(
            "--import-mode=importlib",
            *("-k", "not test_long_running_transaction and not test_smoke_cmds"),
        ),
        refused={
            "test_tags_feature": NO_SETS,
            "test_invalidate_decor_tag": NO_SETS,
            "test_invalidate_decor_tag_func": NO_SETS,
            "test_diff_types_get_many": NO_SETS,
            "test_diff_types_get_match": NO_SETS,
            "test_get_bits": NO_BITS,
            "test_incr_bits": NO_BITS,
            "test_bits_size": NO_BITS,
            "test_decorators_smoke": NO_BITS,
            "test_slice_incr": SLIDING,
            "test_rate_limit_slice_simple": SLIDING,
            "test_slice_rate_limit_func_args_dict": SLIDING,
        },
    ),
    "dogpile.cache": Suite(
        "dogpile.cache",
        ("cache/test_redis_backend.py",),
        at_least=70,
        environ={"DOGPILE_REDIS_PORT": "{port}"},
        arguments=("-o", "python_classes=*Test"),
    ),
}


@pytest.mark.parametrize("name", SUITES)
def test_their_own_tests(
    name: str, sources: Callable[[str], Path], redis_port: int, tmp_path: Path
) -> None:
    suite = SUITES[name]
    found = run(suite, sources(suite.distribution), tmp_path, redis_port)
    expected = dict(suite.elsewhere)
    if AGAINST != "redis":
        expected |= suite.refused
    failed = {test: _parts(test) & expected.keys() for test in found.failed}
    surprises = [f"{test}\n{found.failed[test]}" for test, parts in failed.items() if not parts]
    assert not surprises, "\n\n".join(surprises)
    # What is expected to fail does.
    assert set().union(*failed.values()) == expected.keys()
    assert len(found.passed) >= suite.at_least


def _parts(test: str) -> set[str]:
    """Return the names of its modules, of its class, and its own."""
    return set(test.partition("[")[0].split("."))


def test_the_tests_of_django(sources: Callable[[str], Path], redis_url: str) -> None:
    # One of them adds the number of a database.
    url = redis_url.removesuffix("/0")
    run_django_tests(
        sources("django"), url, "redis", at_least=75, left_out=dict.fromkeys(CULLING, NO_CULLING)
    )
