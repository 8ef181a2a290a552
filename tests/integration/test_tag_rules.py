"""Tags by rules, from the configuration file to an invalidation, at every listener."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.integration.running import RunningServer
from tests.integration.test_cli import TAGCACHE, run

Start = Callable[..., RunningServer]

POSTS = ["post:{id}:*", "post:{id}", "posts"]
RULES = {"tag_rules": {"posts": POSTS, "lists": ["*:list", "lists"]}}
AUTHORIZATION = "Basic " + b64encode(b"admin:password").decode()


def call(server: RunningServer, method: str, path: str, body: Any = None) -> Any:
    request = Request(
        f"http://127.0.0.1:{server.http_port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": AUTHORIZATION, "Content-Type": "application/json"},
        method=method,
    )
    with urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def tags_of(server: RunningServer, key: str) -> list[str]:
    tags: list[str] = call(server, "GET", f"/keys/{key}")["tags"]
    return tags


def test_every_way_to_store_without_tags(start: Start) -> None:
    server = start(RULES)
    with server.connect() as client:
        assert client.ask(b"PUT\tpost:1:put\t-\t-\tv") == b"OK\n"
        assert client.ask(b"PUT\tpost:1:list") == b"OK\n"
        assert client.ask(b"ADD\tpost:1:add\t60000\t\tv") == b"ADDED\n"
        assert client.ask(b"INCR\tpost:1:incr") == b"VALUE\t1\n"
        assert client.ask(b"DECR\tpost:1:decr\t2") == b"VALUE\t-2\n"
        assert client.ask(b"PUT\tpost:1:own\t-\town\tv") == b"OK\n"
        client.send(b"".join(b"PUT\tpost:2:%d\t-\t-\tv\n" % number for number in range(100)))
        assert [client.line() for _ in range(100)] == [b"OK\n"] * 100
        entry = {"value": "v", "tags": []}
        call(server, "POST", "/put", {"key": "post:3:put", **entry})
        call(server, "POST", "/put", {"key": "post:3:none", "value": "v"})
        call(server, "POST", "/add", {"key": "post:3:add", **entry})
        call(server, "POST", "/incr", {"key": "post:3:incr"})
        call(server, "POST", "/decr", {"key": "post:3:decr"})
        call(server, "PUT", "/keys/post:3:keys", entry)
        assert tags_of(server, "post:1:list") == ["post:1", "posts", "lists"]
        assert tags_of(server, "post:3:none") == ["post:3", "posts"]
        assert tags_of(server, "post:1:own") == ["own"]
        assert client.ask(b"INV_TAG\tpost:1") == b"INV_TAG\t5\n"
        assert client.ask(b"INV_TAG\tpost:2") == b"INV_TAG\t100\n"
        assert call(server, "POST", "/invalidate-tag", {"tag": "post:3"})["count"] == 6
        assert client.ask(b"KEYS\tposts") == b"KEYS\t\n"
        assert client.ask(b"GET\tpost:1:own") == b"VALUE\tv\n"


def test_a_reload_is_for_what_is_stored_from_then_on(start: Start) -> None:
    server = start()
    with server.connect() as client:
        client.ask(b"PUT\tpost:1:a\t-\t-\tv")
        log = server.reload(**RULES)
        assert "reload: tag_rules.posts: None -> ('post:{id}:*', 'post:{id}', 'posts')" in log
        client.ask(b"PUT\tpost:1:b\t-\t-\tv")
        assert client.ask(b"KEYS\tpost:1") == b"KEYS\tpost:1:b\n"

        log = server.reload(tag_rules={"posts": ["post:{id}:*", "{no}"]})
        assert "nothing changed" in log
        assert "tag_rules.posts: the tag {no} names {no}, which is not in the pattern" in log
        log = server.reload(tag_rules={"posts": POSTS}, cache={"max_tags_per_entry": 1})
        assert "nothing changed" in log
        assert "tag_rules.posts: it has 2 tags, and cache.max_tags_per_entry is 1" in log
        client.ask(b"PUT\tpost:1:a\t-\t-\tv")
        assert client.ask(b"INV_TAG\tpost:1") == b"INV_TAG\t2\n"

        del server.sections["tag_rules"], server.sections["cache"]
        assert "reload: tag_rules.lists: ('*:list', 'lists') -> None" in server.reload()
        client.ask(b"PUT\tpost:1:a\t-\t-\tv")
        assert client.ask(b"KEYS\tpost:1") == b"KEYS\t\n"


def test_the_rules_in_effect_are_shown(start: Start) -> None:
    server = start(RULES)
    shown = [
        each for each in call(server, "GET", "/config")["knobs"] if each["section"] == "tag_rules"
    ]
    assert [(each["key"], each["value"], each["origin"]) for each in shown] == [
        ("posts", POSTS, "file"),
        ("lists", ["*:list", "lists"], "file"),
    ]
    assert all(each["description"].startswith("A tag rule: ") for each in shown)
    assert not any(each["needs_restart"] for each in shown)


def test_a_start_with_a_bad_rule_names_it(start: Start) -> None:
    server = start({"tag_rules": {"bad": ["a{x", "t"]}}, wait=False)
    assert server.process.wait(60) != 0
    assert "tag_rules.bad: the pattern has a { that is not closed" in server.text()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tagcache.conf"
    path.write_text(
        "[cache]\n"
        "max_tags_per_entry = 3\n"
        "max_tag_length = 10\n"
        "[tag_rules]\n"
        "posts = post:{id}:*, post:{id}, posts\n"
        "lists = *:list, lists, posts, more\n"
    )
    return path


def told(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_a_check_shows_the_rules(file: Path) -> None:
    done = run("config", "check", file, cwd=file.parent)
    assert done.stdout.splitlines() == [
        "tag rule posts: post:{id}:* -> post:{id}, posts",
        "tag rule lists: *:list -> lists, posts, more",
        f"{file}: fine",
    ]
    done = run("config", "check", file, "--json", cwd=file.parent)
    assert json.loads(done.stdout)["tag_rules"] == {
        "posts": {"pattern": "post:{id}:*", "tags": ["post:{id}", "posts"]},
        "lists": {"pattern": "*:list", "tags": ["lists", "posts", "more"]},
    }


def test_what_a_key_gets_is_explained(file: Path) -> None:
    done = run("tags", "explain", "post:7:body", cwd=file.parent)
    assert (done.returncode, told(done)) == (0, [["post:7", "posts", "-"], ["posts", "posts", "-"]])
    done = run("tags", "explain", "post:7:list", "--config", file, cwd=file.parent)
    assert told(done) == [
        ["post:7", "posts", "-"],
        ["posts", "posts", "-"],
        ["lists", "lists", "-"],
        ["posts", "lists", "given already"],
        ["more", "lists", "left out: cache.max_tags_per_entry is 3"],
    ]
    done = run("tags", "explain", "post:1234567:body", "--json", cwd=file.parent)
    assert json.loads(done.stdout) == [
        {
            "tag": "post:1234567",
            "rule": "posts",
            "note": "left out: 12 bytes, cache.max_tag_length is 10",
        },
        {"tag": "posts", "rule": "posts", "note": None},
    ]
    done = run("tags", "explain", "page", cwd=file.parent)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    file.write_text("[tag_rules]\nbad = {a}{b}, t\n")
    done = run("tags", "explain", "page", cwd=file.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert "line 2: tag_rules.bad: the pattern has nothing between {a} and {b}" in done.stderr


def test_rules_are_read_and_changed_one_by_one(file: Path) -> None:
    def config(*arguments: object) -> subprocess.CompletedProcess[str]:
        return run("config", *arguments, "--config", file, cwd=file.parent)

    assert config("set", "tag_rules.pages", 'page:{id}, "page {id}", "a, b#"').returncode == 0
    assert config("get", "tag_rules.pages").stdout == "page:{id}, page {id}, a, b#\n"
    refused = config("set", "tag_rules.pages", "page:{id}")
    assert (refused.returncode, "there is no tag after the pattern" in refused.stderr) == (1, True)
    for value in ('a, "b', "a, b#c"):
        assert config("set", "tag_rules.pages", value).returncode == 2
    assert ["tag_rules.pages", "page:{id}, page {id}, a, b#", "file"] in told(config("show"))
    assert config("reset", "tag_rules.pages").returncode == 0
    missing = config("get", "tag_rules.pages")
    assert (missing.returncode, "no tag rule pages" in missing.stderr) == (2, True)
    assert config("set", "tag_rules.", "a, b").returncode == 2
    assert config("get", "tag_rules.posts").stdout == "post:{id}:*, post:{id}, posts\n"


def test_tags_in_the_cache_are_still_listed(start: Start) -> None:
    server = start(RULES)
    server.ask(b"PUT\tpost:1:list\t-\t-\tv")
    server.ask(b"PUT\tk\t-\texplain\tv")
    at = ("--port", server.http_port, "tags")
    first = {each[0] for each in told(run(*at, cwd=server.directory))}
    assert first == {"explain", "lists", "post:1", "posts"}
    for arguments in (("post",), ("--sort", "bytes", "post"), ("list", "post")):
        assert len(told(run(*at, *arguments, cwd=server.directory))) == 2
    assert told(run(*at, "list", "explain", cwd=server.directory))[0][0] == "explain"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("tagcache tags ", {"explain", "list"}),
        ("tagcache tags --so", {"--sort"}),
        ("tagcache tags explain --co", {"--config"}),
    ],
)
def test_what_a_shell_completes(tmp_path: Path, typed: str, completed: set[str]) -> None:
    environ = {
        "PATH": "/usr/bin:/bin",
        "_TAGCACHE_COMPLETE": "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    done = subprocess.run(
        [TAGCACHE], capture_output=True, text=True, cwd=tmp_path, timeout=60, env=environ
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == completed
