"""A certificate for TLS endpoints, from our own authority."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


def tls_endpoint(directory: Path) -> tuple[str, ssl.SSLContext]:
    """An ``ssl:`` endpoint string for a free port, and a client context that trusts it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    key, chain = directory / "key.pem", directory / "cert.pem"
    certificate.private_key_pem.write_to_path(str(key))
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}", context
