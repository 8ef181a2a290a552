"""Checks before the start: what is wrong with the settings, or has no effect."""

from __future__ import annotations

import os
import resource
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.conch.ssh.keys import Key

from tagcache.config.loading import load
from tagcache.config.passwords import hash_password
from tagcache.errors import ConfigurationError
from tagcache.model.tag_rules import TagRule
from tagcache.server import preflight
from tagcache.server.manhole.keys import KeyFileError, host_key, read_authorized_keys
from tagcache.server.net.endpoints import Target, targets
from tests.helpers import settings_with

HASHED = hash_password("own", secrets.token_bytes)


def check(**sections: Any) -> list[str]:
    configuration = replace(load(None, {}), settings=settings_with(**sections))
    return preflight.Preflight().check(configuration)


def faults(**sections: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        check(**sections)
    return list(caught.value.faults)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    """Settings of a manhole that can be started."""
    key = host_key(tmp_path / "client")
    (tmp_path / "authorized").write_bytes(key.public().toString("OPENSSH"))
    return {
        "enabled": True,
        "authorized_keys_file": str(tmp_path / "authorized"),
        "host_key_file": str(tmp_path / "host"),
    }


def test_the_defaults_are_fine() -> None:
    assert check() == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_the_default_password_is_not_for_other_machines(host: str) -> None:
    told = faults(server={"host": host})
    assert [fault.split(" ")[0] for fault in told] == ["server.tcp_port", "server.http_port"]
    for way_out in ("server.host = 127.0.0.1", "TAGCACHE_PASSWORD", "require_tcp_auth = true"):
        assert all(way_out in fault for fault in told)
    hashed = hash_password("password", secrets.token_bytes)
    assert faults(server={"host": host}, authentication={"password": hashed})
    assert faults(server={"host": host}, security={"require_tcp_auth": True})


def test_an_endpoint_string_is_not_a_way_around_it() -> None:
    assert faults(server={"tcp_port": "tcp:1984"})
    (fault,) = faults(server={"tcp_port": "tcp:1984:interface=10.0.0.1"})
    assert "interface=127.0.0.1 in the endpoint string" in fault
    assert "server.host = 127.0.0.1" not in fault
    assert check(server={"tcp_port": "unix:/run/x"}) == []


def test_a_socket_of_systemd_is_not_a_way_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "targets", lambda endpoint: [Target("systemd", "0.0.0.0")])
    told = faults(server={"tcp_port": "systemd:domain=INET:index=0"})
    assert "ListenStream= of the socket's unit" in told[0]


def test_a_port_that_is_open_to_everyone_is_reported() -> None:
    own = {"password": "own"}
    (notice,) = check(server={"host": "0.0.0.0"}, authentication=own)
    assert "open to everyone who can reach 0.0.0.0" in notice
    closed = {"require_tcp_auth": True}
    assert check(server={"host": "0.0.0.0"}, authentication=own, security=closed) == []


def test_an_endpoint_that_cannot_be_used_is_a_fault() -> None:
    (fault,) = faults(server={"tcp_port": "nope:1"})
    assert fault.startswith("server.tcp_port: 'nope:1' cannot be used")


def test_settings_without_effect_are_reported() -> None:
    (notice,) = check(server={"num_shards": 4})
    assert notice.startswith("server.num_shards = 4 has no effect")


def test_without_authentication_http_is_for_this_machine_only() -> None:
    assert check(security={"require_auth": False}) == []
    (fault,) = faults(
        server={"http_port": "tcp:80"},
        authentication={"password": "own"},
        security={"require_auth": False},
    )
    assert fault.startswith("security.require_auth = false, and server.http_port would be open")


def test_a_password_hash_that_cannot_be_used_is_reported() -> None:
    (fault,) = faults(authentication={"password": "scrypt$nonsense"})
    assert fault.startswith("authentication.password: is not a scrypt hash")


@pytest.mark.parametrize(
    ("text", "environ", "mode", "told"),
    [
        ("[authentication]\npassword = plain\n", {}, 0o600, ["in plain text;"]),
        ("[authentication]\npassword = plain\n", {}, 0o640, ["in plain text;"]),
        ("[authentication]\npassword = plain\n", {}, 0o644, ["in plain text;", "mode 0644"]),
        ("[authentication]\npassword = x\n", {"TAGCACHE_PASSWORD": "own"}, 0o644, []),
        (f"[authentication]\npassword = {HASHED}\n", {}, 0o644, []),
        ("[server]\ntcp_port = 5\n", {}, 0o644, []),
    ],
)
def test_a_plain_password_in_the_file_is_told(
    tmp_path: Path, text: str, environ: dict[str, str], mode: int, told: list[str]
) -> None:
    path = tmp_path / "a.conf"
    path.write_text(text)
    path.chmod(mode)
    notices = preflight.Preflight().check(load(path, environ))
    assert len(notices) == len(told)
    assert all(part in notice for part, notice in zip(told, notices, strict=True))
    assert not any("own" in notice or "= plain" in notice for notice in notices)


