"""The options of all clients, from code, a URL or a file."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict, get_type_hints
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from tagcache.client.values import MAX_BYTES
from tagcache.errors import BadArgument, ClientError
from tagcache.model.interfaces import ISerde
from tagcache.sockopts import SocketOptions

DEFAULT_PORT = 1984
_SCHEMES = ("tagcache", "tagcaches", "unix")
# A month.
LONGEST_SECONDS = 2_678_400
# A server may allow fewer databases.
_LARGEST_DB = 255
# The options that stand before the ? of a URL.
_IN_FRONT = ("host", "port", "path", "tls", "username", "password")
_SWITCHES = {"1": True, "true": True, "yes": True, "on": True}
_SWITCHES |= {"0": False, "false": False, "no": False, "off": False}


class OptionFields(TypedDict, total=False):
    """The fields of Options, for keyword arguments."""

    host: str
    port: int
    path: str | None
    tls: bool
    tls_ca_file: str | None
    tls_verify: bool
    tls_server_name: str | None
    username: str | None
    password: str | None
    db: int
    timeout: float | None
    connect_timeout: float | None
    pool_size: int
    pool_timeout: float
    health_check_seconds: float
    breaker_seconds: float | None
    serde: str | ISerde
    serde_secret: str | None
    compress_over: int | None
    max_value_bytes: int
    key_prefix: str
    ignore_exc: bool
    on_error: Callable[[Any], object] | None
    tcp_nodelay: bool | None
    tcp_keepalive_seconds: int | None
    tcp_keepalive_interval_seconds: int | None
    tcp_keepalive_probes: int | None
    tcp_user_timeout_ms: int | None
    send_buffer_bytes: int | None
    receive_buffer_bytes: int | None


@dataclass(frozen=True, slots=True)
class Options:
    """Where the server is, and how to talk to it. Raises BadArgument.

    ``path`` is the path of a UNIX socket, which replaces ``host`` and ``port``. ``db`` is the
    number of the database, which every connection selects.

    ``timeout`` is how long, in seconds, a command may take from sending to the whole reply, and
    ``connect_timeout`` how long connecting to each address may take; None: no limit. Of several
    commands that are sent together, each may take ``timeout``. ``pool_size`` is the maximum number
    of connections (with asyncio, of each event loop); when all are in use, callers wait in order
    of arrival for ``pool_timeout`` seconds (0: they do not wait). A connection that was idle for
    ``health_check_seconds`` is tested with PING before it is used. A server that fails is
    considered unavailable for ``breaker_seconds`` at first (None: half of ``timeout``; 0: never),
    and twice as long each time, up to 30 s.

    ``serde`` is ``json``, ``text``, ``bytes``, ``msgpack``, ``msgspec``, ``pickle``,
    ``signed_pickle`` (with ``serde_secret``) or an ISerde. Values of more than ``compress_over``
    bytes are compressed (None: never), and decompressed up to ``max_value_bytes``. ``key_prefix``
    goes before every key. With ``ignore_exc``, an unavailable cache, a full one and a value that
    cannot be read are misses; ``on_error`` is called with each such ClientError.

    The socket options are those of the server's ``[performance]`` section; None keeps the
    system's default.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str | None = None
    tls: bool = False
    tls_ca_file: str | None = None
    tls_verify: bool = True
    tls_server_name: str | None = None
    username: str | None = None
    password: str | None = None
    db: int = 0
    timeout: float | None = 1.0
    connect_timeout: float | None = 1.0
    pool_size: int = 8
    pool_timeout: float = 30.0
    health_check_seconds: float = 30.0
    breaker_seconds: float | None = None
    serde: str | ISerde = "json"
    serde_secret: str | None = None
    compress_over: int | None = None
    max_value_bytes: int = MAX_BYTES
    key_prefix: str = ""
    ignore_exc: bool = False
    on_error: Callable[[Any], object] | None = None
    tcp_nodelay: bool | None = True
    tcp_keepalive_seconds: int | None = None
    tcp_keepalive_interval_seconds: int | None = None
    tcp_keepalive_probes: int | None = None
    tcp_user_timeout_ms: int | None = None
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
                raise BadArgument(
                    f"{name} must be more than 0 seconds, at most {LONGEST_SECONDS}, or None:"
                    f" {seconds}"
                )
        for name in ("pool_timeout", "health_check_seconds"):
            if not 0 <= getattr(self, name) <= LONGEST_SECONDS:
                raise BadArgument(
                    f"{name} must be from 0 to {LONGEST_SECONDS} seconds: {getattr(self, name)}"
                )
        if not 0 <= (self.breaker_seconds or 0) <= LONGEST_SECONDS:
            raise BadArgument(
                f"breaker_seconds must be from 0 to {LONGEST_SECONDS}, or None:"
                f" {self.breaker_seconds}"
            )
        if self.max_value_bytes < 1:
            raise BadArgument(f"max_value_bytes must be at least 1: {self.max_value_bytes}")
        if self.pool_size < 1:
            raise BadArgument(f"pool_size must be at least 1: {self.pool_size}")
        if not 0 <= self.db <= _LARGEST_DB:
            raise BadArgument(f"db must be from 0 to {_LARGEST_DB}: {self.db}")
        if not 0 < self.port < 65536:
            raise BadArgument(f"port must be from 1 to 65535: {self.port}")
        if self.tls and self.path is not None:
            raise BadArgument("there is no TLS over a UNIX socket")
        if not self.tls and (self.tls_ca_file or self.tls_server_name or not self.tls_verify):
            raise BadArgument(
                "tls_ca_file, tls_verify and tls_server_name have no effect without TLS"
            )
        if (self.username is None) != (self.password is None):
            raise BadArgument("username and password must be given together")

    def __repr__(self) -> str:
        told = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name not in ("password", "serde_secret")
            and getattr(self, field.name) != field.default
        )
        return f"Options({told})"

    @property
    def address(self) -> str:
        """The address of the server, for messages."""
        return address_for_people(self.path or (self.host, self.port))

    @property
    def health_check_timeout(self) -> float | None:
        """How long an idle connection may take to answer PING, in seconds; None: no limit.

        It is at most half of ``connect_timeout``: the other half is for a new connection.
        """
        given = [self.timeout, self.connect_timeout and self.connect_timeout / 2]
        return min((seconds for seconds in given if seconds is not None), default=None)

    @property
    def socket_options(self) -> SocketOptions:
        """The socket options of every connection."""
        return SocketOptions(
            **{field.name: getattr(self, field.name) for field in fields(SocketOptions)}
        )

    def ignored(self, error: ClientError) -> None:
        """Report an error that counts as a miss to ``on_error``."""
        if self.on_error is not None:
            self.on_error(error)

    def tls_context(self) -> ssl.SSLContext:
        """Return the context for TLS connections. Raises BadArgument."""
        return _tls_context(self.tls_ca_file, self.tls_verify)

    @classmethod
    def from_url(cls, url: str, **changes: Any) -> Options:
        """Read ``tagcache://user:password@host:port/db?timeout=0.5&pool_size=8``.

        ``tagcaches://`` is the same over TLS, ``unix:///path`` over a UNIX socket; with that, the
        database is ``?db=2``. Fields of this class follow the ``?``. Raises BadArgument.
        """
        parts = split_url(url)
        if parts.scheme not in _SCHEMES:
            raise BadArgument(
                f"the URL must begin with {', '.join(_SCHEMES)}, not {parts.scheme!r}"
            )
        found: dict[str, Any] = {}
        if parts.scheme == "unix":
            found["path"] = unquote(parts.path)
            if not found["path"] or parts.hostname:
                raise BadArgument("the URL of a UNIX socket has three slashes: unix:///path")
        else:
            if parts.path not in ("", "/"):
                found["db"] = _database(parts)
            found["tls"] = parts.scheme == "tagcaches"
            if parts.hostname:
                found["host"] = unquote(parts.hostname)
            if parts.port is not None:
                found["port"] = parts.port
        if parts.username is not None:
            found["username"] = unquote(parts.username)
            found["password"] = unquote(parts.password or "")
        given = parse_qsl(parts.query, keep_blank_values=True)
        source = f"the URL's {parts.scheme}://...?"
        if parts.fragment:
            raise BadArgument("the URL must not have a fragment (#)")
        for name, _ in given:
            if name in _IN_FRONT:
                raise BadArgument(f"{source} names {name}, which belongs before the ?")
        found |= _read(dict(given), source)
        return cls(**{**found, **changes})

    @classmethod
    def from_config(cls, file: str | Path, section: str = "client", **changes: Any) -> Options:
        """Read a section of an INI file: a ``url``, fields of this class, or both.

        Raises BadArgument.
        """
        from configobj import ConfigObj, ConfigObjError

        try:
            config = ConfigObj(
                str(file), file_error=True, interpolation=False, list_values=False, encoding="utf-8"
            )
        except (OSError, ConfigObjError, UnicodeDecodeError) as error:
            raise BadArgument(f"{file} cannot be read: {error}") from None
        given = config.get(section)
        if not isinstance(given, Mapping):
            raise BadArgument(f"{file} has no section [{section}]")
        rest = {name: _unquoted(str(text)) for name, text in given.items() if name != "url"}
        found = {**_read(rest, f"{file} [{section}]"), **changes}
        if "url" in given:
            return cls.from_url(_unquoted(str(given["url"])), **found)
        return cls(**found)

    def changed(self, changes: OptionFields) -> Options:
        """Return a copy of these options with ``changes``. Raises BadArgument."""
        return replace(self, **changes)


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL, with a valid port.

    Raises BadArgument with a message that has no part of the URL: if a character of the password
    is not escaped, any part may belong to it.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - the property raises ValueError
    except ValueError:
        raise BadArgument(
            "the URL cannot be read: a port is a number up to 65535, and / ? # [ ] in a password"
            " must be written as %2F %3F %23 %5B %5D"
        ) from None
    return parts


