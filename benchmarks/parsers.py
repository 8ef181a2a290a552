"""Checks that every parser takes linear time: times for doubled sizes of the input.

python -m benchmarks.parsers [--quick]
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httptools

from benchmarks.suite import Benchmark, Options, main
from benchmarks.tables import number, table
from tagcache.errors import CommandError
from tagcache.model import int64
from tagcache.model.work import run_to_end
from tagcache.server.http import jsontext
from tagcache.wire import line as wire

SMALLEST = 2**15
DOUBLINGS = 6


class _Sink:
    """The callbacks of the HTTP parser. They do nothing."""

    def on_header(self, name: bytes, value: bytes) -> None:
        pass


def _lines(text: bytes) -> None:
    buffer = wire.LineBuffer(2**30)
    for start in range(0, len(text), 1000):
        buffer.feed(text[start : start + 1000])


def _http(text: bytes) -> None:
    httptools.HttpRequestParser(_Sink()).feed_data(text)


def _ignore_errors(parse: Callable[[bytes], Any], text: bytes) -> None:
    with suppress(CommandError, jsontext.NotJson):
        parse(text)


# Each parser with its worst input, by size.
PARSERS: dict[str, tuple[Callable[[bytes], Any], Callable[[int], bytes]]] = {
    "lines, one long": (_lines, lambda size: b"v" * size),
    "lines, empty": (_lines, lambda size: b"\r\n" * (size // 2)),
    "a first line": (wire.is_http, lambda size: b"a" * size + b" HTTP/1.1"),
    "GETs": (wire.only_gets, lambda size: b"GET\tk\n" * (size // 6)),
    "integer": (int64.parse, lambda size: b"0" * size + b"x"),
    "time to live": (wire.parse_ttl, lambda size: b"0" * size + b"x"),
    "tags": (wire.parse_tags, lambda size: b",a" * (size // 2)),
    "list of keys": (partial(wire.parse_list, name="keys"), lambda size: b" ," * (size // 2)),
    "JSON, names": (jsontext.parse, lambda size: b"{" + b'"":0,' * (size // 5) + b'"":0}'),
    "JSON, brackets": (jsontext.parse, lambda size: b"[" + b"[]," * (size // 3) + b"[]]"),
    "JSON, unfinished strings": (jsontext.parse, lambda size: b'["' + b'\\"' * (size // 2)),
    "JSON, repeated names": (
        lambda text: run_to_end(jsontext.repeated_names(text)),
        lambda size: rb'{"\u0061":0' + b',"":0' * (size // 5) + b"}",
    ),
    "JSON, exponents": (
        lambda text: jsontext.canonical(jsontext.parse(text)),
        lambda size: b"[" + b"1e300," * (size // 6) + b"1]",
    ),
    "HTTP, requests": (_http, lambda size: b"GET / HTTP/1.1\r\nHost:x\r\n\r\n" * (size // 26)),
    "HTTP, header lines": (
        _http,
        lambda size: b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * (size // 5) + b"\r\n",
    ),
}


def measure(options: Options) -> dict[str, Any]:
    # The server collects rarely, and the time of a collection depends on all other objects.
    gc.disable()
    found: dict[str, Any] = {}
    for name, (parse, text) in PARSERS.items():
        times = []
        for doubling in range(DOUBLINGS + 1):
            given = text(SMALLEST * 2**doubling)
            rounds = []
            for _ in range(options.rounds_or(15)):
                begin = time.perf_counter()
                _ignore_errors(parse, given)
                rounds.append(time.perf_counter() - begin)
            times.append(min(rounds))
        found[name] = times
    return {"smallest": SMALLEST, "times": found}


def section(found: Any, plots: Path) -> str:
    rows = []
    for name, times in found["times"].items():
        largest = found["smallest"] * 2 ** (len(times) - 1)
        rows.append(
            [name, number(times[-1] / largest * 2**20 * 1000), number(times[-1] / times[-3])]
        )
    return "\n".join(
        [
            (
                "Each parser with the worst text for it. The last column is the time for 2 MB "
                "divided by that for 512 kB: 4 if time is linear (more if only 512 kB fit into a "
                "cache of the processor), 16 if it is quadratic.\n"
            ),
            table(("parser", "ms for 1 MB", "2 MB : 512 kB"), rows),
        ]
    )


BENCHMARK = Benchmark("parsers", "Parsing", measure, section)

if __name__ == "__main__":
    main(BENCHMARK, sys.argv[1:])
