"""Redis clients over an in-memory transport: bytes in, bytes out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from zope.interface.verify import verifyObject

from tagcache.errors import BackendUnavailable
from tagcache.model.tag_rules import TagRule, TagRules
from tagcache.server.cache_port.framing import IFraming
from tagcache.server.commands.resp import strings, transactions
from tagcache.wire import resp
from tests.helpers import settings_with
from tests.unit.server.line.test_protocol import Server, lose

NIL = b"$-1\r\n"
OK = b"+OK\r\n"


class Client:
    """A connection to a server, on which each command is answered before the next is sent."""

    def __init__(self, server: Server | None = None) -> None:
        self.server = server or Server(settings_with())
        self.protocol, self.transport = self.server.connect()

    def send(self, data: bytes) -> bytes:
        self.transport.clear()
        self.protocol.dataReceived(data)
        self.server.clock.pump([0] * 3)
        return self.transport.value()

    def __call__(self, *arguments: str | bytes | int) -> bytes:
        encoded = [each if isinstance(each, bytes) else str(each).encode() for each in arguments]
        return self.send(resp.request(*encoded))


@pytest.fixture
def client() -> Client:
    return Client()


def bulk(text: str) -> bytes:
    return resp.bulk(text.encode())


def test_the_first_byte_chooses_the_protocol() -> None:
    server = Server(settings_with())
    assert server.ask(resp.request(b"PING")) == b"+PONG\r\n"
    assert server.ask(b"PING\n") == b"PONG\n"
    client = Client(server)
    for byte in resp.request(b"ECHO", b"x\r\ny"):
        said = client.send(bytes([byte]))
    assert said == b"$4\r\nx\r\ny\r\n"
    verifyObject(IFraming, client.protocol.framing)


@given(st.lists(st.integers(1, 60), max_size=20))
def test_replies_do_not_depend_on_how_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(
        resp.request(*request)
        for request in (
            *((b"SET", b"k%d" % n, b"v" * n) for n in range(4)),
            *((b"GET", b"k%d" % n) for n in range(6)),
            (b"get", b"k1"),
            (b"MULTI",),
            (b"GET", b"k2"),
            (b"EXEC",),
            (b"MGET", b"k3", b"none"),
            (b"NONSENSE",),
            (b"GET", b"k\r\n"),
        )
    )
    whole = Client().send(stream)
    client = Client()
    said = b""
    for cut in cuts:
        said += client.send(stream[:cut])
        stream = stream[cut:]
    assert said + client.send(stream) == whole
    assert whole.count(b"\r\n") > 20


def test_values_keys_and_tags_are_any_bytes(client: Client) -> None:
    every = bytes(range(256))
    assert client("SET", every, every) == OK
    assert client("GET", every) == resp.bulk(every)
    assert client("TAG.SET", b"k", b"", "TAGS", 2, every, b"a,b\t\n") == OK
    assert client("TAG.OF", b"k") == resp.values([every, b"a,b\t\n"], 2)
    assert client("TAG.INVALIDATE", 1, every) == b":1\r\n"


def test_set_with_its_options(client: Client) -> None:
    assert client("SET", "k", "1", "XX") == NIL
    assert client("SET", "k", "1", "NX", "EX", "10") == OK
    assert client("SET", "k", "2", "NX") == NIL
    assert client("SET", "k", "2", "KEEPTTL", "GET") == bulk("1")
    assert client("PTTL", "k") == b":10000\r\n"
    assert client("SET", "k", "3") == OK
    assert client("TTL", "k") == b":-1\r\n"
    assert client("SET", "k", "4", "PXAT", "5000") == OK
    assert client("PEXPIRETIME", "k") == b":5000\r\n"
    client.server.clock.advance(5)
    assert client("GET", "k") == NIL
    for wrong in (("NX", "XX"), ("EX",), ("EX", "1", "PX", "1"), ("KEEPTTL", "EX", "1"), ("Q",)):
        assert client("SET", "k", "v", *wrong) == b"-ERR syntax error\r\n"
    assert client("SET", "k", "v", "EX", "0") == b"-ERR invalid expire time in 'set' command\r\n"
    too_long = client("SET", "k", "v", "EX", 2**62)
    assert too_long == b"-ERR invalid expire time in 'set' command\r\n"


def test_a_store_drops_tags_and_a_change_keeps_them(client: Client) -> None:
    def tags() -> bytes:
        return client("TAG.OF", "k")

    client("TAG.SET", "k", "1", "EX", "10", "TAGS", "1", "t")
    carried = resp.values([b"t"], 2)
    for change in (("INCR", "k"), ("APPEND", "k", "0"), ("EXPIRE", "k", "5"), ("PERSIST", "k")):
        client(*change)
        assert tags() == carried
    assert client("GET", "k") == bulk("20")
    assert client("RENAME", "k", "other") == OK
    assert client("TAG.OF", "other") == carried
    client("COPY", "other", "k")
    assert client("TAG.COUNT", "t") == b":2\r\n"
    client("SET", "k", "1")
    assert tags() == b"*0\r\n"


def test_errors_keep_the_connection(client: Client) -> None:
    assert client("GET") == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert client("nonsense", "x") == b"-ERR unknown command 'nonsense'\r\n"
    client("SET", "k", "text")
    assert client("INCR", "k") == b"-ERR value is not an integer or out of range\r\n"
    assert client("LPUSH", "k", "x").startswith(b"-ERR LPUSH is not supported: ")
    long = client("SET", "k" * 2000, "v")
    assert long == b"-ERR key_too_long: the key has 2000 bytes, the limit is 1024\r\n"
    assert client("GET", "k") == bulk("text")


def test_a_lost_framing_ends_the_connection(client: Client) -> None:
    said = client.send(resp.request(b"PING") + b"*1\r\nPING\r\n" + resp.request(b"PING"))
    assert said == b"+PONG\r\n-ERR Protocol error: expected '$', got 'P'\r\n"
    assert client.transport.half_closed


def test_a_transaction_is_one_moment(client: Client) -> None:
    other = Client(client.server)
    assert client("MULTI") == OK
    assert client("INCR", "n") == b"+QUEUED\r\n"
    assert other("GET", "n") == NIL
    assert client("GET", "n") == b"+QUEUED\r\n"
    assert client("LPOP", "n").startswith(b"-ERR")
    assert client("EXEC").startswith(b"-EXECABORT")
    client("MULTI")
    client("INCR", "n")
    client("SET", "n", "x")
    client("INCR", "n")
    assert client("EXEC") == (
        b"*3\r\n:1\r\n+OK\r\n-ERR value is not an integer or out of range\r\n"
    )
    assert client("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert other("GET", "n") == bulk("x")


def test_what_is_watched_and_changes_prevents_the_transaction(client: Client) -> None:
    other = Client(client.server)
    for change in (("SET", "k", "1"), ("SET", "k", "1"), ("EXPIRE", "k", "9"), ("DEL", "k")):
        assert client("WATCH", "k") == OK
        client.server.clock.advance(0.001)
        other(*change)
        client("MULTI")
        client("SET", "k", "mine")
        assert client("EXEC") == b"*-1\r\n"
    client("WATCH", "k")
    client("MULTI")
    client("SET", "k", "mine")
    assert client("EXEC") == b"*1\r\n+OK\r\n"


def test_what_is_absent_and_watched_may_not_be_stored_meanwhile(client: Client) -> None:
    other = Client(client.server)
    client.server.clock.advance(1)
    for changes in (
        [("SET", "k", "v"), ("DEL", "k")],
        [("SET", "k", "v"), ("FLUSHDB",)],
        [("SET", "k", "v", "PXAT", "1")],
        [("MULTI",), ("SET", "k", "v"), ("GETDEL", "k"), ("EXEC",)],
    ):
        client("WATCH", "k")
        for change in changes:
            other(*change)
        assert client("GET", "k") == NIL
        client("MULTI")
        assert client("EXEC") == b"*-1\r\n"


def test_what_is_watched_may_be_the_object_of_commands_that_change_nothing(client: Client) -> None:
    client("SET", "k", "v")
    client("WATCH", "k", "none")
    for no_change in (
        ("RENAME", "k", "k"),
        ("GETEX", "k", "PERSIST"),
        ("PERSIST", "k"),
        ("SETNX", "k", "w"),
        ("COPY", "none", "k"),
        ("DEL", "none"),
        ("EXPIRE", "none", "9"),
        ("SETRANGE", "none", "5", ""),
    ):
        client(*no_change)
    client("MULTI")
    assert client("EXEC") == b"*0\r\n"


def test_version_3_of_the_protocol(client: Client) -> None:
    assert client("GET", "none") == NIL
    hello = client("HELLO", "3")
    assert hello.startswith(b"%8\r\n$6\r\nserver\r\n$5\r\nredis\r\n")
    assert client("GET", "none") == b"_\r\n"
    assert client("MGET", "none") == b"*1\r\n_\r\n"
    assert client("CONFIG", "GET", "save") == b"%1\r\n$4\r\nsave\r\n$0\r\n\r\n"
    assert client("HELLO", "4").startswith(b"-NOPROTO ")
    assert client("RESET") == b"+RESET\r\n"
    assert client("GET", "none") == NIL


def test_before_it_has_logged_in_a_client_can_do_nothing() -> None:
    settings = settings_with(
        security={"require_tcp_auth": True}, authentication={"username": "me", "password": "pw"}
    )
    client = Client(Server(settings))
    refused = b"-NOAUTH Authentication required.\r\n"
    for request in (("GET", "k"), ("PING",), ("CLIENT", "LIST"), ("LPUSH", "k", "v")):
        assert client(*request) == refused
    assert client("HELLO", "3").startswith(b"-NOAUTH HELLO ")
    assert client("AUTH", "you", "pw").startswith(b"-WRONGPASS ")
    assert client("AUTH", "pw") == OK
    assert client("SET", "k", "v") == OK
    assert client("RESET") == b"+RESET\r\n"
    assert client("GET", "k") == refused
    assert client("HELLO", "3", "AUTH", "me", "pw", "SETNAME", "x").startswith(b"%8\r\n")
    assert client("CLIENT", "GETNAME") == bulk("x")


def test_secrets_are_not_in_the_slow_log() -> None:
    client = Client(Server(settings_with(logging={"slow_command_ms": 1})))
    framing = client.protocol.framing
    client("PING")
    framing = client.protocol.framing
    assert framing.summary([b"auth", b"user", b"secret"]) == (b"AUTH", None)
    assert framing.summary([b"HELLO", b"3", b"AUTH", b"a", b"b"]) == (b"HELLO", None)
    assert framing.summary([b"get", b"k"]) == (b"GET", b"k")
    assert framing.summary([b"secret"]) == (b"unknown", None)


def test_requests_are_counted_as_in_lines(client: Client) -> None:
    client("SET", "k", "v")
    client.send(resp.request(b"GET", b"k") * 3)
    client("get", "k")
    client("nonsense")
    counts = client.server.traffic.commands()
    assert (counts["set"], counts["get"], counts["unknown"]) == (1, 4, 1)
    assert client.server.cache.counters().hits == 4
    assert client.protocol.connection.commands == 6


def test_what_waits_is_accounted_for(client: Client) -> None:
    client("PING")
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n" + b"x" * 5000)
    assert client.protocol.connection.held_bytes > 5000
    client.send(b"x" * 95_000 + b"\r\n")
    assert client("STRLEN", "k") == b":100000\r\n"
    assert client.protocol.connection.held_bytes == 0


def test_clients_are_listed_and_killed(client: Client) -> None:
    other = Client(client.server)
    other("CLIENT", "SETNAME", "worker")
    other("CLIENT", "SETINFO", "LIB-NAME", "lib")
    number = other("CLIENT", "ID")[1:-2]
    listed = client("CLIENT", "LIST")
    assert b"id=%b " % number in listed
    assert b" name=worker " in listed
    assert b" lib-name=lib " in listed
    assert client("CLIENT", "LIST", "TYPE", "normal") == client("CLIENT", "LIST")
    assert client("CLIENT", "LIST", "TYPE", "PubSub") == resp.EMPTY_BULK
    one = client("CLIENT", "LIST", "ID", number, 99)
    assert b"id=%b " % number in one
    assert one.count(b"id=") == 1
    for wrong in (("FOO",), ("TYPE",), ("TYPE", "foo"), ("ID",), ("ID", "x")):
        assert client("CLIENT", "LIST", *wrong).startswith(b"-ERR ")
    assert client("CLIENT", "NO-EVICT", "on") == OK
    assert client("CLIENT", "NO-EVICT", "x") == b"-ERR syntax error\r\n"
    assert client("CLIENT", "SETNAME", "a b").startswith(b"-ERR ")
    assert client("CLIENT", "KILL", "ID", number) == b":1\r\n"
    # It waits for a reply or is idle: it is told that the stream ends, and not by a reset.
    assert other.transport.half_closed
    assert not other.transport.aborted
    assert other("GET", "k") == b""
    assert client("CLIENT", "KILL", "1.2.3.4:5") == b"-ERR No such client\r\n"
    assert client("CLIENT", "TRACKING", "ON").startswith(b"-ERR CLIENT TRACKING is not supported")


def test_each_database_has_its_own_entries(client: Client) -> None:
    client("SET", "k", "zero")
    assert client("SELECT", 3) == OK
    assert client("GET", "k") == NIL
    client("MSET", "k", "three", "other", "three")
    assert client("DBSIZE") == b":2\r\n"
    for wrong, error in (
        ("16", b"DB index is out of range"),
        ("-1", b"DB index is out of range"),
        ("x", b"invalid DB index"),
    ):
        assert client("SELECT", wrong) == b"-ERR %b\r\n" % error
        assert client("GET", "k") == bulk("three")
    assert b" db=3 " in client("CLIENT", "INFO")
    assert client("FLUSHDB") == OK
    assert client("SELECT", 0) == OK
    assert client("GET", "k") == bulk("zero")
    client("SELECT", 5)
    client("SET", "k", "five")
    assert client("RESET") == b"+RESET\r\n"
    assert client("GET", "k") == bulk("zero")
    assert client("FLUSHALL") == OK
    assert len(client.server.databases[5].store) == client.server.databases[5].backlog
    assert client("GET", "k") == NIL
    assert client("CONFIG", "GET", "databases") == b"*2\r\n" + bulk("databases") + bulk("16")


def test_a_transaction_is_in_one_database(client: Client) -> None:
    client("SELECT", 2)
    client("WATCH", "k")
    assert client("SELECT", 0).startswith(b"-ERR SELECT after WATCH is not supported")
    client("UNWATCH")
    client("MULTI")
    client("SET", "k", "v")
    assert client("EXEC") == b"*1\r\n" + OK
    client("MULTI")
    for verb in (("SELECT", 0), ("FLUSHALL",)):
        assert client(*verb) == b"-ERR Command not allowed inside a transaction\r\n"
    assert client("EXEC").startswith(b"-EXECABORT")
    assert client("GET", "k") == bulk("v")


def test_a_killed_connection_that_does_not_read_is_reset(client: Client) -> None:
    other = Client(client.server)
    number = int(other("CLIENT", "ID")[1:])
    other.transport.producer.pauseProducing()
    assert client("CLIENT", "KILL", "ID", number) == b":1\r\n"
    assert other.transport.aborted


def test_what_the_server_tells_of_itself(client: Client) -> None:
    info = client("INFO")
    for line in (
        b"redis_version:7.4.0",
        b"role:master",
        b"arch_bits:64",
        b"cluster_enabled:0",
        b"db0:keys=3,expires=0,avg_ttl=0",
        b"db7:keys=9,expires=0,avg_ttl=0",
        b"used_memory_human:2.00K",
        b"loading:0",
        b"uptime_in_days:1",
    ):
        assert b"\r\n%b\r\n" % line in info
    assert b"db1" not in info
    assert b"redis_version" not in client("INFO", "memory")
    assert client("ROLE") == b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
    assert client("CONFIG", "GET", "max*y") == b"*4\r\n" + b"".join(
        map(bulk, ("maxmemory", "0", "maxmemory-policy", "allkeys-lru"))
    )
    assert client("CONFIG", "SET", "maxmemory", "1").startswith(b"-ERR only CONFIG GET")
    described = (
        b"*10\r\n$3\r\nget\r\n:2\r\n*1\r\n$8\r\nreadonly\r\n" + b":1\r\n" * 3 + b"*0\r\n" * 4
    )
    assert client("COMMAND", "INFO", "get", "none") == b"*2\r\n" + described + NIL
    assert client("TIME") == b"*2\r\n$1\r\n0\r\n$1\r\n0\r\n"


def test_a_lost_connection_leaves_nothing_behind() -> None:
    client = Client()
    client("MULTI")
    lose(client.protocol)
    assert client.server.connections.clients == 0


def test_a_large_answer_is_made_in_slices() -> None:
    ticks = iter(range(10**9))
    client = Client(Server(settings_with(), slice_clock=lambda: next(ticks) / 4000))
    client.send(b"".join(resp.request(b"SET", b"k%d" % n, b"v") for n in range(3000)))
    client.transport.clear()
    client.protocol.dataReceived(resp.request(b"KEYS", b"k*"))
    assert client.transport.value() == b""
    client.server.clock.advance(0)
    assert client.transport.value().startswith(b"*3000\r\n")


@pytest.mark.parametrize("verb", ["EVAL", "EVALSHA"])
def test_scripts_of_strangers_are_refused(client: Client, verb: str) -> None:
    start: dict[str, Any] = {"EVAL": b"-ERR this server runs no scripts", "EVALSHA": b"-NOSCRIPT "}
    assert client(verb, "return 1", 1, "k").startswith(start[verb])


def test_tag_rules_apply_to_what_is_stored_without_tags() -> None:
    server = Server(settings_with())
    rules = TagRules((TagRule("posts", "post:{id}", ("post:{id}", "posts")),))
    server.engine.limits = replace(server.engine.limits, tag_rules=rules)
    client = Client(server)
    given = resp.values([b"post:7", b"posts"], 2)
    for store in (
        ("SET", "post:7", "1"),
        ("SET", "post:7", "1", "KEEPTTL"),
        ("MSET", "post:7", "1", "other", "2"),
        ("INCR", "post:7"),
        ("APPEND", "post:7", "x"),
        ("TAG.SET", "post:7", "x", "TAGS", "0"),
    ):
        client("DEL", "post:7")
        client(*store)
        assert client("TAG.OF", "post:7") == given
    assert client("TAG.OF", "other") == b"*0\r\n"
    client("TAG.SET", "post:7", "x", "TAGS", "1", "own")
    assert client("TAG.OF", "post:7") == resp.values([b"own"], 2)
    client("APPEND", "post:7", "x")
    assert client("TAG.OF", "post:7") == resp.values([b"own"], 2)
    assert client("TAG.INVALIDATE", "1", "posts") == b":0\r\n"


def test_the_memory_of_a_transaction_is_the_clients(client: Client) -> None:
    client("MULTI")
    for _ in range(3):
        client("SET", "k", "v" * 10_000)
    assert 30_000 < client.protocol.connection.held_bytes < 32_000
    client("EXEC")
    assert client.protocol.connection.held_bytes == 0


def test_answers_are_not_longer_than_can_be_written_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (strings, transactions):
        monkeypatch.setattr(module, "MOST_ANSWER_BYTES", 5000)
    client("SET", "k", "v" * 2000)
    assert client("MGET", "k", "k").startswith(b"*2\r\n")
    refused = client("MGET", "k", "k", "k")
    assert refused.startswith(b"-ERR answer_too_large: the values have more than 5000 bytes")
    client("MULTI")
    for request in (("GET", "k"), ("GET", "k"), ("GET", "k"), ("INCR", "n")):
        client(*request)
    said = client("EXEC")
    assert said.count(b"$2000\r\n") == 2
    assert b"-ERR answer_too_large: the answers of a transaction have more than" in said
    assert said.endswith(b":1\r\n")


def test_a_client_cannot_queue_or_watch_without_end(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MOST_WATCHED", 2)
    monkeypatch.setattr(transactions, "MOST_QUEUED", 2)
    assert client("WATCH", "a", "b") == OK
    assert client("WATCH", "a") == OK
    assert client("WATCH", "c") == b"-ERR a client watches 2 keys at most\r\n"
    client("MULTI")
    client("GET", "a")
    client("GET", "a")
    assert client("GET", "a") == b"-ERR a transaction has 2 commands at most\r\n"
    assert client("EXEC").startswith(b"-EXECABORT")


def test_one_failure_of_several_is_the_reply(client: Client) -> None:
    client("PING")

    def update(*_: object) -> Deferred[bool]:
        return fail(BackendUnavailable("it is away"))

    client.protocol.session = SimpleNamespace(update=update)
    said = client("EXISTS", "a", "b")
    assert said == b"-ERR backend_unavailable: it is away\r\n"
