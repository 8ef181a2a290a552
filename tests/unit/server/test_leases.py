"""Leases on every port: what is answered, and who waits for whom."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from tagcache.model.fetched import Fetched, Found
from tagcache.server import waits
from tagcache.server.waits import Waits
from tests.helpers import settings_with
from tests.unit.server.http.test_protocol import Door
from tests.unit.server.line.test_protocol import Server, lose
from tests.unit.server.resp.test_door import NIL, OK, Client, client

__all__ = ["client"]


@pytest.fixture
def server() -> Server:
    return Server(settings_with())


class Peer:
    """A client of the line protocol."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.protocol, self.transport = server.connect()

    def __call__(self, *fields: object) -> bytes:
        """Send a request, and return what has arrived since the last one."""
        self.protocol.dataReceived("\t".join(map(str, fields)).encode() + b"\n")
        return self.got()

    def got(self) -> bytes:
        self.server.clock.pump([0] * 3)
        arrived = bytes(self.transport.value())
        self.transport.clear()
        return arrived

    def lease(self, key: str = "k") -> int:
        word, _, token = self("FETCH", key, 10_000).partition(b"\t")
        assert word == b"LEASE"
        return int(token)


def test_a_value_is_computed_once_and_stored_under_its_lease(server: Server) -> None:
    one, other = Peer(server), Peer(server)
    token = one.lease()
    assert other("FETCH", "k", 5000) == b"WAIT\t10001\n"
    assert one("FILL", token, "k", 60_000, "a,b", "x\ty") == b"OK\n"
    assert other("fetch", "k", 5000) == b"HIT\tx\ty\n"
    assert other("KEYS", "b") == b"KEYS\tk\n"
    assert one("FILL", token, "k", "-", "", "again") == b"REFUSED\n"


def test_an_outdated_value_is_refused_on_another_connection_too(server: Server) -> None:
    token = Peer(server).lease()
    Peer(server)("INV_TAG", "a")
    assert Peer(server)("FILL", token, "k", "-", "a", "old") == b"REFUSED\n"
    assert Peer(server)("GET", "k") == b"NF\n"


def test_a_lease_is_given_back(server: Server) -> None:
    peer = Peer(server)
    token = peer.lease()
    assert peer("RELEASE", token + 1, "k") == b"NF\n"
    assert peer("RELEASE", token, "k") == b"OK\n"
    assert peer("RELEASE", token, "k") == b"NF\n"
    assert peer.lease() != token


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"FETCH\n", b"ERR missing_key\n"),
        (b"FETCH\tk\n", b"ERR missing_lease\n"),
        (b"FETCH\tk\t0\n", b"ERR invalid_lease\n"),
        (b"FETCH\tk\t3600001\n", b"ERR invalid_lease\n"),
        (b"FETCH\tk\t1e3\n", b"ERR invalid_lease\n"),
        (b"FETCH\tk\t1000\t-1\n", b"ERR invalid_wait\n"),
        (b"FETCH\tk\t1000\t600001\n", b"ERR invalid_wait\n"),
        (b"FETCH\t" + b"k" * 1025 + b"\t1000\n", b"ERR key_too_long\n"),
        (b"FILL\n", b"ERR missing_token\n"),
        (b"FILL\t-\tk\t-\t-\tv\n", b"ERR invalid_token\n"),
        (b"FILL\t1\n", b"ERR missing_key\n"),
        (b"FILL\t1\tk\tx\t-\tv\n", b"ERR invalid_ttl\n"),
        (b"FILL\t1\tk\t-\t-\tv\n", b"REFUSED\n"),
        (b"RELEASE\n", b"ERR missing_token\n"),
        (b"RELEASE\tx\tk\n", b"ERR invalid_token\n"),
        (b"RELEASE\t1\n", b"ERR missing_key\n"),
        (b"SOFT_TAG\n", b"ERR missing_tag\n"),
        (b"SOFT_TAG\tt\n", b"SOFT_TAG\t0\n"),
        (b"SOFT_TAGS_ANY\n", b"ERR missing_tags\n"),
        (b"SOFT_TAGS_ALL\t,\n", b"ERR empty_tags\n"),
        (b"SOFT_KEYS\t\n", b"ERR missing_keys\n"),
        (b"PUT\tk\t1000+\t-\tv\n", b"ERR invalid_ttl\n"),
        (b"PUT\tk\t1000+x\t-\tv\n", b"ERR invalid_ttl\n"),
        (b"PUT\tk\t1000+1+1\t-\tv\n", b"ERR invalid_ttl\n"),
        (b"PUT\tk\t-+5000\tt\tv\nSOFT_TAG\tt\nGET\tk\n", b"OK\nSOFT_TAG\t1\nNF\n"),
        (b"ADD\tk\t1000+1\t-\tv\n", b"ERR invalid_ttl\n"),
    ],
)
def test_what_is_wrong_is_named(server: Server, request_: bytes, reply: bytes) -> None:
    assert server.ask(request_) == reply


