"""The configuration, snapshot and clients of version 0.1.0, with this server.

``tests/corpus/upgrade-0.1.0`` has the configuration file as it was installed, what that server
wrote when it was stopped, and what its blocking client sent and received meanwhile.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tagcache.client import Client
from tests.integration.running import RunningServer

OLD = Path(__file__).resolve().parents[1] / "corpus" / "upgrade-0.1.0"
Start = Callable[..., RunningServer]


def exchanges() -> list[tuple[bytes, bytes]]:
    """Return what the client sent, each with what it received for that."""
    steps = [json.loads(line) for line in (OLD / "client.jsonl").read_text("utf-8").splitlines()]
    sent = [step["send"].encode("latin-1") for step in steps[::2]]
    received = [step["receive"].encode("latin-1") for step in steps[1::2]]
    return list(zip(sent, received, strict=True))


def configured(**changed: object) -> str:
    """Return the configuration file with free ports, and with other values."""
    text = (OLD / "tagcache.conf").read_text("utf-8")
    for knob, value in {"tcp_port": 0, "http_port": 0, **changed}.items():
        text, count = re.subn(rf"(?m)^{knob} = .*$", f"{knob} = {value}", text)
        assert count == 1, knob
    return text


def test_its_configuration_is_used_without_a_notice(start: Start) -> None:
    server = start(config=configured())
    assert server.ask(b"PING") == b"PONG\n"
    # Only the password is complained about, which is in that file as it was installed.
    told = [line for line in server.text().splitlines() if " warn " in line]
    assert [line for line in told if "in plain text" not in line] == []


def test_its_client_is_answered_as_before(start: Start) -> None:
    server = start(config=configured())
    with server.connect() as client:
        for sent, expected in exchanges():
            client.send(sent)
            received = b"".join(client.line() for _ in range(expected.count(b"\n")))
            assert in_any_order(received) == in_any_order(expected), sent
        client.send(b"QUIT\n")
        assert client.rest() == b"OK\n"


def in_any_order(reply: bytes) -> bytes | list[bytes]:
    """Keys of a tag never had an order."""
    head, _, keys = reply.partition(b"\t")
    return sorted(keys.strip().split(b",")) if head == b"KEYS" else reply


@pytest.mark.memory_engine("snapshots")
def test_its_snapshot_is_loaded_by_name(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    shutil.copy(OLD / "snapshot", file)
    # A snapshot of that version does not tell whether it is of a clean stop.
    empty = start(config=configured(snapshot_file=file))
    assert empty.ask(b"GET\tnumber") == b"NF\n"
    assert "after_crash = load" in empty.text()
    empty.process.kill()
    empty.process.wait()
    shutil.copy(OLD / "snapshot", file)
    config = configured(snapshot_file=file).replace(
        "[persistence]\n", "[persistence]\nafter_crash = load\n"
    )
    server = start(config=config)
    with Client(port=server.port, timeout=60) as client:
        assert client.get("text") == "Grüße\tund\nmehr"
        assert client.get("object") == {"a": [1, None, "x\ny"]}
        assert client.get("number") == 42
        assert client.get("lives") == "long"
        assert client.keys_by_tag("lang:de") == ["text"]
    with Client(port=server.port, timeout=60, serde="pickle") as client:
        assert client.get("bytes") == b"\x00\xff\n\t"
        assert client.invalidate_tag("t") == 3
