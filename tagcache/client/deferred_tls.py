"""TLS for DeferredClient; needs ``tagcache-server[tls]``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from zope.interface import implementer

from tagcache.client.options import Options
from tagcache.errors import BadArgument

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """For ``tls_verify = false``: encrypts, but accepts any server."""

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(CertificateOptions().getContext(), None)


def wrapped(endpoint: Any, options: Options) -> IStreamClientEndpoint:
    """Return the endpoint with TLS over it. Raises BadArgument."""
    name = options.tls_server_name or options.host
    if not options.tls_verify:
        creator: Any = _Unverified()
    elif options.tls_ca_file is None:
        creator = optionsForClientTLS(name)
    else:
        try:
            content = Path(options.tls_ca_file).read_bytes()
            found = [Certificate.loadPEM(each) for each in _CERTIFICATE.findall(content)]
        except (OSError, SSL.Error) as error:
            raise BadArgument(
                f"tls_ca_file={options.tls_ca_file} cannot be used: {error}"
            ) from error
        creator = optionsForClientTLS(name, trustRoot=trustRootFromCertificates(found))
    return wrapClientTLS(creator, endpoint)
