"""Databases of a running server: several protocols at once, each against a plain model."""

from __future__ import annotations

import http.client
import json
import threading
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random
from typing import Any

import pytest
from redis import Redis

from tests.integration.running import Client, RunningServer

NEEDS = pytest.mark.needs("redis-server", "redis-cli")
Front = Callable[..., RunningServer]
KEYS = [f"k{number}" for number in range(12)]
TAGS = ["t", "u", "v"]
COMMANDS = 250


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=NEEDS),
        pytest.param("near", marks=NEEDS),
        pytest.param("cluster", marks=NEEDS),
    ]
)
def server(request: pytest.FixtureRequest, start: Front) -> RunningServer:
    if request.param == "memory":
        return start()
    front: Front = request.getfixturevalue("front")
    if request.param == "cluster":
        nodes = request.getfixturevalue("cluster")
        for node in nodes.nodes:
            node.cli("flushall")
        return front(nodes.url)
    url = request.getfixturevalue("empty_redis").url
    return front(url, {"near_cache_mb": 8} if request.param == "near" else {})


class Protocol(ABC):
    """One database over one protocol. What is not counted there is None."""

    @abstractmethod
    def put(self, key: str, value: str, tags: list[str]) -> None: ...

    @abstractmethod
    def get(self, key: str) -> str | None: ...

    @abstractmethod
    def delete(self, key: str) -> bool: ...

    @abstractmethod
    def count_up(self, key: str, by: int) -> int: ...

    @abstractmethod
    def invalidate(self, tags: list[str]) -> int: ...

    @abstractmethod
    def keys_by_tag(self, tag: str) -> set[str]: ...

    @abstractmethod
    def items(self) -> int | None: ...

    @abstractmethod
    def flush(self) -> int | None: ...

    @abstractmethod
    def close(self) -> None: ...


class Lines(Protocol):
    def __init__(self, server: RunningServer, database: int) -> None:
        self._reads, self._writes = server.connect(), server.connect()
        for client in (self._reads, self._writes):
            assert client.ask(b"SELECT\t%d" % database) == b"OK\n"

    @staticmethod
    def _ask(client: Client, *words: object) -> list[str]:
        return client.ask("\t".join(map(str, words)).encode()).decode().rstrip("\n").split("\t")

    def put(self, key: str, value: str, tags: list[str]) -> None:
        assert self._ask(self._writes, "PUT", key, "-", ",".join(tags), value) == ["OK"]

    def get(self, key: str) -> str | None:
        said = self._ask(self._reads, "GET", key)
        return None if said == ["NF"] else said[1]

    def delete(self, key: str) -> bool:
        return self._ask(self._writes, "DEL", key) == ["DEL ok"]

    def count_up(self, key: str, by: int) -> int:
        return int(self._ask(self._writes, "INCR", key, by)[1])

    def invalidate(self, tags: list[str]) -> int:
        return int(self._ask(self._writes, "INV_TAGS_ANY", ",".join(tags))[1])

    def keys_by_tag(self, tag: str) -> set[str]:
        return set(filter(None, self._ask(self._reads, "KEYS", tag)[1].split(",")))

    def items(self) -> int | None:
        return None

    def flush(self) -> int | None:
        return int(self._ask(self._writes, "FLUSH")[1])

    def close(self) -> None:
        self._reads.sock.close()
        self._writes.sock.close()


class Resp(Protocol):
    def __init__(self, server: RunningServer, database: int) -> None:
        def connect() -> Any:
            return Redis(port=server.port, db=database, decode_responses=True)

        self._reads, self._writes = connect(), connect()

    def put(self, key: str, value: str, tags: list[str]) -> None:
        given = ("TAGS", len(tags), *tags) if tags else ()
        verb = "TAG.SET" if tags else "SET"
        assert self._writes.execute_command(verb, key, value, *given) in ("OK", True)

    def get(self, key: str) -> str | None:
        found: str | None = self._reads.get(key)
        return found

    def delete(self, key: str) -> bool:
        return bool(self._writes.delete(key) == 1)

    def count_up(self, key: str, by: int) -> int:
        return int(self._writes.incrby(key, by))

    def invalidate(self, tags: list[str]) -> int:
        return int(self._writes.execute_command("TAG.INVALIDATE", "ANY", len(tags), *tags))

    def keys_by_tag(self, tag: str) -> set[str]:
        return set(self._reads.execute_command("TAG.KEYS", tag))

    def items(self) -> int | None:
        items = int(self._reads.dbsize())
        assert len(set(self._reads.scan_iter(count=5))) == items
        return items

    def flush(self) -> int | None:
        self._writes.flushdb()
        return None

    def close(self) -> None:
        self._reads.close()
        self._writes.close()