def test_a_stale_value_is_served_while_one_client_computes(server: Server) -> None:
    peer = Peer(server)
    peer("PUT", "k", "1000+60000", "t", "old")
    server.clock.advance(1)
    assert peer("GET", "k") == b"NF\n"
    word, token, value = peer("FETCH", "k", 5000).split(b"\t")
    assert (word, value) == (b"STALE", b"old\n")
    assert peer("FETCH", "k", 5000, 5000) == b"STALE\t-\told\n"
    assert peer("FILL", token.decode(), "k", "1000+60000", "t", "new") == b"OK\n"
    assert peer("FETCH", "k", 5000) == b"HIT\tnew\n"
    for verb, names in (("SOFT_TAG", "t"), ("SOFT_TAGS_ANY", "u,t"), ("SOFT_KEYS", "k")):
        assert peer(verb, names) == f"{verb}\t1\n".encode()
        assert peer("FETCH", "k", 5000).split(b"\t")[0] == b"STALE"
        peer("PUT", "k", "1000+60000", "t,u", "new")
    assert peer("SOFT_TAGS_ALL", "t,u") == b"SOFT_TAGS_ALL\t1\n"
    assert peer("INV_TAG", "u") == b"INV_TAG\t0\n"
    assert peer("FETCH", "k", 5000).split(b"\t")[0] == b"WAIT"


def test_a_value_that_no_line_can_hold(server: Server) -> None:
    cache, peer = server.engine.store, Peer(server)
    cache.put(b"k", b"a\nb", (), 1000)
    assert peer("FETCH", "k", 5000) == b"ERR value_not_representable\n"
    peer("PUT", "k", "1000+60000", "", "v")
    cache.freshness.stale.keep(b"s", b"a\nb", (), 1e9, 0.0)
    assert peer("FETCH", "s", 5000).split(b"\t")[0] == b"LEASE"
    assert peer("FETCH", "s", 5000) == b"WAIT\t5001\n"


# Waiting


def test_who_waits_gets_the_value_when_it_is_there(server: Server) -> None:
    first, one, other = Peer(server), Peer(server), Peer(server)
    token = first.lease()
    assert one("FETCH", "k", 5000, 3000) == b""
    assert other("FETCH", "k", 5000, 3000) == b""
    assert len(server.waits) == 2
    first("FILL", token, "k", "-", "", "v")
    assert one.got() == other.got() == b"HIT\tv\n"
    assert len(server.waits) == 0
    assert server.clock.getDelayedCalls() == []


def test_one_of_those_who_wait_gets_the_lease_that_was_given_back(server: Server) -> None:
    first, one, other = Peer(server), Peer(server), Peer(server)
    token = first.lease()
    one("FETCH", "k", 5000, 3000)
    other("FETCH", "k", 5000, 30_000)
    first("RELEASE", token, "k")
    assert one.got().startswith(b"LEASE\t")
    assert other.got() == b""
    # That lease ends, and the one after it.
    server.clock.advance(5)
    assert other.got() == b""
    server.clock.advance(5)
    assert other.got().startswith(b"LEASE\t")


def test_one_of_those_who_wait_gets_the_lease_when_a_value_was_refused(server: Server) -> None:
    first, one = Peer(server), Peer(server)
    token = first.lease()
    one("FETCH", "k", 5000, 3000)
    first("DEL", "k")
    assert one.got() == b""
    assert first("FILL", token, "k", "-", "", "old") == b"REFUSED\n"
    assert one.got().startswith(b"LEASE\t")


