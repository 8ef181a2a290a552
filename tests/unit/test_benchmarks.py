"""What the benchmarks compute from what they measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tagged
from benchmarks.compare import cpu_ratio
from benchmarks.latency import at, in_flight
from benchmarks.redis_benchmark import rate_of

REPORT = """"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms"
"SET","28571.43","0.855","0.136","0.623"
"GET","30303.03","0.798","0.120","0.615"
"""


def test_the_rate_of_a_command_is_read_from_redis_benchmark() -> None:
    assert rate_of(REPORT, "GET") == 30303.03


def test_a_report_without_the_command_is_an_error() -> None:
    with pytest.raises(ValueError, match="says nothing of MSET"):
        rate_of(REPORT, "MSET")


def test_cpu_times_are_compared_within_a_round() -> None:
    ours = [{"cpu_microseconds": cost} for cost in (10.0, 30.0, 12.0)]
    theirs = [{"cpu_microseconds": cost} for cost in (5.0, 10.0, 8.0)]
    assert cpu_ratio(ours, theirs) == 2.0


def test_requests_in_flight_are_those_that_overlap_the_time_span() -> None:
    before, into, within, across, after = (0, 900), (500, 600), (1200, 100), (900, 5000), (2001, 9)
    samples = [before, into, within, across, after]
    assert in_flight(samples, 1000, 2000) == [0.1, 0.6, 5.0]


def test_a_share_of_the_latencies() -> None:
    ordered = [float(number) for number in range(100)]
    assert [at(ordered, share) for share in (0, 0.5, 0.99, 1)] == [0, 50, 99, 99]


def test_the_section_on_tags_has_a_row_for_each_way(tmp_path: Path) -> None:
    columns = ("store", "read", "1", "100", "store, whole", "read, whole")
    calls = {what: [10.0, 20.0] for what in columns}
    busy = {job: [1.0, 2.0] for job in tagged.JOBS}
    found = {
        "rounds": 2,
        "seconds": 1,
        "large": 100_000,
        "busy": {
            "TagCache, RESP": busy,
            "TagCache, lines": busy,
            "Redis, sets": {"store": [2.0, 2.0]},
            "Redis, sets by script": {"store": [4.0, 5.0]},
            tagged.PLAIN: {"store": [3.0, 3.0]},
            tagged.PLAIN_REDIS: {"store": [1.0, 3.0]},
        },
        "calls": {"ours": calls},
        "invalidation": {
            "nothing": {"meanwhile": [[100.0]]},
            "ours": {
                "cpu": [2000.0, 4000.0],
                "milliseconds": [7.0, 9.0],
                "meanwhile": [[1000.0, 3000.0], [2000.0]],
                "longest": [3000.0, 6000.0],
            },
        },
        "left": {"ours": {"overwritten": 18_000, "expired": 1, "wrong": 2, "missed": 3}},
    }
    text = tagged.section(found, tmp_path)
    assert "| TagCache, RESP | 1.50 | 1.50 | 1.50 |" in text
    assert "| Redis, sets by script | 4.50 |  |  |" in text
    assert "Without tags, a store takes 2.00 times" in text
    assert "0.75 times that of the sets by hand and 0.33 times that of the script" in text
    assert "| ours | 15.0 | 15.0 | 15.0 | 15.0 | 3,000 | 15.0 | 15.0 |" in text
    assert "| nothing |  | 0.10 | 0.10 | 0.10 |  |" in text
    assert "| ours | 8.00 | 2.00 | 3.00 | 3.00 | 6.00 |" in text
    assert "| ours | 18,000 | 1 | 2 | 3 |" in text
