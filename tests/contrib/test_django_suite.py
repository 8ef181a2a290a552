"""Django's own tests of caches, which are in its source, but not in its package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagcache.contrib.pytest_plugin import Server

ROOT = Path(__file__).resolve().parents[2]

NO_CULLING = "MAX_ENTRIES is not supported: cache.max_memory of the server limits the cache"
# The tests of Django that do not apply, and why.
LEFT_OUT = {
    "sync": {
        "test_cull": NO_CULLING,
        "test_zero_cull": NO_CULLING,
        "test_cull_delete_when_store_empty": NO_CULLING,
    },
}
NO_QUERIES = "pickling a QuerySet runs a query, which Django forbids in an event loop"
LEFT_OUT["async"] = {
    **LEFT_OUT["sync"],
    "test_cache_read_for_model_instance_with_deferred": NO_QUERIES,
    "test_cache_write_for_model_instance_with_deferred": NO_QUERIES,
}


@pytest.fixture(scope="session")
def source(sources: Callable[[str], Path]) -> Path:
    """The folder with the source of the installed Django."""
    return sources("django")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "at_least"), [("sync", 69), ("async", 49)])
def test_the_tests_of_django(
    source: Path, tagcache_server: Server, kind: str, at_least: int
) -> None:
    run_django_tests(source, tagcache_server.url, kind, at_least, LEFT_OUT[kind])


def run_django_tests(
    source: Path, url: str, kind: str, at_least: int, left_out: dict[str, str]
) -> None:
    """Run them as ``django_suite`` does; all pass but those that are left out."""
    command = [sys.executable, "-W", "error", "-m", "tests.contrib.django_suite"]
    done = subprocess.run(
        [*command, str(source), url, kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    failed = {name: text for name, text in found["failed"] if _short(name) not in left_out}
    assert not failed, "\n\n".join(f"{name}\n{text}" for name, text in failed.items())
    # Each excluded test exists in this Django, and was skipped or failed.
    others = {_short(name) for name, _ in found["skipped"] + found["failed"]}
    assert others == set(left_out)
    assert len(found["passed"]) >= at_least


def _short(name: str) -> str:
    return name.rpartition(".")[2]
