"""Parse the query of ``engine.url``: options with their names in redis-py."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl


class BadUrl(ValueError):
    """``engine.url`` cannot be used; ``str(error)`` says why, without the password."""


def _file(path: str) -> str:
    try:
        with Path(path).open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def _one_of(**choices: Any) -> Callable[[str], Any]:
    def choose(text: str) -> Any:
        if text.lower() not in choices:
            raise ValueError("must be " + " or ".join(choices))
        return choices[text.lower()]

    return choose


def _ciphers(text: str) -> str:
    try:
        ssl.create_default_context().set_ciphers(text)
    except ssl.SSLError:
        raise ValueError("names no cipher that OpenSSL knows") from None
    return text


def _minimum(text: str) -> ssl.TLSVersion:
    versions = {"771": ssl.TLSVersion.TLSv1_2, "772": ssl.TLSVersion.TLSv1_3}
    if text not in versions:
        raise ValueError("must be 771 for TLS 1.2 or 772 for TLS 1.3")
    return versions[text]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be a number")
    return int(text)


_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_cert_reqs": _one_of(required="required", none="none"),
    "ssl_check_hostname": _one_of(true=True, false=False),
    "ssl_min_version": _minimum,
    "ssl_ciphers": _ciphers,
}


_SENTINEL: dict[str, Callable[[str], Any]] = {"sentinel_username": str, "sentinel_password": str}


def read_query(
    query: str, tls: bool, database: bool = False, sentinel: bool = False
) -> dict[str, Any]:
    """Return the query as keyword arguments for redis-py. Raises BadUrl for unknown options.

    Options that begin with ``ssl_`` are known if ``tls`` is true, ``db`` if ``database`` is, and
    those that begin with ``sentinel_`` if ``sentinel`` is.
    """
    known = {
        **(_TLS if tls else {}),
        **({"db": _number} if database else {}),
        **(_SENTINEL if sentinel else {}),
    }
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            if name in _TLS:
                raise BadUrl(f"{name} is only for rediss:// and rediss+cluster://")
            raise BadUrl(f"{name!r} is unknown; " + _what(known))
        if name in options:
            raise BadUrl(f"{name} is given twice")
        try:
            options[name] = known[name](text)
        except ValueError as error:
            raise BadUrl(f"{name}: {error}") from None
    _check_certificates(options)
    return options


def _what(known: dict[str, Any]) -> str:
    return (
        "options after the ? are: " + ", ".join(known) if known else "nothing may follow a ? here"
    )


def _check_certificates(options: dict[str, Any]) -> None:
    if options.get("ssl_cert_reqs") == "none":
        useless = {"ssl_ca_certs"} & set(options)
        if options.get("ssl_check_hostname"):
            useless.add("ssl_check_hostname=true")
        if useless:
            raise BadUrl(f"{min(useless)} has no effect with ssl_cert_reqs=none")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if "ssl_ca_certs" in options:
            context.load_verify_locations(options["ssl_ca_certs"])
    except ssl.SSLError:
        raise BadUrl(f"ssl_ca_certs: {options['ssl_ca_certs']} holds no certificates") from None
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if certificate is None:
        if key is not None:
            raise BadUrl("ssl_keyfile needs ssl_certfile")
        return
    try:
        # Without this argument, OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        raise BadUrl(
            f"ssl_certfile, ssl_keyfile: {certificate} and {key or 'the key in it'} are not a "
            "certificate and its key without a password"
        ) from None
