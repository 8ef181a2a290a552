"""Counting and timing of client requests."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache.server.observe.traffic import (
    BUCKETS,
    MOST_SLOW,
    TIMED_A_TICK,
    Histogram,
    Traffic,
    quantile,
)
from tests.helpers import settings_with
from tests.unit.server.line.test_protocol import Server, lose


def traffic(slow_ms: int = 100) -> Traffic:
    return Traffic(settings_with(logging={"slow_command_ms": slow_ms}), lambda: 5.0)


def slowly(server: Server, data: bytes, seconds: float) -> bytes:
    """Send data; the clock advances while the last command is answered."""
    protocol, transport = server.connect()
    readings = iter([0.0] * data.count(b"\n") + [seconds] * 10)
    protocol._monotonic = lambda: next(readings)
    protocol.dataReceived(data)
    protocol._monotonic = server.clock.seconds
    server.clock.pump([0] * 3)
    lose(protocol)
    return transport.value()


def slow_log(server: Server) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(server.ask(b"SLOWLOG\n").split(b"\t", 1)[1])
    return found


@pytest.mark.parametrize(
    "chunks",
    [
        [b"GET\ta\nGET\tb\nget\tc\nPUT\tk\t-\t-\tv\nPUT\tl\t-\t-\tv\nPut\tm\t-\t-\tv\nnope\n"],
        [b"GET\ta\n", b"GET\tb\n", b"get\tc\n", *[b"PUT\tk\t-\t-\tv\n"] * 2, b"Put\tk\n", b"x\n"],
        [b"GET\ta\nGET\tb\n", b"GET\tc\n\n\nPUT\tk\nPUT\tk\nput\tk\nX\tY\n"],
    ],
)
def test_commands_are_counted_by_verb_however_they_come(chunks: list[bytes]) -> None:
    server = Server(settings_with())
    protocol, _ = server.connect()
    for chunk in chunks:
        protocol.dataReceived(chunk)
    counts = {verb: count for verb, count in server.traffic.commands().items() if count}
    assert counts == {"get": 3, "put": 3, "unknown": 1}
    assert protocol.connection.commands == 7
    lose(protocol)


@given(
    st.lists(
        st.sampled_from(
            [b"GET\ta", b"PUT\tk\t-\t-\tv", b"put\tk", b"DEL\tk", b"INCR", b"Ping", b"?"]
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 200)),
)
def test_counts_do_not_depend_on_how_the_stream_is_cut(
    lines: list[bytes], places: list[int]
) -> None:
    server = Server(settings_with())
    protocol, _ = server.connect()
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    for start, end in itertools.pairwise(cuts):
        protocol.dataReceived(stream[start:end])
    expected: dict[str, int] = {}
    for line in lines:
        verb = line.split(b"\t")[0].decode().lower()
        verb = "unknown" if verb == "?" else verb
        expected[verb] = expected.get(verb, 0) + 1
    assert {verb: n for verb, n in server.traffic.commands().items() if n} == expected
    lose(protocol)


def test_every_verb_is_there_from_the_start() -> None:
    counts = Server(settings_with()).traffic.commands()
    assert {"get", "put", "inv_tag", "flush", "slowlog", "unknown"} <= set(counts)
    assert set(counts.values()) == {0}


def test_errors_are_counted_by_their_word() -> None:
    server = Server(settings_with(security={"rate_limit_per_minute": 3}))
    server.ask(b"GET\nINCR\tk\tx\nGET\nGET\ta\n")
    assert server.traffic.errors == {"missing_key": 2, "invalid_by": 1, "rate_limited": 1}
    assert server.traffic.commands()["get"] == 2
    assert server.rates.refused == 1


def test_a_slow_command_is_noted_with_who_and_what() -> None:
    server = Server(settings_with(logging={"slow_command_ms": 20}))
    assert slowly(server, b"put\tthe key\t-\t-\tsecret value\n", 0.019) == b"OK\n"
    assert slow_log(server) == []
    slowly(server, b"put\tthe key\t-\t-\tsecret value\n", 0.025)
    assert slow_log(server) == [
        {
            "id": 1,
            "time": 0.0,
            "duration_ms": 25.0,
            "command": "put",
            "commands": 1,
            "argument": "the key",
            "peer": "127.0.0.1:5000",
        }
    ]
    assert server.events.after(0, 9, ["slow"])[0]["command"] == "put"


def test_what_came_together_is_timed_together() -> None:
    server = Server(settings_with(logging={"slow_command_ms": 20}))
    slowly(server, b"GET\ta\n" * 50, 0.03)
    slowly(server, b"GET\ta\nPUT\tk\n" * 5, 0.04)
    newest, oldest = slow_log(server)
    assert (oldest["command"], oldest["commands"], oldest["argument"]) == ("get", 50, None)
    assert (newest["command"], newest["commands"]) == ("mixed", 10)


def test_secrets_and_what_is_no_verb_are_not_noted() -> None:
    server = Server(settings_with(logging={"slow_command_ms": 20}))
    slowly(server, b"AUTH\tadmin\thunter2\n", 0.03)
    slowly(server, b"hunter2\thunter2\n", 0.03)
    slowly(server, b"hunter2\n", 0.03)
    assert "hunter2" not in json.dumps(slow_log(server))
    assert {each["command"] for each in slow_log(server)} <= {"auth", "unknown"}


def test_a_command_that_takes_several_slices_is_timed_to_its_end() -> None:
    server = Server(settings_with(logging={"slow_command_ms": 20}))
    protocol, transport = server.connect()
    protocol.dataReceived(b"CLIENTS\n")
    assert transport.value() == b""
    server.clock.advance(0.05)
    assert transport.value().startswith(b"CLIENTS\t[")
    (slow,) = server.traffic.slow()
    assert (slow.command, slow.duration_ms) == ("clients", 50.0)
    lose(protocol)


def test_the_slow_log_is_bounded_and_the_newest_come_first() -> None:
    server = Server(settings_with(logging={"slow_command_ms": 1}))
    for number in range(MOST_SLOW + 5):
        server.traffic.took(0.01, "get", 1, b"%d" % number, "peer")
    log = slow_log(server)
    assert len(log) == MOST_SLOW
    assert log[0]["argument"] == str(MOST_SLOW + 4)
    assert len(json.loads(server.ask(b"SLOWLOG\t3\n").split(b"\t", 1)[1])) == 3
    assert server.ask(b"SLOWLOG\t0\n") == b"SLOWLOG\t[]\n"
    assert server.ask(b"SLOWLOG\tx\n") == b"ERR invalid_count\n"
    assert server.traffic.slow_total == MOST_SLOW + 5


def test_the_threshold_follows_a_reload_and_nothing_is_noted_without_one() -> None:
    counted = traffic(0)
    counted.took(1000.0, "get", 1, None, "peer")
    assert counted.slow() == []
    assert counted.above == float("inf")
    counted.configure(settings_with(logging={"slow_command_ms": 5}))
    assert counted.above == 0.005
    counted.took(0.005, "get", 1, None, "peer")
    assert len(counted.slow()) == 1


def test_a_tick_has_some_timed_and_then_only_the_slow() -> None:
    counted = traffic(100)
    assert counted.above == 0.1
    counted.tick()
    for _ in range(TIMED_A_TICK):
        assert counted.above == 0.0
        counted.took(0.001, "get", 1, None, "peer")
    assert counted.above == 0.1
    counted.took(0.2, "get", 1, None, "peer")
    assert sum(counted.histograms["get"].counts) == TIMED_A_TICK
    assert counted.histograms["get"].sum == pytest.approx(TIMED_A_TICK * 0.001)
    counted.configure(settings_with(logging={"slow_command_ms": 50}))
    assert counted.above == 0.05


@given(st.lists(st.floats(0, 20), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_right_one(
    durations: list[float], share: float
) -> None:
    histogram = Histogram()
    for each in durations:
        histogram.add(each)
    rank = max(0, min(len(durations) - 1, -int(-share * len(durations) // 1) - 1))
    right = sorted(durations)[rank]
    told = quantile(histogram.counts, share)
    assert told is not None
    bounds = [0.0, *BUCKETS]
    below = max((bound for bound in bounds if bound < right), default=0.0)
    above = min((bound for bound in BUCKETS if bound >= right), default=BUCKETS[-1])
    assert below <= told * (1 + 1e-9)
    assert told <= above * (1 + 1e-9)


def test_there_is_no_quantile_of_nothing() -> None:
    assert quantile([0] * (len(BUCKETS) + 1), 0.5) is None
