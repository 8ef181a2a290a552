"""Asking a server: what the commands need of one, over HTTP, and errors that become exit codes."""

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

# Exit codes, besides 0 and click's own 2 for what was typed wrong.
NOT_FOUND, NOT_AUTHORISED, UNAVAILABLE, REFUSED = 1, 3, 4, 5


Command = TypeVar("Command", bound=Callable[..., Any])


class Failed(click.ClickException):
    """Ends the command with one line on standard error and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # of which click has a class variable

    def show(self, file: Any = None) -> None:
        click.echo(f"tagcache: {self.message}", err=True)


def unauthorised() -> Failed:
    """Return what ends a command whose credentials were not taken."""
    return Failed(
        "not authorised: user name, password or token is wrong; give them with --username and "
        "--password, or with TAGCACHE_USERNAME and TAGCACHE_PASSWORD",
        NOT_AUTHORISED,
    )


class IServer(Interface):
    """The server that a command asks.

    The requests and answers are those of the HTTP API, whatever protocol carries them.
    """

    url: str = Attribute("Where the server is, for messages; without a password.")
    host: str = Attribute("Its name or address, as it was given.")
    credentials: Credentials = Attribute("What it is asked with.")

    def call(
        method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the JSON that the server answers; raises Failed for anything but success."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password, or a token instead."""

    username: str
    password: str = field(repr=False)
    token: str | None = field(repr=False)


@implementer(IServer)
@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server that is asked over HTTP; ``url`` is like ``http://127.0.0.1:8080``.

    Its port was looked at. Raises click.UsageError for a URL or token that cannot be used.
    """

    url: str
    credentials: Credentials
    timeout: float = 30.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if not parts.hostname:
            raise click.UsageError(f"{self.url} names no host")
        if parts.query:
            raise click.UsageError(f"{self.url}: a URL of HTTP takes no options after a ?")

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
        token = self.credentials.token
        if token and not (token.isascii() and token.isprintable()):
            raise click.UsageError("the token holds characters that no token has")
        given = {name: value for name, value in (query or {}).items() if value is not None}
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
        except ssl.SSLCertVerificationError as error:
            raise Failed(
                f"{self.url}: the certificate is not trusted: {error.verify_message}; to trust it, "
                "name its file, or that of who signed it, in SSL_CERT_FILE",
                UNAVAILABLE,
            ) from None
        except ssl.SSLError as error:
            raise Failed(f"{self.url}: TLS failed: {error.reason}", UNAVAILABLE) from None
        except (http.client.RemoteDisconnected, http.client.BadStatusLine):
            raise Failed(
                f"{self.url} does not answer over HTTP; for a port of the line protocol give "
                "tagcache://, for one with TLS https://",
                UNAVAILABLE,
            ) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Failed(f"{self.url} cannot be reached: {why}", UNAVAILABLE) from None
        except ValueError:
            raise Failed(f"{self.url} does not answer like a TagCache", UNAVAILABLE) from None
        finally:
            connection.close()
        if response.status != 200:
            _refuse(response.status, answer)
        return answer

    def _authorization(self) -> str:
        given = self.credentials
        if given.token:
            return f"Bearer {given.token}"
        return "Basic " + b64encode(f"{given.username}:{given.password}".encode()).decode()


def pass_server(command: Command) -> Command:
    """Give a command, as its first argument, the server that the options lead to.

    It is made only where a command needs one: ``tagcache server`` must not mind a strange URL.
    """

    @click.pass_obj
    @wraps(command)
    def with_server(connect: Callable[[], IServer], *args: Any, **more: Any) -> Any:
        return command(connect(), *args, **more)

    return with_server  # type: ignore[return-value]  # click calls it by what it has noted


def segment(key: str) -> str:
    """Return a key as one segment of a path."""
    return quote(_encode(key), safe="")


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise click.UsageError("keys, tags and values must be UTF-8 text") from None


def _refuse(status: int, answer: Any) -> NoReturn:
    error = answer.get("error", "") if isinstance(answer, dict) else ""
    detail = answer.get("detail", "") if isinstance(answer, dict) else ""
    if status == 401:
        raise unauthorised()
    if error == "too_many_failures" or status == 403:
        raise Failed(detail or error, NOT_AUTHORISED)
    raise Failed(
        f"{error.replace('_', ' ')}: {detail}" if detail else error or f"HTTP {status}",
        # 429: too many requests; 503: the engine is away.
        UNAVAILABLE if status in (429, 503) else REFUSED,
    )
