"""Certificates of a test authority, for Redis and for its clients."""

from __future__ import annotations

from pathlib import Path

import trustme


class Certificates:
    """An authority, a server certificate for ``hosts``, and a client certificate, as PEM files."""

    def __init__(self, directory: Path, *hosts: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        self.authority = directory / "authority.pem"
        authority.cert_pem.write_to_path(self.authority)
        self.certificate, self.key = self._issue(authority, directory / "server", *hosts)
        self.client_certificate, self.client_key = self._issue(
            authority, directory / "client", "tagcache.example.org"
        )

    @staticmethod
    def _issue(authority: trustme.CA, place: Path, *hosts: str) -> tuple[Path, Path]:
        issued = authority.issue_cert(*hosts)
        certificate, key = place.with_suffix(".pem"), place.with_suffix(".key")
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    @property
    def server_options(self) -> list[str]:
        """Options of a redis-server that requires no client certificate."""
        return [
            *("--tls-cert-file", str(self.certificate)),
            *("--tls-key-file", str(self.key)),
            *("--tls-ca-cert-file", str(self.authority)),
            *("--tls-auth-clients", "no"),
        ]

    @property
    def cli_options(self) -> list[str]:
        """Options of a redis-cli that trusts the authority and has the client certificate."""
        return [
            *("--tls", "--insecure"),
            *("--cacert", str(self.authority)),
            *("--cert", str(self.client_certificate)),
            *("--key", str(self.client_key)),
        ]
