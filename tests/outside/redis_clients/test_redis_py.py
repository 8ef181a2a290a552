"""redis-py, blocking and asyncio, with RESP2 and RESP3, with hiredis and without."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis import asyncio as aioredis
from redis._parsers import (
    _AsyncHiredisParser,
    _AsyncRESP2Parser,
    _AsyncRESP3Parser,
    _HiredisParser,
    _RESP2Parser,
    _RESP3Parser,
)
from redis.exceptions import (
    LockError,
    LockNotOwnedError,
    ResponseError,
    WatchError,
)

ALL_BYTES = bytes(range(256))
BLOCKING = {"hiredis": (_HiredisParser, _HiredisParser), "python": (_RESP2Parser, _RESP3Parser)}
ASYNC = {
    "hiredis": (_AsyncHiredisParser, _AsyncHiredisParser),
    "python": (_AsyncRESP2Parser, _AsyncRESP3Parser),
}
VARIANTS = [
    (kind, protocol, parser)
    for kind in ("blocking", "asyncio")
    for protocol in (2, 3)
    for parser in ("hiredis", "python")
]


class Waiting:
    """An asyncio client of which every call is waited for."""

    def __init__(self, client: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return self._waiting(found) if callable(found) else found

    def _waiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            if inspect.isasyncgen(result):
                return self._loop.run_until_complete(_all(result))
            if inspect.isawaitable(result) and not isinstance(result, aioredis.client.Pipeline):
                return self._loop.run_until_complete(result)
            wrapped = isinstance(result, aioredis.client.Pipeline | aioredis.lock.Lock)
            return Waiting(result, self._loop) if wrapped else result

        return call


async def _all(results: Any) -> list[Any]:
    return [each async for each in results]


@pytest.fixture(params=VARIANTS, ids=lambda each: "-".join(map(str, each)))
def client(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Any]:
    kind, protocol, parser = request.param
    if kind == "blocking":
        pool = redis.ConnectionPool.from_url(
            redis_url, protocol=protocol, parser_class=BLOCKING[parser][protocol - 2]
        )
        with redis.Redis(connection_pool=pool) as made:
            yield made
        pool.disconnect()
        return
    loop = asyncio.new_event_loop()
    made = aioredis.Redis(
        connection_pool=aioredis.ConnectionPool.from_url(
            redis_url, protocol=protocol, parser_class=ASYNC[parser][protocol - 2]
        )
    )
    yield Waiting(made, loop)
    loop.run_until_complete(made.aclose())
    loop.run_until_complete(made.connection_pool.disconnect())
    loop.close()


def test_strings(client: Any) -> None:
    assert client.set("k", "v") is True
    assert client.get("k") == b"v"
    assert client.get("missing") is None
    assert client.set("k", "w", nx=True) is None
    assert client.set("new", "w", xx=True) is None
    assert client.set("k", "w", xx=True, get=True) == b"v"
    assert client.getset("k", "x") == b"w"
    assert client.setnx("k", "y") is False
    assert client.setnx("fresh", "y") is True
    assert client.getdel("fresh") == b"y"
    assert client.mset({"a": "1", "b": "2"}) is True
    assert client.mget("a", "missing", "b") == [b"1", None, b"2"]
    assert client.msetnx({"b": "3", "c": "3"}) is False
    assert client.get("c") is None
    assert client.append("a", "23") == 3
    assert client.strlen("a") == 3
    assert client.getrange("a", 1, -1) == b"23"
    assert client.setrange("a", 1, "xyz") == 4
    assert client.get("a") == b"1xyz"
    assert client.setrange("padded", 3, "!") == 4
    assert client.get("padded") == b"\0\0\0!"


def test_counting(client: Any) -> None:
    assert client.incr("n") == 1
    assert client.incrby("n", 41) == 42
    assert client.decr("n") == 41
    assert client.decrby("n", 1) == 40
    assert client.incrbyfloat("n", 0.5) == 40.5
    assert client.get("n") == b"40.5"
    with pytest.raises(ResponseError, match="not an integer"):
        client.incr("n")
    client.set("most", 2**63 - 1)
    with pytest.raises(ResponseError, match="overflow"):
        client.incr("most")


def test_times_to_live(client: Any) -> None:
    client.set("k", "v")
    assert client.ttl("k") == -1
    assert client.ttl("missing") == -2
    # Its own methods warn.
    assert client.execute_command("SETEX", "k", 100, "v") in (True, b"OK")
    assert 99 <= client.ttl("k") <= 100
    assert client.execute_command("PSETEX", "k", 100_000, "v") in (True, b"OK")
    assert 99_000 <= client.pttl("k") <= 100_000
    assert client.set("k", "w", keepttl=True) is True
    assert client.ttl("k") > 0
    assert client.set("k", "w") is True
    assert client.ttl("k") == -1
    assert client.expire("k", 100, gt=True) is False
    assert client.expire("k", 100, nx=True) is True
    assert client.expire("k", 200, nx=True) is False
    assert client.expire("k", 200, gt=True) is True
    assert client.pexpire("k", 100_000, lt=True) is True
    assert client.expireat("k", 4_102_444_800, xx=True) is True
    assert client.expiretime("k") == 4_102_444_800
    assert client.pexpireat("k", 4_102_444_800_123) is True
    assert client.pexpiretime("k") == 4_102_444_800_123
    assert client.getex("k", ex=100) == b"w"
    assert client.ttl("k") <= 100
    assert client.getex("k", persist=True) == b"w"
    assert client.persist("k") is False
    assert client.expire("k", -1) is True
    assert client.exists("k") == 0
    client.set("short", "v", px=1)
    time.sleep(0.01)
    assert client.get("short") is None
    assert client.dbsize() == 0


def test_keys(client: Any) -> None:
    client.mset({f"page:{number}": number for number in range(25)})
    client.set("other", "v")
    assert client.exists("page:1", "page:1", "missing") == 2
    assert client.touch("page:1", "missing") == 1
    assert client.type("page:1") == b"string"
    assert client.type("missing") == b"none"
    assert client.dbsize() == 26
    assert sorted(client.keys("page:1?")) == [b"page:%d" % number for number in range(10, 20)]
    assert set(client.scan_iter("page:*", count=5)) == {b"page:%d" % each for each in range(25)}
    assert set(client.scan_iter("page:*", _type="list")) == set()
    assert client.exists(client.randomkey()) == 1
    assert client.rename("other", "renamed") is True
    with pytest.raises(ResponseError, match="no such key"):
        client.rename("other", "renamed")
    assert client.renamenx("renamed", "page:1") is False
    assert client.copy("renamed", "page:1") is False
    assert client.copy("renamed", "page:1", replace=True) is True
    assert client.get("page:1") == b"v"
    assert client.delete("page:1", "page:1", "missing") == 1
    assert client.unlink("page:2", "page:3") == 2
    assert client.memory_usage("page:4") > 0
    assert client.memory_usage("missing") is None
    assert client.object("encoding", "page:4") in (b"int", b"embstr", b"raw")
    assert client.object("idletime", "renamed") == 0
    assert client.flushdb() is True
    assert client.flushall(asynchronous=True) is True
    assert client.dbsize() == 0
    assert client.randomkey() is None


@pytest.mark.parametrize(
    "data",
    [b"", ALL_BYTES, b"\r\n", b"$5\r\nhello\r\n", b"\xff\xfe", b"x" * 1_000_000],
    ids=["empty", "all bytes", "line end", "RESP", "not UTF-8", "1 MB"],
)
def test_any_bytes(client: Any, data: bytes) -> None:
    assert client.set("k", data) is True
    assert client.get("k") == data
    assert client.strlen("k") == len(data)
    assert client.mget("k", "k") == [data, data]
    if 0 < len(data) < 1000:
        assert client.set(data, "v") is True
        assert client.get(data) == b"v"
        assert client.keys() == [*{data, b"k"}] or set(client.keys()) == {data, b"k"}
        assert set(client.scan_iter()) == {data, b"k"}


def test_the_server(client: Any) -> None:
    assert client.ping() is True
    assert client.echo("hello") == b"hello"
    seconds, microseconds = client.time()
    assert abs(seconds - time.time()) < 60
    assert 0 <= microseconds < 1_000_000
    assert client.info()["role"] == "master"
    assert client.info("server")["redis_version"].split(".")[0].isdigit()
    client.set("k", "v")
    assert client.info("keyspace")["db0"]["keys"] == 1
    assert "maxmemory" in client.config_get("maxmemory*")
    assert int(client.config_get("databases")["databases"]) >= 1
    assert client.command_count() > 50
    assert "get" in client.command()


def test_connections_are_named_and_listed(client: Any) -> None:
    assert client.client_setname("worker-7") is True
    assert client.client_getname() in ("worker-7", b"worker-7")
    number = client.client_id()
    assert client.client_info()["id"] in (number, str(number))
    listed = [each for each in client.client_list() if each["name"] == "worker-7"]
    assert [each["id"] for each in listed] == [str(number)]
    assert client.client_list(client_id=[number])[0]["name"] == "worker-7"


def test_a_pipeline(client: Any) -> None:
    pipeline = client.pipeline(transaction=False)
    for number in range(1000):
        pipeline.set(f"k{number}", number)
    pipeline.mget("k1", "k999", "missing")
    *stored, values = pipeline.execute()
    assert stored == [True] * 1000
    assert values == [b"1", b"999", None]


def test_an_error_in_a_pipeline_leaves_the_others(client: Any) -> None:
    pipeline = client.pipeline(transaction=False)
    pipeline.set("k", "text")
    pipeline.incr("k")
    pipeline.get("k")
    stored, error, value = pipeline.execute(raise_on_error=False)
    assert (stored, value) == (True, b"text")
    assert isinstance(error, ResponseError)


def test_a_transaction(client: Any) -> None:
    pipeline = client.pipeline()
    pipeline.set("k", 1)
    pipeline.incr("k")
    pipeline.expire("k", 100)
    pipeline.get("k")
    assert pipeline.execute() == [True, 2, True, b"2"]


def test_a_wrong_command_aborts_a_transaction(client: Any) -> None:
    pipeline = client.pipeline()
    pipeline.set("k", 1)
    pipeline.execute_command("SET", "k")
    with pytest.raises(ResponseError, match="wrong number of arguments"):
        pipeline.execute()
    assert client.get("k") is None


def test_a_watched_key_that_changes(client: Any, plain: redis.Redis) -> None:
    pipeline = client.pipeline()
    pipeline.watch("k")
    plain.set("k", "theirs")
    pipeline.multi()
    pipeline.set("k", "ours")
    with pytest.raises(WatchError):
        pipeline.execute()
    assert client.get("k") == b"theirs"
    pipeline.watch("k")
    value = pipeline.get("k")
    pipeline.multi()
    pipeline.set("k", value + b" and ours")
    assert pipeline.execute() == [True]
    assert client.get("k") == b"theirs and ours"


def test_a_transaction_is_tried_again(plain: redis.Redis, redis_url: str) -> None:
    other = redis.Redis.from_url(redis_url)
    attempts = []

    def increment(pipeline: Any) -> None:
        value = int(pipeline.get("n") or 0)
        attempts.append(value)
        if len(attempts) == 1:
            other.set("n", 10)
        pipeline.multi()
        pipeline.set("n", value + 1)

    assert plain.transaction(increment, "n") == [True]
    assert attempts == [0, 10]
    assert plain.get("n") == b"11"
    other.close()


def test_a_lock(client: Any, plain: redis.Redis) -> None:
    lock = client.lock("lock", timeout=100)
    assert lock.acquire() is True
    assert lock.locked() is True
    assert lock.owned() is True
    assert 99 < plain.pttl("lock") / 1000 <= 100
    assert lock.extend(100) is True
    assert 199 < plain.pttl("lock") / 1000 <= 200
    assert lock.extend(50, replace_ttl=True) is True
    assert plain.pttl("lock") / 1000 <= 50
    assert lock.reacquire() is True
    assert 99 < plain.pttl("lock") / 1000 <= 100
    other = client.lock("lock", timeout=100)
    assert other.acquire(blocking=False) is False
    assert other.acquire(blocking_timeout=0.05) is False
    lock.release()
    assert other.acquire(blocking=False) is True
    assert other.owned() is True
    other.release()
    assert plain.exists("lock") == 0


def test_a_lock_that_somebody_else_has_by_now(client: Any, plain: redis.Redis) -> None:
    lock = client.lock("lock", timeout=100)
    lock.acquire()
    plain.set("lock", "somebody else")
    for work in (lock.release, lock.reacquire, lambda: lock.extend(10)):
        with pytest.raises((LockNotOwnedError, LockError)):
            work()
    assert plain.get("lock") == b"somebody else"


def test_one_thread_at_a_time_has_a_lock(plain: redis.Redis, redis_url: str) -> None:
    inside: list[int] = []
    most = []

    def work(number: int) -> None:
        with redis.Redis.from_url(redis_url) as client:
            for _ in range(5):
                with client.lock("lock", timeout=60, sleep=0.001, blocking_timeout=60):
                    inside.append(number)
                    most.append(len(inside))
                    inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
