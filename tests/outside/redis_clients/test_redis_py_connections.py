"""redis-py: pools, passwords, a server that restarts, and what it says to what is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError
from redis.retry import Retry

from tests.outside.redis_clients.server import USER, Server


def test_threads_share_a_blocking_pool(redis_url: str) -> None:
    pool = redis.BlockingConnectionPool.from_url(
        redis_url, max_connections=2, timeout=60, client_name="pooled"
    )
    client = redis.Redis(connection_pool=pool)

    def work() -> None:
        for _ in range(50):
            client.incr("n")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("n") == b"400"
    assert 1 <= len([each for each in client.client_list() if each["name"] == "pooled"]) <= 2
    pool.disconnect()


def test_health_checks(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, health_check_interval=0.001) as client:
        for number in range(5):
            time.sleep(0.002)
            assert client.set("k", number) is True
        assert client.get("k") == b"4"


def test_decoded_replies(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True, protocol=3) as client:
        client.set("name", "Zoë")
        assert client.get("name") == "Zoë"
        assert client.keys() == ["name"]
        assert client.info("server")["redis_version"]


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_password(start_server: Callable[..., Server], protocol: int) -> None:
    port = start_server(password="secret-é&").port
    address = f"127.0.0.1:{port}/0?protocol={protocol}"

    def ping(who: str) -> bool:
        with redis.Redis.from_url(f"redis://{who}{address}") as client:
            return client.ping()

    assert ping(f"{USER}:secret-%C3%A9%26@")
    assert ping(":secret-%C3%A9%26@")
    for wrong in (":wrong@", f"{USER}:wrong@", "nobody:secret-%C3%A9%26@"):
        with pytest.raises(AuthenticationError):
            ping(wrong)
    with pytest.raises(AuthenticationError):
        ping("")


def test_a_password_that_is_told_later(start_server: Callable[..., Server]) -> None:
    server = start_server(password="secret")
    # With RESP3 or the name of the library, the handshake fails without one.
    with redis.Redis.from_url(
        server.url, protocol=2, driver_info=None, single_connection_client=True
    ) as client:
        with pytest.raises(AuthenticationError, match="Authentication required"):
            client.get("k")
        assert client.auth("secret", USER)
        assert client.set("k", "v")


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_server_that_restarts(start_server: Callable[..., Server], protocol: int) -> None:
    server = start_server()
    retry = Retry(ConstantBackoff(0.01), 1000)
    client = redis.Redis.from_url(server.url, protocol=protocol, retry=retry)
    unlucky = redis.Redis.from_url(server.url, protocol=protocol, retry=None)
    assert client.set("k", "v")
    assert unlucky.get("k") == b"v"
    server.stop()
    with pytest.raises(ConnectionError):
        unlucky.get("k")
    server.start()
    assert client.set("k", "w")
    assert unlucky.get("k") == b"w"
    client.close()
    unlucky.close()


def test_leaving(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 1)) as client:
        assert client.quit() is True
        assert client.ping() is True


# What is refused, and what the text says to use instead.
REFUSED = [
    ("LPUSH k v", "lists"),
    ("RPOP k", "lists"),
    ("BLPOP k 1", "lists"),
    ("HSET k f v", "hashes"),
    ("HGETALL k", "hashes"),
    ("SADD k v", "sets"),
    ("SMEMBERS k", "sets"),
    ("ZADD k 1 v", "sorted sets"),
    ("XADD k * f v", "streams"),
    ("SUBSCRIBE c", "SUBSCRIBE"),
    ("PUBLISH c v", "PUBLISH"),
    ("CLIENT TRACKING ON", "TRACKING"),
    ("CLUSTER NODES", "CLUSTER"),
    ("REPLICAOF 127.0.0.1 6379", "REPLICAOF"),
    ("CONFIG SET maxmemory 1", "configuration file"),
    ("SAVE", "SAVE"),
    ("MONITOR", "MONITOR"),
]


@pytest.mark.tagcache_only("what is refused")
@pytest.mark.parametrize(("command", "named"), REFUSED)
def test_what_is_refused_says_why(plain: redis.Redis, command: str, named: str) -> None:
    plain.set("k", "v")
    before = plain.client_id()
    with pytest.raises(ResponseError) as caught:
        plain.execute_command(*command.split())
    assert named.lower() in str(caught.value).lower()
    assert plain.get("k") == b"v"
    # On the same connection.
    assert plain.client_id() == before


@pytest.mark.tagcache_only("scripts that it does not know")
def test_a_script_of_ones_own(plain: redis.Redis) -> None:
    script = plain.register_script("return redis.call('SET', KEYS[1], ARGV[1])")
    with pytest.raises(ResponseError, match="scripts"):
        script(keys=["k"], args=["v"])
    with pytest.raises(ResponseError, match="scripts"):
        plain.eval("return 1", 0)
    assert plain.exists("k") == 0
