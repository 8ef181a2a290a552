"""The rights that a Redis user needs, and a Redis at a UNIX socket."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from tests.distributed.redis_server import RedisCluster, RedisServer
from tests.distributed.test_servers import healthy, http
from tests.distributed.test_tls import PATIENT, one_cache, refused
from tests.integration.running import RunningServer, eventually

pytestmark = pytest.mark.needs("redis-server", "redis-cli")

Redis = Callable[..., RedisServer]
Front = Callable[..., RunningServer]

# The commands that the scripts use, and those that call scripts.
COMMANDS = [
    *(
        "eval",
        "evalsha",
        "time",
        "get",
        "set",
        "strlen",
        "incr",
        "incrby",
        "del",
        "unlink",
        "exists",
        "pexpire",
        "pttl",
        "pexpireat",
        "rename",
        "publish",
    ),
    *("hget", "hset", "hdel", "hlen", "hincrby", "hgetall", "hscan"),
    *(
        "zadd",
        "zrem",
        "zscore",
        "zcard",
        "zcount",
        "zrange",
        "zrangebyscore",
        "zrevrangebyscore",
        "zmscore",
        "zrandmember",
        "zscan",
        "zpopmin",
    ),
    *("sadd", "srem", "sismember", "scard", "sscan", "spop"),
    *("rpush", "lpop", "lrem", "llen", "lindex", "lrange"),
]
# Those that load scripts, that hear of changes and leases, and that tell the eviction policy.
ASKED = ["script|load", "hello", "ping", "subscribe", "client|tracking", "info"]
PATTERNS = ["resetchannels", "&tagcache:*", "~tagcache:*"]
RIGHTS = [*PATTERNS, *(f"+{command}" for command in COMMANDS + ASKED)]
# A cluster is asked for its slots.
CLUSTER_RIGHTS = [*RIGHTS, "+cluster|slots"]


def test_the_commands_are_those_of_the_scripts() -> None:
    used = {"eval", "evalsha"}
    for script in resources.files("tagcache.redis.scripts").iterdir():
        if script.name.endswith(".lua"):
            calls = re.findall(r"redis\.p?call\('(\w+)'", script.read_text("utf-8"))
            used.update(call.lower() for call in calls)
            assert script.read_text("utf-8").count("redis.call(") <= len(calls)
    assert sorted(COMMANDS) == sorted(used)


def admit(server: RedisServer, rights: list[str]) -> None:
    """Create the users ``tagcache`` with these rights and ``admin`` for the test, and no others."""
    assert "OK" in server.cli("acl", "setuser", "tagcache", "on", ">w/o@rd", *rights)
    assert "OK" in server.cli("acl", "setuser", "admin", "on", ">admin", "~*", "&*", "+@all")
    assert "OK" in server.cli("acl", "setuser", "default", "off")
    server.reach += ["--user", "admin", "--pass", "admin", "--no-auth-warning"]


def all_of_it(one: RunningServer, two: RunningServer) -> None:
    """Use what ``one_cache`` leaves out."""
    one_cache(one, two)
    with one.connect() as a, two.connect() as b:
        for number in range(1200):
            a.send(b"PUT\tk%d\t-\tmany,all\tv\n" % number)
        assert [a.line() for _ in range(1200)] == [b"OK\n"] * 1200
        assert b.ask(b"ADD\tk0\t-\t-\tv") == b"EXISTS\n"
        assert b.ask(b"TOUCH\tk0\t60000") == b"TOUCHED\n"
        assert b.ask(b"DECR\tn") == b"VALUE\t-1\n"
        assert a.ask(b"DEL\tn") == b"DEL ok\n"
        assert len(a.ask(b"KEYS\tmany").split(b",")) == 1200
        assert a.ask(b"PUT\tmore\t40\tmany\tv") == b"OK\n"
        assert b.ask(b"INV_TAGS_ALL\tmany,all") == b"INV_TAGS_ALL\t1200\n"
        for number in range(1200):
            a.send(b"PUT\tk%d\t-\tmany\tv\n" % number)
        assert [a.line() for _ in range(1200)] == [b"OK\n"] * 1200
        eventually(lambda: a.ask(b"GET\tmore") == b"NF\n")
        assert b.ask(b"INV_TAG\tmany") == b"INV_TAG\t1200\n"
        token = a.ask(b"FETCH\tleased\t60000").split()[1]
        b.send(b"FETCH\tleased\t60000\t60000\n")
        eventually(lambda: two.ask(b"FETCH\tleased\t60000").startswith(b"WAIT"))
        assert a.ask(b"FILL\t%b\tleased\t-+60000\tt\tv" % token) == b"OK\n"
        assert b.line() == b"HIT\tv\n"
        assert b.ask(b"SOFT_TAG\tt") == b"SOFT_TAG\t1\n"
        assert a.ask(b"FETCH\tleased\t60000").startswith(b"STALE\t")
        assert b.ask(b"DEL\tleased") == b"DEL nf\n"
        assert "not heard" not in one.text() + two.text()
    assert http(one, "POST", "/put", {"key": "h", "value": "1", "tags": ["t"]})[0] == 200
    assert [each["key"] for each in http(two, "GET", "/keys")[1]["keys"]] == ["h"]
    assert http(two, "GET", "/tags")[1]["tags"][0]["keys"] == 1
    assert http(two, "GET", "/stats")[1]["items"] == 1
    assert http(two, "POST", "/flush", {})[1]["count"] == 1
    assert healthy(one)
    assert healthy(two)


def test_a_user_with_only_these_rights(redis: Redis, front: Front) -> None:
    server = redis()
    admit(server, RIGHTS)
    url = f"redis://tagcache:w%2Fo%40rd@127.0.0.1:{server.port}/0"
    all_of_it(front(url, PATIENT), front(url, PATIENT))
    # redis-py tries to send its name and version, and does without.
    denied = re.findall(r"object\"?\n\s*(?:\d+\) )?\"?(\S+?)\"?\n", server.cli("acl", "log"))
    assert {each.partition("|")[0] for each in denied} <= {"client"}


def test_a_user_of_a_cluster_with_only_these_rights(tmp_path: Path, front: Front) -> None:
    nodes = RedisCluster(tmp_path / "cluster")
    try:
        for node in nodes.nodes:
            admit(node, CLUSTER_RIGHTS)
        place = nodes.url.removeprefix("redis+cluster://")
        url = f"redis+cluster://tagcache:w%2Fo%40rd@{place}"
        all_of_it(front(url, PATIENT), front(url, PATIENT))
    finally:
        nodes.stop()


def test_other_names_than_those_it_may_touch(redis: Redis, front: Front) -> None:
    server = redis()
    admit(server, RIGHTS)
    url = f"redis://tagcache:w%2Fo%40rd@127.0.0.1:{server.port}/0"
    refused(front(url, {**PATIENT, "key_prefix": "others:"}), "No permissions", "no permissions")


def test_a_socket_of_the_file_system(redis: Redis, front: Front, tmp_path: Path) -> None:
    server = redis(socket=tmp_path / "redis.sock")
    url = f"unix://{tmp_path}/redis.sock?db=2"
    one_cache(front(url, PATIENT), front(url, PATIENT))
    assert server.cli("-n", "2", "--scan").strip()
    assert not server.cli("-n", "0", "--scan").strip()
    server.cli("config", "set", "requirepass", "w/ord")
    refused(front(url, PATIENT), "Authentication required")
    with_it = front(f"unix://:w%2Ford@{tmp_path}/redis.sock", PATIENT)
    assert with_it.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"