def _database(parts: SplitResult) -> int:
    """Return the number of the database in the path of a URL. Raises BadArgument."""
    number = parts.path[1:]
    if not (number.isascii() and number.isdigit() and len(number) <= len(str(_LARGEST_DB))):
        raise BadArgument("the path of the URL must be the number of a database, such as /2")
    if "db" in dict(parse_qsl(parts.query)):
        raise BadArgument("the URL names its database twice")
    return int(number)


def address_for_people(address: Any) -> str:
    """Return an address of the socket module in the usual notation."""
    if not isinstance(address, tuple):
        return f"unix:{address}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


# Cached, because reading the system's certificates takes tens of milliseconds.
@lru_cache(maxsize=16)
def _tls_context(ca_file: str | None, verify: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise BadArgument(f"tls_ca_file={ca_file} cannot be used: {error}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _read(given: Mapping[str, str], source: str) -> dict[str, Any]:
    """Convert options from text."""
    hints = get_type_hints(Options)
    found: dict[str, Any] = {}
    for name, text in given.items():
        if name not in hints or name == "on_error":
            raise BadArgument(f"{source} names {name}, which is not an option")
        try:
            found[name] = _value(text, hints[name])
        except ValueError:
            raise BadArgument(f"{source} has {name}={text!r}, which cannot be read") from None
    return found


def _value(text: str, hint: Any) -> Any:
    kinds = getattr(hint, "__args__", (hint,))
    if type(None) in kinds and text.lower() in ("", "none"):
        return None
    if bool in kinds:
        if text.lower() not in _SWITCHES:
            raise ValueError(text)
        return _SWITCHES[text.lower()]
    if str in kinds:
        return text
    return int(text) if int in kinds else float(text)
