"""The clients over TLS, and at a UNIX socket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.distributed.certificates import Certificates
from tests.distributed.redis_server import CLI, RedisServer
from tests.integration.running import TIMEOUT, RunningServer
from tests.outside.other_redis_clients.programs import NODE, PHP
from tests.outside.other_redis_clients.target import AGAINST_REDIS, HOST

pytestmark = pytest.mark.needs("redis-server", "redis-cli", "redis-benchmark", "node", "npm", "php")

# The ways of redis-cli and redis-benchmark to the server, and what a program is told of it.
Way = tuple[list[str], dict[str, str]]
Stop = Callable[[], object]


def over_tls(directory: Path) -> tuple[Way, Stop]:
    certificates = Certificates(directory, "localhost", HOST)
    if AGAINST_REDIS:
        redis = RedisServer(directory, tls=certificates)
        port, stop = redis.port, redis.stop
    else:
        key, chain = certificates.key, certificates.certificate
        endpoint = f"ssl:0:interface={HOST}:privateKey={key}:certKey={chain}"
        server = RunningServer(directory, {"server": {"tcp_port": endpoint}})
        port, stop = server.port, server.stop
    arguments = ["-h", HOST, "-p", str(port), "--tls", "--cacert", str(certificates.authority)]
    told = {"HOST": HOST, "PORT": str(port), "AUTHORITY": str(certificates.authority)}
    return (arguments, told), stop


def at_a_path(directory: Path) -> tuple[Way, Stop]:
    path = directory / "socket"
    stop: Stop
    if AGAINST_REDIS:
        stop = RedisServer(directory, socket=path).stop
    else:
        stop = RunningServer(directory, {"server": {"tcp_port": f"unix:{path}:mode=600"}}).stop
    return (["-s", str(path)], {"SOCKET": str(path)}), stop


@pytest.fixture(scope="module", params=[over_tls, at_a_path], ids=["TLS", "UNIX socket"])
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    way, stop = request.param(tmp_path_factory.mktemp("reach"))
    yield way
    stop()


def output(command: list[str], **environ: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, env={**os.environ, **environ}
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_redis_cli(way: Way) -> None:
    command = [CLI, *way[0]]
    assert output([*command, "set", "k", "v"]) == "OK\n"
    assert output([*command, "-3", "get", "k"]) == "v\n"


def test_redis_benchmark(way: Way) -> None:
    command = ["redis-benchmark", *way[0], "-q", "--csv", "-n", "100", "-P", "5", "-t", "set,get"]
    assert output(command).count("\n") == 3


@pytest.mark.parametrize("module", ["ioredis", "redis"])
def test_node(way: Way, module: str, node_modules: None) -> None:
    assert output(["node", str(NODE / "reach.mjs"), module], **way[1]) == "true\n"


def test_php(way: Way, php_packages: None) -> None:
    assert output(["php", str(PHP / "reach.php")], **way[1]) == "true\n"
