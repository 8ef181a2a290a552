"""The dashboard's files, and the endpoints for monitoring."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tagcache.server.http.sse import MOST_STREAMS
from tagcache.server.net.states import FINISHED
from tagcache.server.observe.history import COLUMNS
from tests.helpers import settings_with
from tests.unit.server.http.test_protocol import BASIC, Door, request
from tests.unit.server.line.test_protocol import Transport


@pytest.fixture
def door() -> Door:
    return Door()


def head_of(reply: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def put(door: Door, count: int, *tags: str) -> None:
    for number in range(count):
        door.cache.put(b"%s%d" % (tags[0].encode(), number), b"v", [tag.encode() for tag in tags])


# The files


def test_the_page_is_open_and_guarded(door: Door) -> None:
    status, headers, body = head_of(door.send(request("GET", "/", headers=b"")))
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert b'<script type="module" src=' in body
    for inline in (rb"<script>", rb"<style", rb"\bon\w+=", rb"style="):
        assert not re.search(inline, body)


def test_everything_the_page_names_is_there(door: Door) -> None:
    _, _, page = head_of(door.send(request("GET", "/", headers=b"")))
    waiting = {name.decode() for name in re.findall(rb'(?:src|href)="(/dashboard/[^"]+)"', page)}
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        status, headers, body = head_of(door.send(request("GET", path, headers=b"")))
        assert status == 200, path
        kinds = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
        kind = path.rpartition(".")[2]
        assert headers["content-type"] == kinds.get(kind, "image/svg+xml")
        if kind == "js":
            assert b"innerHTML" not in body
            assert b"http:" not in body.replace(b"http://www.w3.org/2000/svg", b"")
            assert b"https:" not in body
            found = re.findall(rb'from "\./([\w.]+)"', body)
            waiting |= {f"/dashboard/{name.decode()}" for name in found} - seen
    assert len(seen) >= 14


def test_a_file_that_is_known_is_not_sent_again(door: Door) -> None:
    _, headers, _ = head_of(door.send(request("GET", "/dashboard/app.css", headers=b"")))
    tag = headers["etag"]
    known = b"If-None-Match: W/" + tag.encode() + b"\r\n"
    status, again, body = head_of(door.send(request("GET", "/dashboard/app.css", headers=known)))
    assert (status, body, again["etag"]) == (304, b"", tag)
    assert "content-length" not in again
    other = b'If-None-Match: "other"\r\n'
    assert head_of(door.send(request("GET", "/dashboard/app.css", headers=other)))[0] == 200


@pytest.mark.parametrize(
    "path", ["/dashboard/nothing.js", "/dashboard/__init__.py", "/dashboard/..%2Findex.html"]
)
def test_there_are_no_other_files(door: Door, path: str) -> None:
    assert head_of(door.send(request("GET", path, headers=b"")))[0] == 404


# Dry runs of invalidations


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/invalidate-tag", {"tag": "a"}, {"success": True, "count": 5}),
        ("/invalidate-tag", {"tag": "none"}, {"success": False, "count": 0}),
        ("/invalidate/tags", {"tags": ["a", "b"]}, {"success": True, "count": 8}),
        ("/invalidate/tags", {"tags": ["a", "c"], "mode": "all"}, {"success": True, "count": 5}),
        ("/invalidate/tags", {"tags": []}, {"success": True, "count": 0}),
        ("/invalidate/keys", {"keys": ["a0", "a0", "b1", "x"]}, {"success": True, "count": 2}),
        ("/keys/bulk/delete", {"keys": ["a0"]}, {"success": True, "count": 1}),
        ("/invalidate-key", {"key": "a0"}, {"success": True, "count": None}),
        ("/invalidate-key", {"key": "x"}, {"success": False, "count": None}),
        ("/flush", None, {"success": True, "count": 8}),
    ],
)
def test_a_dry_run_tells_what_would_go_and_removes_nothing(
    door: Door, path: str, body: Any, expected: dict[str, Any]
) -> None:
    put(door, 5, "a", "c")
    put(door, 3, "b")
    door.cache.put(b"gone", b"v", [b"a"], 1)
    door.clock.advance(1)
    assert door.call("POST", f"{path}?dry_run=true", body) == (200, {**expected, "dry_run": True})
    assert door.cache.totals().items == 8
    assert door.cache.counters().invalidations == 0
    assert door.events.after(0, 10) == []
    # The real invalidation does what the dry run reported.
    assert door.call("POST", f"{path}?dry_run=false", body) == (200, expected)
    gone = int(expected["success"]) if expected["count"] is None else expected["count"]
    assert door.cache.totals().items == 8 - gone


def test_a_dry_run_of_many_is_sliced(door: Door) -> None:
    put(door, 3000, "a")
    protocol, transport = door.connect()
    body = b'{"tag":"a"}'
    moments = iter(range(10**9))
    door.slices._monotonic = lambda: next(moments) / 5000
    protocol.dataReceived(
        request(
            "POST",
            "/invalidate-tag?dry_run=true",
            body,
            BASIC + b"Content-Type: application/json\r\n",
        )
    )
    assert transport.value() == b""
    door.clock.pump([0] * 2000)
    assert b'"count":3000' in transport.value()
    assert len(door.cache) == 3000


def test_dry_run_takes_nothing_but_true_and_false(door: Door) -> None:
    status, answer = door.call("POST", "/flush?dry_run=yes")
    assert (status, answer["error"]) == (400, "bad_request")
    assert "dry_run" in answer["detail"]


def test_http_invalidations_are_events(door: Door) -> None:
    put(door, 2, "a")
    door.call("POST", "/invalidate-tag", {"tag": "a"}, host="10.0.0.9")
    (event,) = door.call("GET", "/events/log")[1]["events"]
    assert (event["peer"], event["command"]) == ("10.0.0.9", "POST /invalidate-tag")
    assert (event["names"], event["count"]) == (["a"], 2)


# Lists, logs and counters


def test_raw_values_are_never_parsed(door: Door) -> None:
    door.cache.put(b"k", b'{"n": 12345678901234567890123}')
    door.cache.put(b"b", b"\xff")
    items = door.call("POST", "/keys/bulk/get?raw=true", {"keys": ["k", "b"]})[1]["items"]
    assert items[0]["value"] == '{"n": 12345678901234567890123}'
    assert items[1]["value_base64"] == "/w=="
    items = door.call("POST", "/keys/bulk/get", {"keys": ["k"]})[1]["items"]
    assert isinstance(items[0]["value"], dict)


def test_tags_are_sorted_by_what_is_asked(door: Door) -> None:
    put(door, 3, "many")
    door.cache.put(b"l", b"v" * 999, [b"large"])
    door.cache.put(b"h", b"v", [b"hit"])
    for _ in range(1000):
        door.cache.get(b"h")

    def top(sort: str) -> str:
        name: str = door.call("GET", f"/tags?limit=1&sort={sort}")[1]["tags"][0]["name"]
        return name

    assert [top(sort) for sort in ("keys", "bytes", "hits")] == ["many", "large", "hit"]
    assert door.call("GET", "/tags?sort=name")[0] == 400


def test_the_log_can_be_asked_for_one_kind_and_for_what_is_new(door: Door) -> None:
    for number in range(3):
        door.events.invalidated("peer", "FLUSH", (), number)
    last = door.call("GET", "/events/log?limit=1")[1]["events"][0]
    assert (last["id"], last["count"]) == (3, 2)
    assert len(door.call("GET", "/events/log?after=1")[1]["events"]) == 2
    assert door.call("GET", "/events/log?kind=error")[1]["events"] == []
    assert door.call("GET", "/events/log?kind=other")[0] == 400


def test_the_slow_log_with_its_threshold(door: Door) -> None:
    door.traffic.took(0.5, "GET /keys", 1, b"/keys", "peer")
    answer = door.call("GET", "/slowlog")[1]
    assert (answer["slow_command_ms"], answer["total"]) == (100, 1)
    assert (answer["slow"][0]["duration_ms"], answer["slow"][0]["command"]) == (500.0, "GET /keys")


def test_a_slow_request_is_noted_with_its_route(door: Door) -> None:
    protocol, _ = door.connect()
    readings = iter([0.0] + [0.2] * 10)
    protocol._monotonic = lambda: next(readings)
    protocol.dataReceived(request("GET", "/get/some-key?x=1"))
    (slow,) = door.traffic.slow()
    assert (slow.command, slow.argument, slow.commands) == ("GET /get/{key}", "/get/some-key", 1)
    protocol._monotonic = door.clock.seconds
    protocol.connectionLost(Failure(ConnectionDone()))


def test_a_request_that_takes_slices_is_timed_to_its_end(door: Door) -> None:
    protocol, _ = door.connect()
    protocol.dataReceived(request("GET", "/connections"))
    door.clock.advance(0.3)
    (slow,) = door.traffic.slow()
    assert (slow.command, slow.duration_ms) == ("GET /connections", 300.0)
    protocol.connectionLost(Failure(ConnectionDone()))


def test_requests_are_counted_by_route_however_they_are_answered(door: Door) -> None:
    protocol, _ = door.connect()
    for _ in range(3):
        # The later requests repeat the head of the first, and take the fast path.
        protocol.dataReceived(b"GET /get/k HTTP/1.1\r\nHost: x\r\n" + BASIC + b"\r\n")
    protocol.dataReceived(request("GET", "/nowhere"))
    assert door.traffic.routes["GET /get/{key}"] == 3
    assert door.traffic.routes["unknown"] == 1
    assert door.traffic.failed_requests == {404: 1}
    protocol.connectionLost(Failure(ConnectionDone()))


def test_info_and_history(door: Door) -> None:
    assert door.call("GET", "/info") == (200, {"some": "info"})
    assert door.call("GET", "/history") == (
        200,
        {"interval_seconds": 2.0, "columns": list(COLUMNS), "samples": []},
    )


def test_traffic_is_reported_by_verb_route_and_error(door: Door) -> None:
    door.traffic.verbs[b"GET"] += 2
    door.traffic.verbs[b"get"] += 1
    door.traffic.errors["bad_key"] += 4
    door.call("GET", "/nowhere")
    assert door.call("GET", "/traffic") == (
        200,
        {
            "commands": {"get": 3},
            "requests": {"GET /traffic": 1, "unknown": 1},
            "errors": {"bad_key": 4},
            "failed_requests": {"404": 1},
        },
    )


def test_whether_credentials_are_asked_for(door: Door) -> None:
    assert door.call("GET", "/auth/required", headers=b"") == (200, {"auth_required": True})
    free = Door(settings_with(security={"require_auth": False}))
    assert free.call("GET", "/auth/required", headers=b"") == (200, {"auth_required": False})


@pytest.mark.parametrize(
    "path", ["/metrics", "/history", "/events", "/events/log", "/slowlog", "/info", "/traffic"]
)
def test_monitoring_requires_a_login(door: Door, path: str) -> None:
    assert door.call("GET", path, headers=b"")[0] == 401


def test_a_connection_is_closed_after_the_answer(door: Door) -> None:
    victim, transport = door.connect()
    id = victim.connection.id
    assert door.call("POST", "/connections/close", {"id": id}) == (200, {"id": id, "closed": True})
    assert transport.aborted
    victim.connectionLost(Failure(ConnectionDone()))
    assert door.call("POST", "/connections/close", {"id": id})[1]["closed"] is False
    assert door.call("POST", "/connections/close", {"id": "x"})[0] == 422


def test_a_client_may_close_its_own_connection(door: Door) -> None:
    protocol, transport = door.connect()
    body = b'{"id":%d}' % protocol.connection.id
    protocol.dataReceived(
        request("POST", "/connections/close", body, BASIC + b"Content-Type: application/json\r\n")
    )
    assert b'"closed":true' in transport.value()
    assert not transport.aborted
    door.clock.pump([0] * 3)
    assert transport.aborted


# Metrics


def metrics_of(door: Door) -> dict[tuple[str, str], float]:
    status, headers, body = head_of(door.send(request("GET", "/metrics")))
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_metrics_tell_running_totals(door: Door) -> None:
    put(door, 3, "a", "b")
    door.cache.get(b"a0")
    door.cache.get(b"nothing")
    door.call("POST", "/invalidate/keys", {"keys": ["a1"]})
    door.traffic.verbs[b"GET"] += 2
    door.traffic.verbs[b"get"] += 3
    door.traffic.tick()
    door.traffic.took(0.003, "get", 1, None, "peer")
    found = metrics_of(door)
    assert found["tagcache_keyspace_hits_total", "db=0"] == 1
    assert found["tagcache_keyspace_misses_total", "db=0"] == 1
    assert found["tagcache_keys", "db=0"] == 2
    assert found["tagcache_tags", "db=0"] == 2
    assert found["tagcache_invalidated_keys_total", "db=0"] == 1
    assert found["tagcache_memory_used_bytes", ""] == door.cache.memory
    assert found["tagcache_commands_total", "cmd=get"] == 5
    assert found["tagcache_http_requests_total", "route=POST /invalidate/keys"] == 1
    assert found["tagcache_command_duration_seconds_count", "cmd=get"] == 1
    assert found["tagcache_command_duration_seconds_bucket", "cmd=get,le=0.0025"] == 0
    assert found["tagcache_command_duration_seconds_bucket", "cmd=get,le=0.005"] == 1
    assert found["tagcache_command_duration_seconds_bucket", "cmd=get,le=+Inf"] == 1
    assert found["tagcache_command_duration_seconds_sum", "cmd=get"] == pytest.approx(0.003)
    assert found["tagcache_reactor_lag_seconds", ""] == 0
    assert found["tagcache_reaper_backlog", "db=0"] == 0
    assert found["tagcache_connected_clients", ""] == 1
    assert found["process_resident_memory_bytes", ""] > 0


def test_metrics_of_each_database_have_its_number(door: Door) -> None:
    put(door, 1, "t")
    door.caches[3].put(b"k", b"12345", [])
    door.caches[3].get(b"k")
    found = metrics_of(door)
    assert [labels for name, labels in found if name == "tagcache_keys"] == ["db=0", "db=3"]
    assert found["tagcache_data_bytes", "db=3"] == 5
    assert found["tagcache_keyspace_hits_total", "db=0"] == 0
    assert found["tagcache_keyspace_hits_total", "db=3"] == 1
    each = [found["tagcache_database_memory_bytes", f"db={number}"] for number in (0, 3)]
    assert each == [door.caches[0].memory, door.caches[3].memory]
    assert found["tagcache_memory_used_bytes", ""] == sum(each)


def test_collecting_reclaims_and_walks_nothing(door: Door) -> None:
    door.cache.put(b"k", b"v", ttl_ms=1)
    door.clock.advance(1)
    assert metrics_of(door)["tagcache_keys", "db=0"] == 1
    assert door.cache.counters().expirations == 0


# Server-sent events


class Listener:
    """A client that has requested the event stream."""

    def __init__(self, door: Door, headers: bytes = BASIC, method: str = "GET") -> None:
        self.door = door
        self.protocol, self.transport = door.connect()
        self.protocol.dataReceived(request(method, "/events", headers=headers))
        self.status, self.headers, _ = head_of(self.transport.value())

    def heard(self) -> list[tuple[str, Any]]:
        _, _, body = head_of(self.transport.value())
        found = []
        for block in body.decode().split("\n\n")[:-1]:
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        return found

    def leave(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


def test_samples_and_events_are_pushed(door: Door) -> None:
    door.events.invalidated("peer", "FLUSH", (), 1)
    door.streams.publish(b"[0]")
    listener = Listener(door)
    assert listener.status == 200
    assert listener.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert listener.headers["connection"] == "close"
    door.streams.publish(b"[1,null]")
    door.events.invalidated("peer", "INV_TAG", [b"a\nb"], 2)
    door.streams.publish(b"[2]")
    door.streams.publish(b"[3]")
    names = [name for name, _ in listener.heard()]
    assert names == ["hello", "sample", "sample", "log", "sample"]
    heard = listener.heard()
    assert heard[0][1] == {"connection": listener.protocol.connection.id}
    assert heard[1][1] == [1, None]
    assert [(event["count"], event["names"]) for event in heard[3][1]] == [(2, ["a\nb"])]
    listener.leave()
    assert len(door.streams) == 0


def test_the_engine_status_is_sent_on_changes_and_to_new_streams(door: Door) -> None:
    door.told = {"status": "ok"}
    door.streams.publish(b"[0]")
    first = Listener(door)
    door.streams.publish(b"[1]")
    door.streams.publish(b"[2]")
    door.told = {"status": "degraded"}
    door.streams.publish(b"[3]")
    names = ["hello", "sample", "engine", "sample", "sample", "engine"]
    assert [name for name, _ in first.heard()] == names
    assert [data for name, data in first.heard() if name == "engine"] == [
        {"status": "ok"},
        {"status": "degraded"},
    ]
    second = Listener(door)
    door.streams.publish(b"[4]")
    assert second.heard()[1:] == [("sample", [4]), ("engine", {"status": "degraded"})]


def test_the_number_of_streams_is_limited(door: Door) -> None:
    listeners = [Listener(door) for _ in range(MOST_STREAMS)]
    assert {listener.status for listener in listeners} == {200}
    assert Listener(door).status == 503
    listeners[0].leave()
    assert Listener(door).status == 200


def test_a_client_that_does_not_read_is_dropped(door: Door) -> None:
    listener = Listener(door)
    reader = Listener(door)
    listener.transport.producer.pauseProducing()
    sample = b"[" + b"1," * 20_000 + b"1]"
    for _ in range(20):
        door.streams.publish(sample)
    assert listener.transport.aborted
    assert not reader.transport.aborted
    assert len(door.streams) == 1
    assert len(reader.heard()) == 21


def test_a_stream_ends_with_its_token(door: Door) -> None:
    token = door.call("POST", "/auth/login", {"username": "admin", "password": "password"})[1]
    listener = Listener(door, f"Authorization: Bearer {token['token']}\r\n".encode())
    # One second before the token expires.
    door.clock.advance(token["expires_in"] - 1)
    door.streams.publish(b"[1]")
    assert listener.heard()[-1] == ("sample", [1])
    door.clock.advance(2)
    door.streams.publish(b"[2]")
    assert listener.heard()[-1] == ("bye", {"reason": "unauthorized"})
    assert len(door.streams) == 0
    assert listener.protocol.phase is FINISHED


def test_a_stream_ends_when_the_password_changes(door: Door) -> None:
    listener = Listener(door)
    door.credentials._use("admin", "other", False)
    door.streams.publish(b"[1]")
    assert listener.heard()[-1][0] == "bye"


def test_a_stream_ends_at_a_stop(door: Door) -> None:
    listener = Listener(door)
    stopped = door.factory.drain(10)
    assert listener.protocol.phase is FINISHED
    assert len(door.streams) == 0
    listener.leave()
    assert stopped.called
    assert listener.transport.half_closed or listener.transport.disconnecting


def test_neither_silence_nor_idleness_ends_a_stream() -> None:
    door = Door(settings_with(performance={"idle_timeout_seconds": 5.0}))
    listener = Listener(door)
    for _ in range(1000):
        door.clock.advance(1)
    assert listener.protocol.phase is not FINISHED
    assert not listener.transport.aborted
    listener.leave()


def test_the_head_of_a_stream_alone(door: Door) -> None:
    listener = Listener(door, method="HEAD")
    assert listener.status == 200
    assert listener.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert listener.protocol.phase is FINISHED
    assert len(door.streams) == 0
    listener.leave()


def test_what_comes_after_the_request_for_a_stream_is_not_answered(door: Door) -> None:
    listener = Listener(door)
    listener.protocol.dataReceived(request("GET", "/health"))
    assert len(listener.heard()) == 1
    assert isinstance(listener.transport, Transport)
    listener.leave()