class Http(Protocol):
    def __init__(self, server: RunningServer, database: int) -> None:
        self._database = database
        self._connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)

    def _ask(self, method: str, path: str, body: Any = None, query: str = "") -> Any:
        login = b64encode(b"admin:password").decode()
        self._connection.request(
            method,
            f"{path}?db={self._database}{query}",
            None if body is None else json.dumps(body),
            {"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return answer

    def put(self, key: str, value: str, tags: list[str]) -> None:
        self._ask("POST", "/put", {"key": key, "value": value, "tags": tags})

    def get(self, key: str) -> str | None:
        found: str | None = self._ask("GET", f"/get/{key}").get("value")
        return found

    def delete(self, key: str) -> bool:
        return bool(self._ask("DELETE", f"/keys/{key}")["ok"])

    def count_up(self, key: str, by: int) -> int:
        return int(self._ask("POST", "/incr", {"key": key, "by": by})["value"])

    def invalidate(self, tags: list[str]) -> int:
        return int(self._ask("POST", "/invalidate/tags", {"tags": tags})["count"])

    def keys_by_tag(self, tag: str) -> set[str]:
        return set(self._ask("GET", "/keys-by-tag", query=f"&tag={tag}")["keys"])

    def items(self) -> int | None:
        return int(self._ask("GET", "/stats")["items"])

    def flush(self) -> int | None:
        return int(self._ask("POST", "/flush")["count"])

    def close(self) -> None:
        self._connection.close()


PROTOCOLS: tuple[Callable[[RunningServer, int], Protocol], ...] = (Lines, Resp, Http)


class Model:
    """A plain dictionary: by key, a value and its tags."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[str, list[str]]] = {}

    def step(self, random: Random, protocol: Protocol) -> None:
        """Do something at random to the database and here, and compare."""
        entries = self.entries
        key, tags = random.choice(KEYS), random.sample(TAGS, random.randint(0, 2))
        match random.choices(range(8), [30, 30, 5, 10, 5, 5, 5, 1])[0]:
            case 0:
                value = str(random.randrange(100))
                protocol.put(key, value, tags)
                entries[key] = value, tags
            case 1:
                assert protocol.get(key) == entries.get(key, (None,))[0]
            case 2:
                assert protocol.delete(key) == (entries.pop(key, None) is not None)
            case 3:
                old, kept = entries.get(key, ("0", []))
                entries[key] = str(int(old) + 3), kept
                assert protocol.count_up(key, 3) == int(entries[key][0])
            case 4:
                tags = tags or TAGS[:1]
                gone = [each for each, (_, held) in entries.items() if {*held} & {*tags}]
                assert protocol.invalidate(tags) == len(gone)
                for each in gone:
                    del entries[each]
            case 5:
                carriers = {each for each, (_, held) in entries.items() if TAGS[0] in held}
                assert protocol.keys_by_tag(TAGS[0]) == carriers
            case 6:
                assert protocol.items() in (None, len(entries))
            case 7:
                assert protocol.flush() in (None, len(entries))
                entries.clear()


def test_clients_of_databases_do_not_meet(server: RunningServer) -> None:
    faults: list[BaseException] = []

    def work(database: int) -> None:
        random, model = Random(database), Model()
        with ExitStack() as stack:
            protocols = [make(server, database) for make in PROTOCOLS]
            for protocol in protocols:
                stack.callback(protocol.close)
            try:
                for _ in range(COMMANDS):
                    model.step(random, random.choice(protocols))
            except BaseException as fault:
                faults.append(fault)
                raise

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1, 2, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults
    with server.connect() as client:
        told = client.json(b"INFO")
        assert [each["db"] for each in told["databases"]] == [0, 1, 2, 15]
        assert told["cache"]["items"] == sum(each["items"] for each in told["databases"])
        assert client.json(b"INFO\tcheck")["check"]["faults"] == []
    with Redis(port=server.port) as redis:
        redis.flushall()
        assert redis.info("keyspace") == {}


@pytest.fixture(autouse=True)
def _no_traceback(server: RunningServer) -> Iterator[None]:
    yield
    assert "Traceback" not in server.text()
