"""Samples for the history, and the reactor's lag."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, globalLogPublisher

from tagcache.server.http.routes import Route
from tagcache.server.observe.history import COLUMNS, INTERVAL_SECONDS, History
from tagcache.server.observe.sampler import KINDS, TICK_SECONDS, Sampler
from tests.helpers import settings_with
from tests.unit.server.http.test_protocol import Door
from tests.unit.server.line.test_protocol import Server


class Sampled(Server):
    """A server with a sampler, and the rows that it published."""

    def __init__(self) -> None:
        super().__init__(settings_with(cache={"max_memory": 10**6}))
        self.history = History()
        self.processor_seconds = 1.5
        self.rows: list[list[Any]] = []
        self.sampler = Sampler(
            self.cache,
            self.connections,
            self.traffic,
            self.history,
            self.events,
            self.clock,
            self.clock.seconds,
            lambda: 1000 + self.clock.seconds(),
            lambda: (self.processor_seconds, 50_000_000),
            lambda row: self.publish(row),
        )
        self.sampler.startService()

    def publish(self, row: bytes) -> None:
        self.rows.append(json.loads(row))

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([TICK_SECONDS] * round(seconds / TICK_SECONDS))

    def last(self) -> dict[str, Any]:
        return dict(zip(COLUMNS, self.rows[-1], strict=True))


@pytest.fixture
def sampled() -> Any:
    server = Sampled()
    yield server
    if server.sampler.running:
        server.sampler.stopService()


def test_a_sample_goes_to_the_history_and_to_listeners_every_two_seconds(
    sampled: Sampled,
) -> None:
    sampled.pass_time(10)
    assert len(sampled.rows) == len(sampled.history) == 5
    assert json.loads(sampled.history.dump()) == {
        "interval_seconds": INTERVAL_SECONDS,
        "columns": list(COLUMNS),
        "samples": sampled.rows,
    }
    assert [row[0] for row in sampled.rows] == [1002, 1004, 1006, 1008, 1010]


def test_rates_are_by_the_second_and_by_kind(sampled: Sampled) -> None:
    sampled.ask(
        b"PUT\ta\t-\tt\tv\n" * 4 + b"GET\ta\n" * 10 + b"GET\tx\n" * 6 + b"INV_TAG\tt\nPING\n"
    )
    sampled.traffic.routes["GET /get/{key}"] += 2
    sampled.traffic.routes["POST /flush"] += 2
    sampled.pass_time(2)
    last = sampled.last()
    assert (last["reads"], last["writes"], last["invalidations"], last["others"]) == (
        9,
        2,
        1.5,
        0.5,
    )
    assert (last["hits"], last["misses"], last["invalidated"]) == (5, 3, 0.5)
    assert last["bytes_in"] == (4 * 12 + 16 * 6 + 10 + 5) / 2
    assert last["bytes_out"] > 0
    assert (last["entries"], last["tags"], last["max_memory"]) == (0, 0, 10**6)
    sampled.pass_time(2)
    assert sampled.last()["reads"] == sampled.last()["hits"] == 0
    assert sampled.last()["latency_p50"] is None


def test_a_sample_has_the_current_totals(sampled: Sampled) -> None:
    sampled.ask(b"PUT\ta\t-\tt,u\tvalue\nPUT\tb\t100\t-\tv\n")
    client, _ = sampled.connect()
    sampled.pass_time(2)
    last = sampled.last()
    # One entry has expired but is not reclaimed: taking a sample reclaims nothing.
    assert (last["entries"], last["tags"], last["connections"]) == (2, 2, 1)
    assert last["memory"] == sampled.cache.memory > 0
    assert last["latency_p50"] is not None
    del client


def test_a_sample_has_the_resources_of_the_process(sampled: Sampled) -> None:
    sampled.processor_seconds += 0.5
    sampled.pass_time(2)
    assert (sampled.last()["cpu"], sampled.last()["resident"]) == (0.25, 50_000_000)
    sampled.pass_time(2)
    assert sampled.last()["cpu"] == 0


def test_the_lag_is_how_late_a_tick_comes(sampled: Sampled) -> None:
    sampled.pass_time(2)
    assert sampled.last()["lag"] == 0
    sampled.clock.advance(TICK_SECONDS + 0.125)
    assert sampled.sampler.lag == pytest.approx(0.125)
    sampled.clock.advance(TICK_SECONDS - 0.125)
    assert sampled.sampler.lag == pytest.approx(0.125)
    sampled.clock.advance(3.0)
    assert sampled.sampler.lag == pytest.approx(3.0 - TICK_SECONDS)
    sampled.pass_time(2)
    assert sampled.last()["lag"] == pytest.approx(3.0 - TICK_SECONDS)
    sampled.pass_time(10)
    assert sampled.sampler.lag == 0
    assert sampled.last()["lag"] == 0


def test_a_sample_that_fails_is_logged_and_the_next_one_comes(sampled: Sampled) -> None:
    def fail(row: bytes) -> None:
        raise RuntimeError("boom")

    publish, sampled.publish = sampled.publish, fail
    with capturedLogs() as events:
        sampled.pass_time(2)
    assert [str(event["log_failure"].value) for event in events if "log_failure" in event] == [
        "boom"
    ]
    sampled.publish = publish
    sampled.pass_time(2)
    assert len(sampled.rows) == 1


def test_the_history_is_bounded() -> None:
    history = History(3)
    for number in range(10):
        history.append({**dict.fromkeys(COLUMNS, None), "time": float(number)})
    assert len(history) == 3
    assert [row[0] for row in json.loads(history.dump())["samples"]] == [7, 8, 9]


def test_it_hears_the_log_while_it_runs_and_leaves_nothing_behind(sampled: Sampled) -> None:
    assert sampled.events in globalLogPublisher._observers
    sampled.sampler.stopService()
    assert sampled.events not in globalLogPublisher._observers
    assert sampled.clock.getDelayedCalls() == []


def test_every_name_of_a_kind_is_a_verb_or_a_route() -> None:
    door = Door()
    known = {*Server(settings_with()).traffic.commands(), *door.traffic.routes}
    for names in KINDS.values():
        assert set(names) <= known
    assert all(isinstance(route, Route) and route.label in known for route in door.routes.all)
    assert isinstance(door.clock, Clock)
