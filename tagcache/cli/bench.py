"""A load test that checks every reply."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import click

from tagcache.cli.api import NOT_AUTHORISED, REFUSED, UNAVAILABLE, Failed, IServer, pass_database
from tagcache.cli.cache_port import CachePortServer
from tagcache.cli.output import json_option, print_json, print_rows
from tagcache.client.options import DEFAULT_PORT

_VALUE = b"x" * 100
_CONNECT_SECONDS = 5.0
_WRONG_REPLIES = 1
_WELCOME = (b"PONG\n", b"OK\n")


@dataclass(slots=True)
class _Result:
    operations: int = 0
    errors: int = 0
    # The latency of each batch, in seconds.
    latencies: list[float] = field(default_factory=list)
    first_error: str = ""

    def add_errors(self, what: str, count: int = 1) -> None:
        self.errors += count
        self.first_error = self.first_error or what


@click.command()
@click.option("--mode", type=click.Choice(["get", "put", "mix"]), default="mix", show_default=True)
@click.option("--conns", type=click.IntRange(1, 10_000), default=16, show_default=True)
@click.option("--duration", type=click.FloatRange(min=0.1), default=5.0, show_default=True)
@click.option("--keys", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--pipeline", type=click.IntRange(1, 10_000), default=1, show_default=True)
@click.option("--tcp-host", help="The host of the line protocol; default: the server's.")
@click.option("--tcp-port", type=click.IntRange(1, 65535), help="Default: the URL's, or 1984.")
@json_option
@pass_database
def bench(
    server: IServer,
    mode: str,
    conns: int,
    duration: float,
    keys: int,
    pipeline: int,
    tcp_host: str | None,
    tcp_port: int | None,
    as_json: bool,
) -> None:
    """Load the line protocol, check every reply, and print throughput and latency.

    mix is 90 % GET and 10 % PUT. The keys begin with "bench:" and live for a minute. Exit code 1
    if any reply was wrong. TLS and UNIX sockets are not supported.
    """
    if not tcp_host and server.url.startswith(("tagcaches:", "unix:")):
        raise click.UsageError(f"bench cannot load {server.url}: it supports plain TCP only")
    given = server.credentials
    credentials = (given.token,) if given.token else (given.username, given.password)
    host = tcp_host or server.host
    port = tcp_port or (server.port if isinstance(server, CachePortServer) else DEFAULT_PORT)
    load = _Load(mode, keys, pipeline, host, port, credentials, server.db or 0)
    result = asyncio.run(_run(load, conns, duration))
    _print(result, duration, pipeline, as_json)
    if result.errors:
        raise Failed(
            f"{result.errors} replies were wrong; the first: {result.first_error}", _WRONG_REPLIES
        )


@dataclass(frozen=True, slots=True)
class _Load:
    mode: str
    keys: int
    pipeline: int
    host: str
    port: int
    credentials: tuple[str, ...]
    db: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                writer.write(b"PING\n")
                answer = await reader.readline()
                if answer == b"ERR auth_required\n":
                    writer.write(("\t".join(("AUTH", *self.credentials)) + "\n").encode())
                    answer = await reader.readline()
                if self.db and answer in _WELCOME:
                    writer.write(b"SELECT\t%d\n" % self.db)
                    answer = await reader.readline()
        except (OSError, TimeoutError) as error:
            why = getattr(error, "strerror", None) or "it does not answer"
            where = f"{self.host}:{self.port}"
            raise Failed(f"{where} cannot be reached: {why}", UNAVAILABLE) from None
        if answer == b"ERR auth_failed\n":
            raise Failed("the server says: ERR auth_failed", NOT_AUTHORISED)
        if answer not in _WELCOME:
            said = answer.decode("latin-1").strip() or "nothing"
            raise Failed(f"the server says: {said}", REFUSED)
        return reader, writer

    def batch(self) -> tuple[bytes, list[bytes]]:
        """Return the bytes of requests, and the expected reply to each."""
        requests, replies = [], []
        for _ in range(self.pipeline):
            key = random.randrange(self.keys)  # noqa: S311 - load, not a secret
            is_put = self.mode == "put" or (self.mode == "mix" and random.random() < 0.1)  # noqa: S311
            if is_put:
                requests.append(
                    b"PUT\tbench:%d\t60000\tbench,b:%d\t%b\n" % (key, key % 100, _VALUE)
                )
                replies.append(b"OK\n")
            else:
                requests.append(b"GET\tbench:%d\n" % key)
                replies.append(b"VALUE\t%b\n" % _VALUE)
        return b"".join(requests), replies


async def _run(load: _Load, conns: int, duration: float) -> _Result:
    reader, writer = await load.connect()
    for start in range(0, load.keys, 500):
        some = range(start, min(start + 500, load.keys))
        writer.write(
            b"".join(b"PUT\tbench:%d\t60000\tbench,b:%d\t%b\n" % (n, n % 100, _VALUE) for n in some)
        )
        for _ in some:
            if await reader.readline() != b"OK\n":
                raise Failed("the server does not store the values", _WRONG_REPLIES)
    writer.close()
    connections = [await load.connect() for _ in range(conns)]
    result = _Result()
    begin = time.perf_counter()
    workers = [
        asyncio.create_task(_work(load, *connection, begin + duration, result))
        for connection in connections
    ]
    await _show_progress(begin, duration)
    await asyncio.gather(*workers)
    return result


async def _show_progress(begin: float, duration: float) -> None:
    steps = max(int(duration * 10), 1)
    with click.progressbar(
        length=steps, label="loading", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        for step in range(1, steps + 1):
            await asyncio.sleep(max(begin + duration * step / steps - time.perf_counter(), 0))
            bar.update(1)


async def _work(
    load: _Load,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    end: float,
    result: _Result,
) -> None:
    try:
        while (begin := time.perf_counter()) < end:
            requests, replies = load.batch()
            writer.write(requests)
            for place, expected in enumerate(replies):
                async with asyncio.timeout(10):
                    reply = await reader.readline()
                if reply == expected:
                    result.operations += 1
                elif reply:
                    result.add_errors(reply[:60].decode("latin-1").strip())
                else:
                    result.add_errors("the connection was closed", len(replies) - place)
                    return
            result.latencies.append(time.perf_counter() - begin)
    except (OSError, TimeoutError) as error:
        result.add_errors(str(error) or "no reply in 10 s", load.pipeline)
    finally:
        writer.close()


def _print(result: _Result, duration: float, pipeline: int, as_json: bool) -> None:
    ordered = sorted(result.latencies)

    def milliseconds(share: float) -> float:
        if not ordered:
            return 0.0
        return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 3)

    told: dict[str, Any] = {
        "operations": result.operations,
        "errors": result.errors,
        "operations_per_second": round(result.operations / duration),
        "batch": pipeline,
        "p50_ms": milliseconds(0.5),
        "p90_ms": milliseconds(0.9),
        "p99_ms": milliseconds(0.99),
        "p999_ms": milliseconds(0.999),
        "max_ms": milliseconds(1.0),
    }
    if as_json:
        print_json(told)
    else:
        print_rows(("what", "value"), list(told.items()), "nothing")
