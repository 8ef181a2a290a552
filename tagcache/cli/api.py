"""Talking to a server's HTTP API, with errors that become exit codes."""

from __future__ import annotations

import http.client
import json
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import click

NOT_DONE, NOT_AUTHORISED, NOT_REACHABLE = 1, 3, 4


class Failed(click.ClickException):
    """Ends the command with one line on standard error and an exit code."""

    def __init__(self, message: str, exit_code: int = NOT_DONE) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # of which click has a class variable

    def show(self, file: Any = None) -> None:
        click.echo(f"tagcache: {self.message}", err=True)


@dataclass(frozen=True, slots=True)
class Api:
    """The server to talk to; ``url`` is like ``http://127.0.0.1:8080``."""

    url: str
    username: str
    password: str
    token: str | None
    timeout: float = 30.0

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the JSON that the server answers; raises Failed for anything but a 200."""
        parts = urlsplit(self.url)
        try:
            parts.port  # noqa: B018 - looked at for what it raises
        except ValueError as error:
            raise click.UsageError(f"{self.url}: {error}") from None
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise click.UsageError("the token holds characters that no token has")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.UsageError(f"{self.url} is not an http:// or https:// URL")
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = parts.path.rstrip("/") + path + (f"?{urlencode(given)}" if given else "")
        headers = {"Authorization": self._authorization(), "Accept": "application/json"}
        content = None
        if body is not None:
            content = _encode(json.dumps(body, ensure_ascii=False))
            headers["Content-Type"] = "application/json"
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self.timeout
            )
        else:
            connection = http.client.HTTPConnection(
                parts.hostname, parts.port, timeout=self.timeout
            )
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except ssl.SSLError as error:
            raise Failed(f"{self.url}: TLS failed: {error.reason}", NOT_REACHABLE) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Failed(f"{self.url} can not be reached: {why}", NOT_REACHABLE) from None
        except ValueError:
            raise Failed(f"{self.url} does not answer like a TagCache", NOT_REACHABLE) from None
        finally:
            connection.close()
        if response.status != 200:
            _refuse(response.status, answer)
        return answer

    def _authorization(self) -> str:
        if self.token:
            return f"Bearer {self.token}"
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()


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
        raise Failed("not authorised: user name, password or token is wrong", NOT_AUTHORISED)
    if error == "too_many_failures" or status == 403:
        raise Failed(detail or error, NOT_AUTHORISED)
    raise Failed(f"{error.replace('_', ' ')}: {detail}" if detail else error or f"HTTP {status}")
