"""The fixtures, in separate runs of pytest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def test_the_server_lasts_for_the_session_and_is_empty_for_each_test(
    project: pytest.Pytester,
) -> None:
    project.makepyfile("""
        import json, os, urllib.request
        from base64 import b64encode
        from pathlib import Path

        pids = []

        def test_first(tagcache_server, tagcache_client):
            assert tagcache_client.put("k", {"a": 1}, tags=["t"])
            assert tagcache_client.stats().puts == 1
            pids.append(tagcache_server.process.pid)
            os.kill(pids[0], 0)

        def test_second(tagcache_server, tagcache_client):
            assert tagcache_client.get("k") is None
            assert tagcache_client.stats().puts == 1
            assert tagcache_server.url == f"tagcache://127.0.0.1:{tagcache_server.port}"
            pids.append(tagcache_server.process.pid)
            assert pids[0] == pids[1]
            Path("pid").write_text(str(pids[0]))

        def test_http(tagcache_server):
            user = f"{tagcache_server.username}:{tagcache_server.password}".encode()
            request = urllib.request.Request(
                tagcache_server.http_url + "/stats",
                headers={"Authorization": "Basic " + b64encode(user).decode()},
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                assert json.load(response)["puts"] == 1
    """)
    project.runpytest_subprocess("-W", "error").assert_outcomes(passed=3)
    with pytest.raises(ProcessLookupError):
        os.kill(int((project.path / "pid").read_text()), 0)


def test_without_the_fixtures_nothing_runs_and_nothing_is_imported(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other plugins may import anything.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    project.makepyfile("""
        import sys

        def test_imports():
            assert not [name for name in sys.modules if name.startswith("tagcache.client")]
            assert "twisted" not in sys.modules
    """)
    project.runpytest_subprocess("-p", "tagcache.contrib.pytest_plugin").assert_outcomes(passed=1)


def test_the_fixtures_are_listed_with_descriptions(project: pytest.Pytester) -> None:
    listed = project.runpytest_subprocess("--fixtures")
    listed.stdout.fnmatch_lines(["tagcache_server*", "*A TagCache server for the session*"])
    listed.stdout.fnmatch_lines(["tagcache_client*", "*A blocking client of*"])


@pytest.mark.slow
def test_an_error_says_why_the_server_did_not_start(project: pytest.Pytester) -> None:
    project.makeconftest("""
        from tagcache.contrib import pytest_plugin

        pytest_plugin._CONFIG += "nonsense = 1\\n"
    """)
    project.makepyfile("def test_it(tagcache_client): ...")
    done = project.runpytest_subprocess()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*RuntimeError: the TagCache server did not start:*", "*nonsense*"])


def test_the_installed_server_runs(project: pytest.Pytester, tmp_path: Path) -> None:
    """The folder of the tests does not matter."""
    (project.path / "tagcache").mkdir()
    (project.path / "tagcache.conf").write_text("nonsense")
    project.makepyfile("def test_it(tagcache_client): assert tagcache_client.ping()")
    project.runpytest_subprocess().assert_outcomes(passed=1)