def test_the_password_of_an_engine_in_a_file_that_all_can_read_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("[engine]\nbackend = redis\nurl = redis://:hidden@127.0.0.1/0\n")
    path.chmod(0o604)
    (notice,) = preflight.Preflight().check(load(path, {}))
    assert "holds the password of engine.url in plain text" in notice
    assert "hidden" not in notice
    path.chmod(0o600)
    assert preflight.Preflight().check(load(path, {})) == []


def test_where_an_endpoint_leads_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    monkeypatch.setattr(
        preflight, "targets", lambda endpoint: looked_up.append(endpoint) or targets(endpoint)
    )
    once = preflight.Preflight()
    for _ in range(3):
        once.check(load(None, {}))
    assert len(looked_up) == 2
    assert not once.is_exposed(load(None, {}).settings)
    assert once.is_exposed(settings_with(server={"http_port": "tcp:80"}))


def test_tcp_options_on_a_unix_socket_are_reported() -> None:
    (notice,) = check(server={"tcp_port": "unix:/run/x"}, performance={"tcp_nodelay": False})
    assert notice.startswith("performance.tcp_nodelay has no effect on the UNIX socket")


def test_a_host_beside_an_endpoint_string_is_reported() -> None:
    endpoint = "tcp:1:interface=127.0.0.1"
    assert check(server={"tcp_port": endpoint, "host": "127.0.0.2"}) == []
    (notice,) = check(server={"tcp_port": endpoint, "http_port": endpoint, "host": "127.0.0.2"})
    assert notice.startswith("server.host has no effect")


def test_fast_open_that_the_kernel_forbids_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, count in ((False, 1), (True, 0)):
        monkeypatch.setattr(preflight, "_fast_open_allowed", lambda allowed=allowed: allowed)
        notices = check(performance={"fast_open_queue": 5})
        assert len([n for n in notices if "net.ipv4.tcp_fastopen" in n]) == count


def test_more_connections_than_open_files_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    (notice,) = check(performance={"max_connections": 5000})
    assert "this process may have 4096 open files" in notice
    assert check(performance={"max_connections": 4000}) == []


def test_the_limit_of_open_files_is_raised_as_far_as_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    preflight.raise_descriptor_limit(settings_with(performance={"max_connections": 500}))
    preflight.raise_descriptor_limit(settings_with(performance={"max_connections": 2000}))
    preflight.raise_descriptor_limit(settings_with(performance={"max_connections": 9000}))
    assert limits == [(2064, 4096), (4096, 4096)]


def test_a_log_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (fault,) = faults(logging={"file": str(tmp_path)})
    assert "is a directory" in fault
    (fault,) = faults(logging={"file": str(tmp_path / "nowhere" / "log")})
    assert "there is no directory" in fault
    assert check(logging={"file": str(tmp_path / "log")}) == []


def test_a_snapshot_file_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    def told(path: Path) -> list[str]:
        return faults(persistence={"snapshot_file": str(path)})

    assert told(tmp_path) == [f"persistence.snapshot_file: {tmp_path} is a directory"]
    os.mkfifo(tmp_path / "pipe")
    assert told(tmp_path / "pipe")[0].endswith("pipe is not a file")
    assert "there is no directory" in told(tmp_path / "nope" / "snapshot")[0]
    assert check(persistence={"snapshot_file": str(tmp_path / "snapshot")}) == []


def test_a_port_for_several_caches_is_refused() -> None:
    (fault,) = faults(performance={"reuse_port": True})
    assert fault.startswith("performance.reuse_port: with engine.backend = memory each process")
    assert check(performance={"reuse_port": True}, engine={"backend": "redis"}) == []


def test_the_wait_for_replicas_is_within_the_time_of_a_command() -> None:
    engine = {"backend": "redis", "timeout_ms": 500, "wait_ms": 500}
    assert check(engine={**engine, "wait_replicas": 0}) == []
    (fault,) = faults(engine={**engine, "wait_replicas": 1})
    assert fault == "engine.wait_ms must be less than engine.timeout_ms"