def test_who_waits_is_told_when_the_wait_is_over(server: Server) -> None:
    first, one = Peer(server), Peer(server)
    first.lease()
    one("FETCH", "k", 5000, 3000)
    server.clock.advance(2.9)
    assert one.got() == b""
    server.clock.advance(0.1)
    assert one.got() == b"WAIT\t7001\n"


def test_replies_keep_their_order_and_a_fill_need_not_wait(server: Server) -> None:
    """A client may have the lease for which another of its requests waits."""
    peer = Peer(server)
    token = peer.lease()
    assert peer("FETCH", "k", 5000, 3000) == b""
    assert peer("GET", "other") == b""
    assert peer("FILL", token, "k", "-", "", "v") == b"HIT\tv\nNF\nOK\n"


def test_waiting_ends_with_the_connection(server: Server) -> None:
    first, one, other = Peer(server), Peer(server), Peer(server)
    token = first.lease()
    one("FETCH", "k", 5000, 3000)
    one("FETCH", "k", 5000, 3000)
    other("FETCH", "k", 5000, 3000)
    lose(one.protocol)
    assert len(server.waits) == 1
    first("RELEASE", token, "k")
    assert other.got().startswith(b"LEASE\t")
    assert len(server.waits) == 0
    assert server.traffic.errors["internal_error"] == 0


def test_a_stop_answers_those_who_wait(server: Server) -> None:
    first, one = Peer(server), Peer(server)
    first.lease()
    one("FETCH", "k", 5000, 3000)
    server.waits.stop()
    assert one.got() == b"WAIT\t10001\n"
    assert one("FETCH", "k", 5000, 3000) == b"WAIT\t10001\n"


def test_those_who_wait_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "MOST_WAITING", 1)
    first, one, other = Peer(server), Peer(server), Peer(server)
    first.lease()
    assert one("FETCH", "k", 5000, 3000) == b""
    assert other("FETCH", "k", 5000, 3000) == b"WAIT\t10001\n"


def test_very_many_are_answered_in_several_turns(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "_AT_ONCE", 2)
    first, peers = Peer(server), [Peer(server) for _ in range(5)]
    token = first.lease()
    for peer in peers:
        peer("FETCH", "k", 5000, 3000)
    left, wake = [], server.waits._wake
    monkeypatch.setattr(server.waits, "_wake", lambda: (left.append(len(server.waits)), wake()))
    assert first("FILL", token, "k", "-", "", "v") == b"OK\n"
    assert left == [5, 3, 1]
    assert [peer.got() for peer in peers] == [b"HIT\tv\n"] * 5


