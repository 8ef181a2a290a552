"""Lets the transport of a connection answer plain HTTP requests without the protocol.

The native core recognizes a request by a head that came before: a look-up differs from it only in
the key, and a store only in the length of the body. It decides nothing about headers.
"""

from __future__ import annotations

from typing import Any

from tagcache import native
from tagcache.native import HTTP, NativeAnswers
from tagcache.server.http.endpoints.entries import plain_options
from tagcache.server.http.repeated import RepeatedHead
from tagcache.server.net.pump_transport import PumpTransport
from tagcache.server.observe.traffic import NATIVE_ROUTES

LOOK_UP_PATH, STORE_PATH = b"/get/", b"/put"
_ANSWERS = NativeAnswers(HTTP, tuple(NATIVE_ROUTES), plain_options, plain_options)


class NativeRequests:
    """The requests that the transport of one connection may answer.

    ``plain`` is the PlainRequests of the cache. A head that is given to it must have been accepted
    as it is: host, origin, credentials and type of content. It is valid before ``until``, in
    seconds of the monotonic clock, while ``revoked`` is empty.
    """

    def __init__(self, transport: PumpTransport, plain: Any) -> None:
        core: Any = native.core
        self._transport = transport
        self._plain = plain
        self._heads = core.HttpHeads()
        self._is_empty = True

    def repeat_look_up(self, repeated: RepeatedHead, revoked: list[None], until: float) -> None:
        """Answer look-ups with this head from now on."""
        self._heads.use_look_up(*repeated.around_key(LOOK_UP_PATH), revoked, until)
        self._is_empty = False

    def repeat_store(self, repeated: RepeatedHead, revoked: list[None], until: float) -> None:
        """Answer stores with this head from now on."""
        self._heads.use_store(*repeated.around_length(), revoked, until, repeated.max_body)
        self._is_empty = False

    def offer(self, ordinary: bool) -> None:
        """Let the transport answer the next requests if the connection is in an ordinary state."""
        if not ordinary or self._is_empty:
            self.stop()
        elif self._transport.answers is None:
            self._transport.answer(self._plain, _ANSWERS, self._heads)

    def stop(self) -> None:
        """Pass everything to the protocol."""
        if self._transport.answers is not None:
            self._transport.answer_nothing()

    def forget(self) -> None:
        """Pass everything to the protocol until a head is accepted again."""
        self._heads.forget()
        self._is_empty = True
        self.stop()
