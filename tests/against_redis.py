"""Runs tests against servers that keep entries in Redis: python -m tests.against_redis [ARG...]

Starts a Redis for the tests, and stops it afterwards. The arguments are those of pytest. Without
arguments, runs the tests that depend on where entries are kept, which takes about a minute.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.distributed.redis_server import RedisServer

# Tests by file. A file without names is run as a whole.
MOST_WORTH_IT: dict[str, tuple[str, ...]] = {
    "integration/test_golden.py": (),
    "integration/test_golden_http.py": (),
    "integration/test_manhole.py": (),
    "integration/test_monitoring.py": (),
    "integration/test_commands.py": (
        "a_value_goes_in_and_comes_out_as_it_is",
        "bytes_that_are_not_text_come_out_too",
        "storing_with_a_time_to_live",
        "add_and_counting",
        "tags",
        "flushing",
        "looking_at_the_server",
        "a_limit_is_told_in_a_line",
        "a_check_while_it_serves",
    ),
    "integration/test_http_server.py": (
        "both_doors_share_one_cache",
        "a_large_body_with_expect",
        "stopping_answers_what_has_arrived",
        "the_server_does_what_its_description_says",
    ),
    "integration/test_fresh_values.py": (
        "no_reader_gets_what_was_invalidated_before_it_asked",
        "what_a_plain_put_does_instead",
        "a_missing_value_is_computed_once",
    ),
    "integration/test_lifecycle.py": (
        "a_client_that_sends_everything_first_gets_everything",
        "half_a_close_gets_its_replies",
        "the_largest_legal_value",
        "sweeping_frees_what_nobody_asks_for",
        "stopping_answers_what_has_arrived",
    ),
    "contract/test_leases.py": (),
    "outside/test_leases.py": (),
    "outside/test_values.py": (
        "what_one_stores_each_other_reads",
        "counting_what_ends_with_a_line_feed",
        "what_would_be_too_large_is_not_decompressed",
    ),
    "outside/other_redis_clients/test_node.py": (),
    "outside/other_redis_clients/test_redis_cli.py": (),
    "outside/redis_clients/test_same_as_redis.py": (
        "entries",
        "transactions",
        "scripts_of_clients",
    ),
    "outside/redis_clients/test_redis_py.py": (
        "strings",
        "times_to_live",
        "keys",
        "a_transaction",
        "a_watched_key_that_changes",
        "a_lock",
    ),
    "outside/redis_clients/test_python_caches.py": (),
    "browser/test_dashboard.py": (
        "numbers_move_under_load",
        "tags_are_invalidated_after_a_preview",
        "the_keys_of_a_tag_are_paged",
        "tags_by_bytes_hits_and_prefix",
        "entries_are_put_edited_and_deleted",
        "keys_are_searched_and_paged",
        "events_are_listed_as_they_happen",
    ),
}


def worth_it() -> Iterator[str]:
    """The tests that pytest runs by default."""
    for file, names in MOST_WORTH_IT.items():
        yield from (f"tests/{file}::test_{name}" for name in names)
        if not names:
            yield f"tests/{file}"


def main(arguments: list[str]) -> int:
    """Return the exit status of pytest."""
    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        print("redis-server is missing; on Debian: apt-get install redis-server", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as directory:
        redis = RedisServer(Path(directory))
        environ = {
            "TAGCACHE_TEST_REACTOR": "asyncio",
            **os.environ,
            "TAGCACHE_TEST_ENGINE_URL": redis.url,
        }
        try:
            chosen = arguments or ["-q", "-n", "auto", *worth_it()]
            command = [sys.executable, "-m", "pytest", *chosen]
            return subprocess.run(command, env=environ).returncode
        finally:
            redis.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
