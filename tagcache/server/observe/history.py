"""The last hour: a sample every few seconds, in a bounded ring."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import orjson

INTERVAL_SECONDS = 2.0
CAPACITY = 1800
# The values of a sample. Rates are per second, over the time since the previous sample.
COLUMNS = (
    "time",
    "reads",
    "writes",
    "invalidations",
    "others",
    "hits",
    "misses",
    "entries",
    "tags",
    "memory",
    "max_memory",
    "evicted",
    "expired",
    "invalidated",
    "connections",
    "lag",
    "latency_p50",
    "latency_p99",
    "bytes_in",
    "bytes_out",
    "backlog",
    "cpu",
    "resident",
)

Sample = Mapping[str, float | None]


class History:
    """The last samples, as JSON arrays in the order of COLUMNS.

    They are kept as JSON, so that joining an hour of them is cheap.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._rows: deque[bytes] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, sample: Sample) -> bytes:
        """Keep a sample; return its JSON array."""
        row = orjson.dumps([_short(sample[column]) for column in COLUMNS])
        self._rows.append(row)
        return row

    def dump(self) -> bytes:
        """Return the history as a JSON object: interval_seconds, columns, samples."""
        return b'{"interval_seconds":%b,"columns":%b,"samples":[%b]}' % (
            orjson.dumps(INTERVAL_SECONDS),
            orjson.dumps(COLUMNS),
            b",".join(self._rows),
        )


def _short(number: float | None) -> float | None:
    """Round to the digits that matter."""
    if not isinstance(number, float):
        return number
    rounded = round(number, 3 if abs(number) >= 1 else 7)
    return int(rounded) if rounded.is_integer() else rounded
