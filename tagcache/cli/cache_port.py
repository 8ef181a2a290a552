"""Talk to the server over its cache port, for ``tagcache://`` URLs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

import click
from zope.interface import implementer

from tagcache.cli.api import REFUSED, UNAVAILABLE, Credentials, Failed, IServer, unauthorised
from tagcache.client.connection import Connection
from tagcache.client.making import requests_for
from tagcache.client.options import Options
from tagcache.client.replies import read_json
from tagcache.client.requests import PING, Batch, Request, log_in, select
from tagcache.errors import (
    AuthenticationFailed,
    BadArgument,
    ClientError,
    Refused,
    Unavailable,
    UnexpectedReply,
)
from tagcache.wire.resp import request as write

SCHEMES = ("tagcache", "tagcaches", "unix")
_TIMEOUT = 30.0

T = TypeVar("T")
Fields = Mapping[str, Any]


@implementer(IServer)
class CachePortServer:
    """A server with a cache port, over one connection.

    ``url`` is a URL of the Python clients, without username and password; its ``key_prefix`` goes
    before every key, and its database is used unless ``db`` is given. Commands that the port does
    not have fail with a hint at HTTP. Raises click.UsageError for a URL that cannot be used.
    """

    def __init__(self, url: str, credentials: Credentials, db: int | None = None) -> None:
        given = {} if db is None else {"db": db}
        try:
            self._options = Options.from_url(url, serde="bytes", timeout=_TIMEOUT, **given)
        except BadArgument as error:
            raise click.UsageError(str(error)) from None
        self.url = url
        self.host = self._options.host
        self.port = self._options.port
        self.credentials = credentials
        self.db: int | None = self._options.db
        self._requests = requests_for(self._options)
        self._connection: Connection | None = None
        self._answers: dict[str, Callable[[Fields], Any]] = {
            "POST /put": self._put,
            "POST /add": self._add,
            "POST /incr": lambda body: self._count(body, self._requests.increment),
            "POST /decr": lambda body: self._count(body, self._requests.decrement),
            "POST /touch": self._touch,
            "POST /invalidate/keys": self._invalidate_keys,
            "POST /invalidate/tags": self._invalidate_tags,
            "POST /flush": lambda _: {"count": self._ask(self._requests.flush())},
            "GET /keys-by-tag": self._keys_by_tag,
            "GET /stats": self._stats,
            "GET /info": lambda _: self._ask(self._requests.info()),
            "GET /connections": lambda _: {"connections": self._ask(self._requests.clients())},
            "GET /slowlog": self._slow_log,
            "GET /health": lambda _: {"status": "ok" if self._ask(PING) else ""},
        }

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        answer = self._answers.get(f"{method} {path}")
        try:
            if answer is not None:
                return answer(body or query or {})
            if method == "GET" and path.startswith("/get/"):
                return self._get(unquote(path.removeprefix("/get/")))
        except ClientError as error:
            raise _failed(self.url, error) from None
        except UnicodeError:
            raise click.UsageError("keys, tags and values must be UTF-8 text") from None
        raise click.UsageError(
            f"the cache port of {self.url} does not support this command; "
            "use the server's HTTP port: --url http://HOST:8080"
        )

    def _connected(self) -> Connection:
        if self._connection is None:
            # Log in before selecting the database.
            connection = Connection(self._options.changed({"db": 0}))
            connection.open()
            given = self.credentials
            secrets = (given.token,) if given.token else (given.username, given.password)
            try:
                PING.read(connection.exchange(PING.payload, 1)[0])
            except AuthenticationFailed:
                request = log_in(*secrets)
                request.read(connection.exchange(request.payload, 1)[0])
            if self._options.db:
                request = select(self._options.db)
                request.read(connection.exchange(request.payload, 1)[0])
            self._connection = connection
        return self._connection

    def _ask(self, request: Request[T]) -> T:
        return request.read(self._connected().exchange(request.payload, 1)[0])

    def _ask_all(self, batch: Batch[T]) -> T:
        requests = batch.requests
        payload = b"".join(each.payload for each in requests)
        replies = self._connected().exchange(payload, len(requests))
        return batch.conclude(
            [each.read(reply) for each, reply in zip(requests, replies, strict=True)]
        )

    def _stats(self, _: Fields) -> Any:
        told = self._ask(self._requests.info())
        (mine,) = (each for each in told["databases"] if each["db"] == self._options.db)
        return {**told["cache"], **mine}

    def _get(self, key: str) -> Any:
        value = self._ask(self._requests.get(key))
        if value is None:
            return {"error": "not_found"}
        try:
            return {"value": value.decode()}
        except UnicodeDecodeError:
            return {"value_base64": b64encode(value).decode()}

    def _put(self, body: Fields) -> Any:
        request = self._requests.put(
            body["key"], body["value"].encode(), tags=body["tags"], ttl=_seconds(body)
        )
        self._ask(request)
        return {"ok": True, "ttl_ms": body.get("ttl_ms") or None}

    def _add(self, body: Fields) -> Any:
        request = self._requests.add(
            body["key"], body["value"].encode(), tags=body["tags"], ttl=_seconds(body)
        )
        return {
            "ok": True,
            "added": self._ask(request),
            "ttl_ms": body.get("ttl_ms") or None,
        }

    def _count(self, body: Fields, operation: Callable[..., Request[int]]) -> Any:
        request = operation(body["key"], body["by"], tags=body["tags"], ttl=_seconds(body))
        try:
            value = self._ask(request)
        except Refused as error:
            if " " not in error.code:
                raise
            # The value cannot be incremented. HTTP reports that in words, too.
            return {"ok": False, "error": error.code}
        return {"ok": True, "ttl_ms": body.get("ttl_ms") or None, "value": value}

    def _touch(self, body: Fields) -> Any:
        touched = self._ask(self._requests.touch(body["key"], _seconds(body)))
        return {"ok": True, "touched": touched}

    def _invalidate_keys(self, body: Fields) -> Any:
        return {"count": self._ask_all(self._requests.delete_many(body["keys"]))}

    def _invalidate_tags(self, body: Fields) -> Any:
        return {"count": self._ask(self._requests.invalidate_tags(body["tags"], body["mode"]))}

    def _keys_by_tag(self, query: Fields) -> Any:
        return {"keys": self._ask(self._requests.keys_by_tag(query["tag"]))}

    def _slow_log(self, query: Fields) -> Any:
        payload = write(b"TAG.SLOWLOG", b"%d" % query["limit"])
        request: Request[Any] = Request(payload, read_json, None)
        return {"slow": self._ask(request)}


def _seconds(body: Fields) -> float | None:
    milliseconds = body.get("ttl_ms")
    return milliseconds / 1000 if milliseconds else None


def _failed(url: str, error: ClientError) -> click.ClickException:
    """Return the error of the command for an error of the client."""
    if isinstance(error, BadArgument):
        return click.UsageError(str(error))
    if isinstance(error, AuthenticationFailed):
        return unauthorised()
    if isinstance(error, UnexpectedReply):
        return Failed(
            f"{url} does not answer as a cache port ({error}); for an HTTP port use http://",
            UNAVAILABLE,
        )
    if isinstance(error, Unavailable):
        return Failed(f"{url} cannot be reached: {error}", UNAVAILABLE)
    if isinstance(error, Refused):
        code = UNAVAILABLE if error.code == "rate_limited" else REFUSED
        return Failed(error.code.replace("_", " "), code)
    return Failed(str(error), REFUSED)
