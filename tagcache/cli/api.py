"""Talk to the server over HTTP, and turn errors into exit codes."""

from __future__ import annotations

import http.client
import json
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import click
from zope.interface import Attribute, Interface, implementer

# Exit codes, besides 0, and 2, which click uses for wrong usage.
NOT_FOUND, NOT_AUTHORISED, UNAVAILABLE, REFUSED = 1, 3, 4, 5


Command = TypeVar("Command", bound=Callable[..., Any])


class Failed(click.ClickException):
    """Ends the command with one line on standard error and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # a class variable of click's

    def show(self, file: Any = None) -> None:
        click.echo(f"tagcache: {self.message}", err=True)


def unauthorised() -> Failed:
    """Return the error for credentials that the server rejected."""
    return Failed(
        "not authorised: username, password or token is wrong; set them with --username and "
        "--password, or with TAGCACHE_USERNAME and TAGCACHE_PASSWORD",
        NOT_AUTHORISED,
    )


class IServer(Interface):
    """The server to which a command sends requests.

    Requests and answers are those of the HTTP API, over any protocol.
    """

    url: str = Attribute("The URL of the server, without a password, for messages.")
    host: str = Attribute("The host as given: a name or an address.")
    credentials: Credentials = Attribute("The credentials to send.")
    db: int | None = Attribute("The number of the database; None: no number is sent.")

    def call(
        method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the JSON answer of the server. Raises Failed for anything but success."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Username and password, or a token in their place."""

    username: str
    password: str = field(repr=False)
    token: str | None = field(repr=False)


@implementer(IServer)
@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server with an HTTP port; ``url`` is like ``http://127.0.0.1:8080``.

    Calls concern database ``db``; None: no number is sent, which means 0. The port must be valid.
    Raises click.UsageError for a URL or token that cannot be used.
    """

    url: str
    credentials: Credentials
    db: int | None = None
    timeout: float = 30.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if not parts.hostname:
            raise click.UsageError(f"{self.url} names no host")
        if parts.query:
            raise click.UsageError(f"{self.url}: an HTTP URL cannot have options after a ?")

    @property
    def host(self) -> str:
        """The name or address in the URL."""
        return urlsplit(self.url).hostname or ""

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        parts = urlsplit(self.url)
        every = {**(query or {}), "db": self.db}
        given = {name: value for name, value in every.items() if value is not None}
        target = parts.path.rstrip("/") + path + (f"?{urlencode(given)}" if given else "")
        headers = {"Authorization": self._authorization(), "Accept": "application/json"}
        content = None
        if body is not None:
            content = _encode(json.dumps(body, ensure_ascii=False))
            headers["Content-Type"] = "application/json"
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(self.host, parts.port, timeout=self.timeout)
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failed(self._unavailable_because(error), UNAVAILABLE) from None
        finally:
            connection.close()
        if response.status != 200:
            _fail(response.status, answer)
        return answer

    def _unavailable_because(self, error: Exception) -> str:
        """Return the message for a failed exchange."""
        match error:
            case ssl.SSLCertVerificationError():
                return (
                    f"{self.url}: the certificate is not trusted: {error.verify_message}; to trust "
                    "it, name its file, or that of its issuer, in SSL_CERT_FILE"
                )
            case ssl.SSLError():
                return f"{self.url}: TLS failed: {error.reason}"
            case http.client.RemoteDisconnected() | http.client.BadStatusLine():
                return (
                    f"{self.url} does not answer over HTTP; for a port of the line protocol use "
                    "tagcache://, for one with TLS https://"
                )
            case OSError() | http.client.HTTPException():
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                return f"{self.url} cannot be reached: {reason}"
        return f"{self.url} does not answer like a TagCache server"

    def _authorization(self) -> str:
        given = self.credentials
        if given.token:
            if not (given.token.isascii() and given.token.isprintable()):
                raise click.UsageError("the token has characters that a token cannot have")
            return f"Bearer {given.token}"
        return "Basic " + b64encode(f"{given.username}:{given.password}".encode()).decode()


def pass_server(command: Command) -> Command:
    """Pass a command the server that the options name, as its first argument.

    It is created only for a command that needs it: ``tagcache server`` must ignore a wrong URL.
    """

    @click.pass_obj
    @wraps(command)
    def with_server(connect: Callable[[None], IServer], *args: Any, **more: Any) -> Any:
        return command(connect(None), *args, **more)

    return with_server  # type: ignore[return-value]  # click passes arguments by name


def pass_database(command: Command) -> Command:
    """Add ``--db`` to a command, and pass it the server with that database as its first argument.

    The calls of the command then concern that database.
    """

    @click.option(
        "--db", type=click.IntRange(min=0), help="The database; default: that of the URL, or 0."
    )
    @click.pass_obj
    @wraps(command)
    def with_server(connect: Callable[[int | None], IServer], *args: Any, **more: Any) -> Any:
        return command(connect(more.pop("db")), *args, **more)

    return with_server  # type: ignore[return-value]  # click passes arguments by name


def segment(key: str) -> str:
    """Return a key as one segment of a path."""
    return quote(_encode(key), safe="")


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise click.UsageError("keys, tags and values must be UTF-8 text") from None


def _fail(status: int, answer: Any) -> NoReturn:
    error = answer.get("error", "") if isinstance(answer, dict) else ""
    detail = answer.get("detail", "") if isinstance(answer, dict) else ""
    if status == 401:
        raise unauthorised()
    if error == "too_many_failures" or status == 403:
        raise Failed(detail or error, NOT_AUTHORISED)
    raise Failed(
        f"{error.replace('_', ' ')}: {detail}" if detail else error or f"HTTP {status}",
        # 429: too many requests; 503: the engine is unavailable.
        UNAVAILABLE if status in (429, 503) else REFUSED,
    )
