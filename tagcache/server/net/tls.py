"""TLS for all ``ssl:`` endpoints: versions, cipher suites and ALPN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from zope.interface import implementer

# Forward secrecy and AEAD. All suites of TLS 1.3 have both, and are not part of this list.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_OPTIONS = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_RENEGOTIATION  # type: ignore[attr-defined]  # not in the stubs
    | SSL.OP_NO_TICKET
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | SSL.OP_SINGLE_ECDH_USE
)


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """Makes the TLS side of accepted connections.

    ``options`` is Twisted's CertificateOptions, with the key and the certificates.
    ``factory`` lists the protocols for ALPN, if it is an IProtocolNegotiationFactory; otherwise
    there are none.
    """

    def __init__(self, options: Any, factory: IProtocolFactory) -> None:
        negotiation = IProtocolNegotiationFactory(factory, None)
        protocols = () if negotiation is None else tuple(negotiation.acceptableProtocols())
        self._context = _context(options, protocols)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def check_options(options: Any) -> None:
    """Raise ValueError if an endpoint string has options that ServerTls does not support."""
    if options.method != SSL.TLS_METHOD or options.dhParameters is not None:
        raise ValueError(
            "sslmethod and dhParameters have no use: the server speaks TLS 1.2 with ECDHE, and "
            "TLS 1.3"
        )


def _context(options: Any, protocols: Sequence[bytes]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    # Idle connections release their buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(options.certificate.to_cryptography())
    context.use_privatekey(options.privateKey.to_cryptography_key())
    context.check_privatekey()
    for certificate in options.extraCertChain:
        context.add_extra_chain_cert(certificate.to_cryptography())

    def choose(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
        # If the client offers no protocol that we know, serve it without ALPN. Refusing would
        # exclude clients that only list what they prefer.
        known = (each for each in protocols if each in offered)
        return next(known, SSL.NO_OVERLAPPING_PROTOCOLS)

    context.set_alpn_select_callback(choose)
    # Must come last: pyOpenSSL then considers the context used, and warns about changes.
    context.set_cipher_list(_CIPHERS)
    return context
