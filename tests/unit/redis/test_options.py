"""``engine.url``: what it may say, what is refused, and what comes of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import SSLConnection

from tagcache.redis.connection import BadUrl, check_url, connect, without_password
from tagcache.redis.policy import PolicyCheck


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca.pem``, ``cert.pem``, ``key.pem``, the last two also as ``both.pem``, and ``text``."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("client.example.org")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(directory / "both.pem")
    (directory / "text").write_text("nothing of the kind")
    return directory


def arguments(url: str) -> dict[str, Any]:
    """What connections are made with."""
    servers = connect(url, 2.0, PolicyCheck(False))
    made = {**servers.dialer.options, "class": servers.dialer.connection_class}
    if servers.topology.nodes and servers.topology.nodes[0].port is None:
        made["path"] = servers.topology.nodes[0].host
    return made


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_tls_by_the_query(scheme: str, files: Path) -> None:
    url = (
        f"{scheme}://user:pa%2Fss@h:1?ssl_ca_certs={files}/ca.pem&ssl_certfile={files}/cert.pem"
        f"&ssl_keyfile={files}/key.pem&ssl_check_hostname=False&ssl_min_version=772"
        "&ssl_cert_reqs=required&ssl_ciphers=ECDHE%2BAESGCM"
    )
    check_url(url)
    made = arguments(url)
    assert made["class"] is SSLConnection
    assert (made["username"], made["password"]) == ("user", "pa/ss")
    assert made["ssl_ca_certs"] == f"{files}/ca.pem"
    assert (made["ssl_certfile"], made["ssl_keyfile"]) == (f"{files}/cert.pem", f"{files}/key.pem")
    assert made["ssl_check_hostname"] is False
    assert made["ssl_min_version"] is ssl.TLSVersion.TLSv1_3
    assert (made["ssl_cert_reqs"], made["ssl_ciphers"]) == ("required", "ECDHE+AESGCM")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "rediss+cluster"])
def test_only_engine_timeout_ms_limits_a_command(scheme: str) -> None:
    made = arguments(f"{scheme}://h:1")
    assert (made["socket_timeout"], made["socket_connect_timeout"]) == (None, 2.0)
    assert made["protocol"] == 2


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_certificates_are_checked_unless_told_otherwise(scheme: str) -> None:
    connection = SSLConnection(
        **{name: v for name, v in arguments(f"{scheme}://h:1").items() if name.startswith("ssl_")}
    )
    context = connection.ssl_context.get()
    assert context.check_hostname is True
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h",
        "redis://h/",
        "redis://[::1]:1/15",
        "redis://u:p@ss@h:1/0",
        "unix:///run/redis.sock",
        "unix://u:p@/run/redis.sock?db=3",
        "redis+cluster://u:p@a:1,b,[::1]:3",
        "rediss+cluster://a?ssl_check_hostname=false",
        "rediss://a?ssl_cert_reqs=none",
        "redis+sentinel://u:p@a:1,b/service/3",
        "rediss+sentinel://a/service?ssl_cert_reqs=none&sentinel_password=word",
    ],
)
def test_what_can_be_used(url: str) -> None:
    check_url(url)
    arguments(url)


def test_sentinels_have_a_user_of_their_own() -> None:
    url = "redis+sentinel://u:p@a:1,b/service/3?sentinel_username=s&sentinel_password=q"
    made = arguments(url)
    assert (made["username"], made["password"], made["db"]) == ("u", "p", 3)
    guides = connect(url, 2.0, PolicyCheck(False))._guides.options
    assert (guides["username"], guides["password"]) == ("s", "q")
    assert "db" not in guides


def test_a_database_of_a_socket() -> None:
    made = arguments("unix://u:p@/run/redis.sock?db=3")
    assert (made["path"], made["db"]) == ("/run/redis.sock", 3)
    assert (made["username"], made["password"]) == ("u", "p")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h", "must begin with redis://, rediss://"),
        ("redis://h/zero", "only the number of a database may follow"),
        ("redis://h/0/1", "only the number of a database may follow"),
        ("redis://h:66000", "a port is a number up to 65535"),
        ("redis://:secret/word@h:1", "write %2F"),
        ("redis://:secret#word@h:1", "write %23"),
        ("redis://[::1/0", "a port is a number"),
        ("unix://run", "names no socket"),
        ("redis+cluster://", "names no host"),
        ("redis+sentinel:///service", "names no host"),
        ("redis+sentinel://a:1", "the name of the service must follow"),
        ("redis+sentinel://a:1/service/x", "the name of the service must follow"),
        ("redis+cluster://a?sentinel_password=secret", "'sentinel_password' is unknown"),
        ("redis+cluster://a:x", "a port is a number"),
        ("redis+cluster://a:1/0", "nothing may follow the hosts"),
        # What redis-py would take here, and what would undo a knob or what answers are read by.
        ("redis://h?protocol=3", "'protocol' is unknown; nothing may follow a ? here"),
        ("redis://h?max_connections=1", "'max_connections' is unknown"),
        ("redis://h?decode_responses=1", "'decode_responses' is unknown"),
        (
            "rediss://h?password=secret",
            "'password' is unknown; options after the ? are: ssl_ca_certs",
        ),
        ("rediss://h?ssl_ca_cert=x", "'ssl_ca_cert' is unknown"),
        ("rediss+cluster://h?ssl_ca_cert=x", "'ssl_ca_cert' is unknown"),
        ("redis://h?ssl_check_hostname=true", "ssl_check_hostname is only for rediss://"),
        ("redis+cluster://h?ssl_ca_certs=x", "ssl_ca_certs is only for rediss://"),
        ("unix:///s?db=one", "db: must be a number"),
        ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs: /nowhere/ca.pem: No such file"),
        ("rediss+cluster://h?ssl_ca_certs=", "ssl_ca_certs: "),
        ("rediss://h?ssl_ca_certs={files}/text", "text holds no certificates"),
        ("rediss://h?ssl_certfile={files}/cert.pem", "are not a certificate and its key"),
        ("rediss://h?ssl_keyfile={files}/key.pem", "ssl_keyfile needs ssl_certfile"),
        (
            "rediss+cluster://h?ssl_certfile={files}/cert.pem&ssl_keyfile={files}/text",
            "are not a certificate and its key",
        ),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs: must be required or none"),
        ("rediss://h?ssl_check_hostname=2", "ssl_check_hostname: must be true or false"),
        ("rediss://h?ssl_min_version=1", "ssl_min_version: must be 771"),
        ("rediss://h?ssl_ciphers=ROT13", "ssl_ciphers: names no cipher that OpenSSL knows"),
        (
            "rediss://h?ssl_ciphers=HIGH&ssl_ciphers=ALL",
            "ssl_ciphers is given twice",
        ),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_ca_certs={files}/ca.pem",
            "ssl_ca_certs has no effect with ssl_cert_reqs=none",
        ),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true",
            "ssl_check_hostname=true has no effect",
        ),
    ],
)
def test_what_is_refused_and_why(url: str, why: str, files: Path) -> None:
    with pytest.raises(BadUrl) as caught:
        check_url(url.format(files=files))
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_certificate_and_its_key_in_one_file(files: Path) -> None:
    check_url(f"rediss://h?ssl_certfile={files}/both.pem")


@pytest.mark.timeout(10)
def test_a_key_with_a_password_is_refused_without_asking(files: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((files / "key.pem").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hush"),
    )
    (files / "locked.pem").write_bytes(locked)
    with pytest.raises(BadUrl, match="without a password"):
        check_url(f"rediss://h?ssl_certfile={files}/cert.pem&ssl_keyfile={files}/locked.pem")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:word@h:1/0", "redis://***@h:1/0"),
        ("redis://u:a@b/c@h", "redis://***@h"),
        ("redis+cluster://u:p@a:1,b:2", "redis+cluster://***@a:1,b:2"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