def test_a_flush_ends_all_leases(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_AT_ONCE", 2)
    first = Peer(server)
    peers = {key: Peer(server) for key in "abc"}
    old = {key: first.lease(key) for key in peers}
    for key, peer in peers.items():
        assert peer("FETCH", key, 5000, 3000) == b""
    assert first("FLUSH") == b"FLUSH\t0\n"
    words = {key: peer.got().partition(b"\t") for key, peer in peers.items()}
    for key, (word, _, token) in words.items():
        assert word == b"LEASE"
        assert first("FILL", old[key], key, "-", "", "old") == b"REFUSED\n"
        assert first("RELEASE", old[key], key) == b"NF\n"
        assert first("FILL", int(token), key, "-", "", "new") == b"OK\n"


class LaterSession:
    """A session whose look-ups take time, as with other engines."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Fetched]] = []

    def fetch(self, key: bytes, lease_ms: int) -> Deferred[Fetched]:
        self.asked.append(Deferred())
        return self.asked[-1]


def test_look_ups_may_take_time() -> None:
    clock, session, engine = Clock(), LaterSession(), type("Engine", (), {})()
    waiting: Any = Waits(clock)
    results: list[Any] = []
    for _ in range(2):
        waiting.fetch(engine, session, "me", b"k", 1000, 5000).addBoth(results.append)
    for each in session.asked[:2]:
        each.callback(Fetched(Found.WAIT, left_ms=1000))
    engine.on_lease_end(b"k")
    engine.on_lease_end(b"k")
    clock.advance(0)
    assert len(session.asked) == 4
    session.asked[2].callback(Fetched(Found.HIT, b"v"))
    session.asked[3].errback(RuntimeError())
    assert results[0] == Fetched(Found.HIT, b"v")
    assert results[1].check(RuntimeError)
    assert len(waiting) == 0
    assert clock.getDelayedCalls() == []


def test_a_failure_while_waiting_reaches_the_client() -> None:
    clock, engine = Clock(), type("Engine", (), {})()
    answers = [succeed(Fetched(Found.WAIT, left_ms=1000)), fail(ValueError())]

    class Session:
        def fetch(self, key: bytes, lease_ms: int) -> Any:
            return answers.pop(0)

    waiting: Any = Waits(clock)
    results: list[Any] = []
    waiting.fetch(engine, Session(), "me", b"k", 1000, 5000).addBoth(results.append)
    clock.advance(1)
    assert results[0].check(ValueError)


# RESP


def token_in(reply: bytes) -> str:
    return reply.split(b"\r\n")[-2].decode()


def test_leases_over_resp(client: Client) -> None:
    reply = client("TAG.FETCH", "k", "LEASE", 5000)
    assert reply.startswith(b"*3\r\n$5\r\nLEASE\r\n$-1\r\n$")
    token = token_in(reply)
    assert client("TAG.FETCH", "k", "LEASE", 5000, "WAIT", 0) == (
        b"*4\r\n$4\r\nWAIT\r\n$-1\r\n$-1\r\n:5001\r\n"
    )
    assert client("TAG.SET", "k", "v\n", "LEASE", token, "PX", 1000, "TAGS", 1, "t") == OK
    assert client("PTTL", "k") == b":1000\r\n"
    assert client("TAG.FETCH", "k", "LEASE", 5000) == b"*3\r\n$3\r\nHIT\r\n$2\r\nv\n\r\n$-1\r\n"
    assert client("TAG.SET", "k", "v", "LEASE", token, "TAGS", 0) == NIL
    client("DEL", "k")
    token = token_in(client("tag.fetch", "k", "lease", 5000, "wait", 5))
    client("TAG.INVALIDATE", 1, "t")
    assert client("TAG.SET", "k", "old", "LEASE", token, "TAGS", 1, "t") == NIL
    token = token_in(client("TAG.FETCH", "k", "LEASE", 5000))
    assert client("TAG.RELEASE", "k", token) == b":1\r\n"
    assert client("TAG.RELEASE", "k", token) == b":0\r\n"


def test_grace_and_soft_invalidations_over_resp(client: Client) -> None:
    assert client("TAG.SET", "k", "v", "PX", 1000, "GRACE", 5000, "TAGS", 2, "t", "u") == OK
    assert client("TAG.INVALIDATE", "SOFT", 1, "t") == b":1\r\n"
    reply = client("TAG.FETCH", "k", "LEASE", 5000)
    assert reply.startswith(b"*3\r\n$5\r\nSTALE\r\n$1\r\nv\r\n$")
    assert client("TAG.FETCH", "k", "LEASE", 5000) == (b"*3\r\n$5\r\nSTALE\r\n$1\r\nv\r\n$-1\r\n")
    assert client("EXISTS", "k") == b":0\r\n"
    assert client("TAG.INVALIDATE", "ALL", "SOFT", 2, "t", "u") == b":0\r\n"
    assert client("TAG.INVALIDATE", "ANY", "soft", 2, "t", "u") == b":0\r\n"
    assert client("TAG.INVALIDATE", "ALL", 2, "t", "u") == b":0\r\n"
    assert client("TAG.FETCH", "k", "LEASE", 5000).startswith(b"*4\r\n$4\r\nWAIT")


def test_keys_are_invalidated_over_resp(client: Client) -> None:
    for key in ("k", "l"):
        client("TAG.SET", key, "v", "PX", 1000, "GRACE", 5000, "TAGS", 0)
    client("SET", "m", "v")
    assert client("TAG.INVALIDATE", "KEYS", "SOFT", 3, "k", "m", "x") == b":2\r\n"
    assert client("TAG.FETCH", "k", "LEASE", 5000).startswith(b"*3\r\n$5\r\nSTALE")
    assert client("TAG.FETCH", "m", "LEASE", 5000).startswith(b"*3\r\n$5\r\nLEASE")
    assert client("TAG.INVALIDATE", "keys", 2, "k", "l") == b":1\r\n"
    assert client("TAG.FETCH", "l", "LEASE", 5000).startswith(b"*3\r\n$5\r\nLEASE")
    assert client("TAG.INVALIDATE", "KEYS", 2, "k").startswith(b"-ERR the number before the tags")


def test_a_value_comes_with_its_tags_over_resp(client: Client) -> None:
    ask = ("TAG.FETCH", "k", "LEASE", 5000, "TAGS")
    assert client(*ask).endswith(b"\r\n*0\r\n")
    assert client(*ask).endswith(b":5001\r\n*0\r\n")
    client("TAG.SET", "k", "v", "GRACE", 5000, "TAGS", 2, "t", "u")
    tags = b"*2\r\n$1\r\nt\r\n$1\r\nu\r\n"
    assert client(*ask) == b"*4\r\n$3\r\nHIT\r\n$1\r\nv\r\n$-1\r\n" + tags
    client("TAG.INVALIDATE", "SOFT", 1, "t")
    assert client(*ask) == b"*4\r\n$5\r\nSTALE\r\n$1\r\nv\r\n$-1\r\n" + tags


def test_what_is_wrong_is_named_over_resp(client: Client) -> None:
    syntax = b"-ERR syntax error\r\n"
    assert (
        client("TAG.FETCH", "k", "WAIT", 5) == client("TAG.FETCH", "k", "LEASE", 5, "X") == syntax
    )
    assert client("TAG.FETCH", "k", "LEASE", 0).startswith(b"-ERR the lease is not between 1 and")
    assert client("TAG.FETCH", "k", "LEASE", 5, "WAIT", -1).startswith(b"-ERR the wait is not")
    assert client("TAG.RELEASE", "k", "x") == b"-ERR the token of a lease is a number\r\n"
    assert client("TAG.SET", "k", "v", "LEASE", "x", "TAGS", 0).startswith(b"-ERR the token")
    assert client("TAG.SET", "k", "v", "GRACE", -1, "TAGS", 0).startswith(b"-ERR value is out of")
    for more in (("NX",), ("XX",), ("PXAT", 10**15)):
        for one in (("GRACE", 5), ("LEASE", 5)):
            reply = client("TAG.SET", "k", "v", *one, *more, "TAGS", 0)  # type: ignore[arg-type]
            assert reply.startswith(b"-ERR GRACE and LEASE cannot be combined")
    assert client("TAG.INVALIDATE", "SOFT", 1).startswith(b"-ERR the number before the tags")


def test_leases_in_a_transaction(client: Client) -> None:
    token = token_in(client("TAG.FETCH", "k", "LEASE", 5000))
    client("MULTI")
    assert client("TAG.FETCH", "k", "LEASE", 5000).startswith(b"-ERR Command not allowed")
    client("DISCARD")
    client("MULTI")
    client("TAG.SET", "k", "v", "LEASE", token, "TAGS", 0)
    client("TAG.RELEASE", "k", token)
    assert client("EXEC") == b"*2\r\n+OK\r\n:0\r\n"


# HTTP


def test_leases_over_http() -> None:
    door = Door()
    status, found = door.call("GET", "/get/k?lease_ms=5000")
    assert status == 200
    assert found == {"state": "lease", "value": None, "lease": found["lease"]}
    assert found["lease"].isdigit()
    assert door.call("GET", "/get/k?lease_ms=5000&wait_ms=0") == (
        200,
        {"state": "wait", "value": None, "lease": None, "wait_ms": 5001},
    )
    entry = {"key": "k", "value": "v", "tags": ["t"], "ttl_ms": 1000, "grace_ms": 60_000}
    filled = door.call("POST", "/put", {**entry, "lease": found["lease"]})
    assert filled == (200, {"ok": True, "ttl_ms": 1000})
    hit = door.call("GET", "/get/k?lease_ms=5000")
    assert hit == (200, {"state": "hit", "value": "v", "lease": None})
    status, refused = door.call("POST", "/put", {**entry, "lease": found["lease"]})
    assert (status, refused["error"]) == (409, "lease_refused")
    door.clock.advance(1)
    assert door.call("GET", "/get/k")[1] == {"error": "not_found"}
    stale = door.call("GET", "/get/k?lease_ms=5000")[1]
    assert stale == {"state": "stale", "value": "v", "lease": stale["lease"]}
    release = {"key": "k", "lease": stale["lease"]}
    assert door.call("POST", "/release", release) == (200, {"ok": True, "released": True})
    assert door.call("POST", "/release", release)[1]["released"] is False


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/invalidate-tag", {"tag": "t"}),
        ("/invalidate/tags", {"tags": ["t", "u"]}),
        ("/invalidate/tags", {"tags": ["t"], "mode": "all"}),
        ("/invalidate/keys", {"keys": ["k"]}),
        ("/invalidate-key", {"key": "k"}),
    ],
)
def test_soft_invalidations_over_http(path: str, body: dict[str, Any]) -> None:
    door = Door()
    door.call("POST", "/put", {"key": "k", "value": "v", "tags": ["t"], "grace_ms": 60_000})
    assert door.call("POST", path, {**body, "soft": True})[1]["success"] is True
    assert door.call("GET", "/get/k?lease_ms=5000")[1]["state"] == "stale"
    door.call("POST", path, {**body, "soft": False})
    assert door.call("GET", "/get/k?lease_ms=5000")[1]["state"] == "wait"


def test_a_request_over_http_waits(server: Server) -> None:
    door = Door()
    lease = door.call("GET", "/get/k?lease_ms=5000")[1]["lease"]
    protocol, transport = door.connect()
    protocol.dataReceived(b"GET /get/k?lease_ms=5000&wait_ms=3000 HTTP/1.1\r\nHost: x\r\n" + AUTH)
    lost, _ = door.connect()
    lost.dataReceived(b"GET /get/k?lease_ms=5000&wait_ms=3000 HTTP/1.1\r\nHost: x\r\n" + AUTH)
    assert (transport.value(), len(door.waits)) == (b"", 2)
    lose(lost)
    assert len(door.waits) == 1
    door.call("POST", "/put", {"key": "k", "value": "v", "lease": lease})
    assert transport.value().endswith(b'{"state":"hit","value":"v","lease":null}')


AUTH = b"Authorization: Basic YWRtaW46cGFzc3dvcmQ=\r\n\r\n"


@pytest.mark.parametrize(
    "query", ["wait_ms=5", "lease_ms=0", "lease_ms=3600001", "lease_ms=x", "lease_ms=5&wait_ms=-1"]
)
def test_what_is_wrong_is_named_over_http(query: str) -> None:
    status, answer = Door().call("GET", f"/get/k?{query}")
    assert (status, answer["error"]) == (400, "bad_request")
    assert "_ms" in answer["detail"]


def test_bytes_that_are_no_text_over_http() -> None:
    door = Door()
    door.caches[0].put(b"k", b"\xff", ())
    assert door.call("GET", "/get/k?lease_ms=5")[1] == {
        "state": "hit",
        "value_base64": "/w==",
        "lease": None,
    }


# What is shown


def test_what_happened_is_counted_by_database_and_by_tag() -> None:
    door = Door()
    door.call("POST", "/put", {"key": "k", "value": "v", "tags": ["t"], "grace_ms": 60_000})
    door.call("POST", "/invalidate-tag", {"tag": "t", "soft": True})
    lease = door.call("GET", "/get/k?lease_ms=5000")[1]["lease"]
    door.call("POST", "/invalidate-tag", {"tag": "t", "soft": True})
    entry = {"key": "k", "value": "v", "tags": ["t"], "lease": lease}
    assert door.call("POST", "/put", entry)[0] == 409
    lease = door.call("GET", "/get/k?lease_ms=5000")[1]["lease"]
    door.call("POST", "/put", {**entry, "lease": lease})
    (tag,) = door.call("GET", "/tags")[1]["tags"]
    assert (tag["stale_served"], tag["fills_refused"]) == (2, 1)
    told = door.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + AUTH).decode().splitlines()
    for line in (
        'tagcache_leases{db="0"} 0.0',
        'tagcache_stale_keys{db="0"} 0.0',
        'tagcache_leases_granted_total{db="0"} 2.0',
        'tagcache_fills_total{db="0"} 1.0',
        'tagcache_fills_refused_total{db="0"} 1.0',
        'tagcache_leases_released_total{db="0"} 0.0',
        'tagcache_stale_served_total{db="0"} 2.0',
        "tagcache_waiting_fetches 0.0",
    ):
        assert line in told


def test_waiting_is_not_slow(server: Server) -> None:
    first, one = Peer(server), Peer(server)
    token = first.lease()
    one("FETCH", "k", 5000, 3000)
    server.clock.advance(2)
    first("FILL", token, "k", "-", "", "v")
    assert one.got() == b"HIT\tv\n"
    assert server.traffic.slow_total == 0
