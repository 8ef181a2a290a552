"""What the benchmarks compute from what they measured."""

from __future__ import annotations

import pytest

from benchmarks.compare import cpu_ratio
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