def test_an_interval_without_a_snapshot_file_is_reported() -> None:
    (notice,) = check(persistence={"snapshot_interval_seconds": 60.0})
    assert notice.startswith("persistence.snapshot_interval_seconds has no effect")


def test_snapshots_that_are_not_loaded_are_reported(tmp_path: Path) -> None:
    knobs = {"snapshot_file": str(tmp_path / "s"), "snapshot_interval_seconds": 60.0}
    (notice,) = check(persistence=knobs)
    assert "not loaded unless persistence.after_crash = load" in notice
    assert check(persistence={**knobs, "after_crash": "load"}) == []


def test_a_manhole_with_keys_is_fine(keys: dict[str, Any]) -> None:
    assert check(manhole=keys) == []
    assert not Path(keys["host_key_file"]).exists()


def test_a_manhole_without_its_files_is_refused() -> None:
    told = faults(manhole={"enabled": True})
    assert [fault.split(" ")[0] for fault in told] == [
        "manhole.authorized_keys_file",
        "manhole.host_key_file",
    ]


def test_a_manhole_for_other_machines_is_reported(keys: dict[str, Any]) -> None:
    (notice,) = check(manhole={**keys, "port": "tcp:2222"})
    assert "is open to other machines (all interfaces)" in notice


def test_a_manhole_without_its_extra_is_refused(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    assert faults(manhole=keys) == [
        "manhole.enabled needs the SSH extra: pip install 'tagcache-server[conch]'"
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "holds no public key"),
        (b"# only a comment\n", "holds no public key"),
        (b"garbage\n", "line 1 is not a public key"),
        (b"# one\nssh-ed25519 AAAAgarbage x\n", "line 2 is not a public key"),
        (None, "cannot be read"),
    ],
)
def test_authorized_keys_that_cannot_be_used(
    keys: dict[str, Any], content: bytes | None, why: str
) -> None:
    path = Path(keys["authorized_keys_file"])
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    (fault,) = faults(manhole=keys)
    assert why in fault


def test_options_before_an_authorized_key_are_refused(keys: dict[str, Any]) -> None:
    path = Path(keys["authorized_keys_file"])
    path.write_bytes(b'from="10.0.0.1" ' + path.read_bytes())
    with pytest.raises(KeyFileError, match="options before the key are not supported"):
        read_authorized_keys(path)


def test_several_authorized_keys(keys: dict[str, Any]) -> None:
    path = Path(keys["authorized_keys_file"])
    path.write_bytes(b"# mine\n" + path.read_bytes() + b"\n\n" + path.read_bytes())
    assert len(read_authorized_keys(path)) == 2


def test_a_host_key_is_created_for_its_owner_only_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "host"
    created = host_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert host_key(path) == created


def test_a_host_key_that_others_can_read_is_refused(keys: dict[str, Any]) -> None:
    path = Path(keys["host_key_file"])
    host_key(path)
    path.chmod(0o640)
    (fault,) = faults(manhole=keys)
    assert "can be read by others (mode 0640)" in fault
    with pytest.raises(KeyFileError):
        host_key(path)


def test_what_is_not_a_host_key_is_refused(keys: dict[str, Any], tmp_path: Path) -> None:
    path = Path(keys["host_key_file"])
    path.touch(0o600)
    path.write_bytes(b"garbage")
    assert "is not a private key" in faults(manhole=keys)[0]
    path.write_bytes(Key.fromFile(str(tmp_path / "client")).public().toString("OPENSSH"))
    assert "is a public key" in faults(manhole=keys)[0]
    nowhere = str(tmp_path / "nowhere" / "key")
    assert "there is no directory" in faults(manhole={**keys, "host_key_file": nowhere})[0]


def test_tag_rules_that_the_limits_refuse_are_named() -> None:
    rules = {"rules": (TagRule("posts", "post:{id}:*", ("post:{id}", "posts")),)}
    assert check(tag_rules=rules) == []
    assert faults(tag_rules=rules, cache={"max_key_length": 6, "max_tag_length": 5}) == [
        "tag_rules.posts: its keys have at least 7 bytes, and cache.max_key_length is 6",
        "tag_rules.posts: the tag post:{id} has at least 6 bytes, and cache.max_tag_length is 5",
    ]
    assert faults(tag_rules=rules, cache={"max_tags_per_entry": 1}) == [
        "tag_rules.posts: it has 2 tags, and cache.max_tags_per_entry is 1"
    ]
