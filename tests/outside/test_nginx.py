"""The configuration of docs/howto/nginx.md, with a real nginx."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import trustme

from tagcache import Client
from tests.distributed.redis_server import free_port
from tests.integration.running import RunningServer, eventually

TEXT = (Path(__file__).parents[2] / "docs" / "howto" / "nginx.md").read_text(encoding="utf-8")
HTTP, STREAM = re.findall(r"```nginx\n(.*?)```", TEXT, re.DOTALL)
(KNOBS,) = re.findall(r"```ini\n(.*?)```", TEXT, re.DOTALL)
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
ORIGIN = "https://cache.example.com"

pytestmark = pytest.mark.needs("nginx")


class Proxied(NamedTuple):
    server: RunningServer
    http_port: int
    cache_port: int
    authority: Path


@pytest.fixture
def proxied(start: Callable[..., RunningServer], tmp_path: Path) -> Iterator[Proxied]:
    """A server, with nginx in front of both ports."""
    server = start(config=KNOBS)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("cache.example.com")
    certificate.private_key_pem.write_to_path(tmp_path / "cache.example.com.key")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "cache.example.com.pem", append=True)
    http_port, cache_port = free_port(), free_port()
    blocks = f"http {{ access_log off;\n{HTTP} }}\n{STREAM}"
    for old, new in {
        "listen 443": f"listen 127.0.0.1:{http_port}",
        "listen 1985": f"listen 127.0.0.1:{cache_port}",
        "127.0.0.1:8080": f"127.0.0.1:{server.http_port}",
        "127.0.0.1:1984": f"127.0.0.1:{server.port}",
        "/etc/ssl": str(tmp_path),
    }.items():
        blocks = blocks.replace(old, new)
    # Built in, or a package of its own.
    module = f"load_module {STREAM_MODULE};\n" if STREAM_MODULE.exists() else ""
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"{module}daemon off; master_process off; pid {tmp_path}/nginx.pid;\nevents {{}}\n{blocks}"
    )
    command = ["nginx", "-e", str(tmp_path / "log"), "-p", str(tmp_path), "-c", str(config)]
    with subprocess.Popen(command) as process:
        try:
            yield Proxied(server, http_port, cache_port, tmp_path / "ca.pem")
        finally:
            process.terminate()


def client_of(proxied: Proxied) -> httpx.Client:
    context = ssl.create_default_context(cafile=proxied.authority)
    return httpx.Client(
        base_url=f"https://127.0.0.1:{proxied.http_port}",
        headers={"host": "cache.example.com"},
        verify=context,
        auth=("admin", "password"),
    )


def is_up(client: httpx.Client, sni: dict[str, str]) -> bool:
    try:
        return client.get("/health", extensions=sni).status_code == 200
    except httpx.ConnectError:
        return False


def test_the_dashboard_can_be_used_through_nginx(proxied: Proxied) -> None:
    sni = {"sni_hostname": "cache.example.com"}
    with client_of(proxied) as client:
        eventually(lambda: is_up(client, sni))
        body = {"key": "page:1", "value": "Hello", "tags": ["post:1"]}
        for origin, status in ((ORIGIN, 200), ("https://other.example.com", 403)):
            answer = client.post("/put", json=body, headers={"origin": origin}, extensions=sni)
            assert answer.status_code == status, answer.text
        assert client.get("/get/page:1", extensions=sni).json() == {"value": "Hello"}
        other = client.get("/health", headers={"host": "other.example.com"}, extensions=sni)
        assert other.status_code == 421
        with client.stream("GET", "/events", extensions=sni) as stream:
            assert next(stream.iter_lines()).startswith("event: hello")


def test_clients_use_the_cache_port_through_nginx(proxied: Proxied) -> None:
    with client_of(proxied) as http:
        eventually(lambda: is_up(http, {"sni_hostname": "cache.example.com"}))
    url = f"tagcaches://127.0.0.1:{proxied.cache_port}"
    with Client.from_url(
        url, tls_ca_file=str(proxied.authority), tls_server_name="cache.example.com"
    ) as client:
        assert client.put("page:1", "Hello", tags=["post:1"])
        assert client.invalidate_tag("post:1") == 1
