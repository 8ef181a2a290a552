"""TLS with other programs (curl, Chromium, httpx, OpenSSL) and with our command line."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.browser.chromium import chromium, options
from tests.integration.conftest import server, start
from tests.integration.running import TIMEOUT, RunningServer
from tests.integration.tls import tls_endpoint

__all__ = ["server", "start"]

TAGCACHE = Path(sys.executable).with_name("tagcache")
CHOSEN = re.compile(r"^New, (\S+), Cipher is (\S+)$", re.MULTILINE)


class Secured:
    """A server with TLS on both ports, and the certificate that a client has to trust."""

    def __init__(self, server: RunningServer, authority: Path, context: ssl.SSLContext) -> None:
        self.server = server
        self.authority = authority
        self.context = context
        self.url = f"https://localhost:{server.http_port}"

    def s_client(self, port: int, *more: str, said: str = "") -> str:
        """The output of ``openssl s_client`` that connects and sends something."""
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *more]
        command += ["-servername", "localhost", "-CAfile", str(self.authority)]
        done = subprocess.run(
            command, input=said, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        return done.stdout + done.stderr


@pytest.fixture
def secured(start: Callable[..., RunningServer], tmp_path: Path) -> Secured:
    endpoint, context = tls_endpoint(tmp_path)
    running = start({"server": {"tcp_port": endpoint, "http_port": endpoint}})
    return Secured(running, tmp_path / "ca.pem", context)


@pytest.mark.needs("curl")
@pytest.mark.parametrize("how", [[], ["--http1.1"], ["--no-alpn"], ["--http2"]])
def test_curl(secured: Secured, how: list[str]) -> None:
    command = ["curl", "-sS", "-v", "--cacert", str(secured.authority), *how]
    command += ["-u", "admin:password", f"{secured.url}/stats"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert '"hits"' in done.stdout
    assert "HTTP/1.1 200 OK" in done.stderr
    if how != ["--no-alpn"]:
        assert "server accepted http/1.1" in done.stderr


@pytest.mark.needs("chromium")
def test_chromium(secured: Secured) -> None:
    with chromium() as browser:
        context = browser.new_context(ignore_https_errors=True, **options())
        page = context.new_page()
        # The address, not the name: a browser without a network does not resolve names.
        answer = page.goto(f"https://127.0.0.1:{secured.server.http_port}/")
        assert answer is not None
        assert answer.status == 200
        page.get_by_label("User").fill("admin")
        page.get_by_label("Password").fill("password")
        page.get_by_role("button", name="Log in").click()
        page.locator(".pill", has_text="Live").wait_for()
        context.close()


@pytest.mark.parametrize("http2", [False, True])
def test_httpx(secured: Secured, http2: bool) -> None:
    trusted = ssl.create_default_context(cafile=str(secured.authority))
    login = ("admin", "password")
    with httpx.Client(verify=trusted, http2=http2, auth=login, timeout=TIMEOUT) as client:
        answer = client.get(f"{secured.url}/stats")
    assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")


def test_our_command_line(secured: Secured, tmp_path: Path) -> None:
    environ = {
        "TAGCACHE_URL": secured.url,
        "SSL_CERT_FILE": str(secured.authority),
        "HOME": str(tmp_path),
    }
    for arguments in (["put", "k", "v"], ["get", "key", "k"], ["stats"]):
        done = subprocess.run(
            [str(TAGCACHE), *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env=environ,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_our_command_line_says_how_to_trust_a_certificate(secured: Secured) -> None:
    done = subprocess.run(
        [str(TAGCACHE), "--url", secured.url, "stats"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 4
    assert "the certificate is not trusted: " in done.stderr
    assert "SSL_CERT_FILE" in done.stderr


@pytest.mark.parametrize(
    ("offered", "door", "chosen"),
    [
        (["h2", "http/1.1"], "http", "http/1.1"),
        (["http/1.1"], "http", "http/1.1"),
        (["h2"], "http", None),
        (["http/1.0"], "http", None),
        (["tagcache"], "http", None),
        ([], "http", None),
        (["http/1.1"], "cache", None),
        (["tagcache", "h2"], "cache", None),
        ([], "cache", None),
    ],
)
def test_whatever_is_offered_the_connection_is_made(
    secured: Secured, offered: list[str], door: str, chosen: str | None
) -> None:
    if offered:
        secured.context.set_alpn_protocols(offered)
    running = secured.server
    port = running.http_port if door == "http" else running.port
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as raw,
        secured.context.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        assert sock.selected_alpn_protocol() == chosen
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n" if door == "http" else b"PING\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200" if door == "http" else b"PONG\n")


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(secured: Secured, version: str) -> None:
    # Without the second option the client itself would refuse the version.
    told = secured.s_client(secured.server.http_port, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in told
    assert "Cipher is (NONE)" in told


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    "suites", ["AES128-GCM-SHA256", "ECDHE+AES:!AESGCM:!AESCCM", "AES256-SHA", "ECDHE+AESCCM8"]
)
def test_suites_without_forward_secrecy_or_aead_are_refused(secured: Secured, suites: str) -> None:
    for port in (secured.server.port, secured.server.http_port):
        told = secured.s_client(port, "-tls1_2", "-cipher", suites)
        assert "alert handshake failure" in told
        assert "Cipher is (NONE)" in told


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("arguments", "version", "suite"),
    [
        (
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            "TLSv1.2",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        (
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
            "TLSv1.2",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        (["-tls1_3"], "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        ([], "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_what_is_negotiated(
    secured: Secured, arguments: list[str], version: str, suite: str
) -> None:
    for port in (secured.server.port, secured.server.http_port):
        told = secured.s_client(port, *arguments)
        assert CHOSEN.findall(told) == [(version, suite)]
        assert "Verify return code: 0 (ok)" in told


@pytest.mark.needs("openssl")
def test_a_client_does_not_renegotiate(secured: Secured) -> None:
    # A line with a single R makes s_client renegotiate.
    told = secured.s_client(secured.server.port, "-tls1_2", said="R\nPING\n")
    assert "RENEGOTIATING" in told
    assert "no renegotiation" in told
    assert "PONG" not in told
