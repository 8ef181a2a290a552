"""The rules of Django's CacheMiddleware for a request and its response. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.middleware.cache import CacheMiddleware
from django.utils.cache import patch_vary_headers

from tagcache.client.arguments import Duration, Tag, collected, ttl_ms
from tagcache.client.compute_options import ComputeOptions
from tagcache.errors import BadArgument, Refused

# Exceptions that are responses to the visitor.
ANSWERS = (Http404, PermissionDenied, SuspiciousOperation, BadRequest)

# The mark of a page that must not be cached, and how long it lasts.
NOT_KEPT = "this page is not kept"
MARK_SECONDS = 10

PageTags = Iterable[Tag] | Callable[..., Iterable[Tag]]

_log = logging.getLogger("tagcache.contrib")


class Answers:
    """Stands in for the cache of the middleware, and records what it does.

    Attributes:
        asked: the first key that was looked up and is not known yet.
        kept: the stored keys, values and timeouts in seconds.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self.kept: list[tuple[str, Any, float]] = []
        self._known: dict[str, Any] = {}

    def tell(self, key: str, value: Any) -> None:
        """Set the value of ``key``; None if it has none."""
        self._known[key] = value
        self.asked = None

    def get(self, key: str) -> Any:
        if self.asked is None and key not in self._known:
            self.asked = key
        return self._known.get(key)

    def set(self, key: str, value: Any, timeout: float) -> None:
        self.kept.append((key, value, timeout))


class PageRules(CacheMiddleware):
    """The middleware for one request, with the options of ``cache_page``."""

    # Replaces a property of CacheMiddleware.
    cache: Any = None

    def __init__(
        self,
        timeout: float | None,
        key_prefix: str | None,
        tags: tuple[Tag, ...],
        grace: Duration | None,
        wait: Duration | None,
    ) -> None:
        super().__init__(lambda request: None, page_timeout=timeout, key_prefix=key_prefix)
        self.answers = self.cache = Answers()
        self.tags = tags
        self.options = ComputeOptions(None, grace, wait)

    def process_response(self, request: Any, response: Any) -> Any:
        """Keep the response, if that is allowed; one of a session for its visitor only."""
        if request.META.get("CSRF_COOKIE_NEEDS_UPDATE"):
            # It has a token that forms of this visitor need, and no one else may have.
            return response
        if getattr(getattr(request, "session", None), "accessed", False):
            # SessionMiddleware adds the same header, but after the page is stored.
            patch_vary_headers(response, ("Cookie",))
        return super().process_response(request, response)

    def options_for(self, timeout: float) -> ComputeOptions:
        """Return the options for a page that is cached for ``timeout`` seconds."""
        return ComputeOptions(timeout, self.options.grace)

    def names_seconds(self, timeout: float) -> float:
        """Return how many seconds to keep the names of the headers of such a page."""
        return 2 * timeout + (ttl_ms(self.options.grace_seconds) or 0) / 1000


def page_tags(
    tags: PageTags, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tag, ...]:
    """Return the tags of a page. Raises BadArgument, or TypeError if this is no request.

    ``tags`` are format strings over ``request`` and the parameters of the URL, or a callable that
    gets what the view gets.
    """
    if not hasattr(request, "META"):
        raise TypeError(
            "cache_page decorates functions of a request; a method needs method_decorator"
        )
    if callable(tags):
        return collected(tags(request, *args, **kwargs))
    found = []
    for tag in collected(tags):
        try:
            found.append(
                tag.format(*args, request=request, **kwargs) if isinstance(tag, str) else tag
            )
        except (LookupError, AttributeError, ValueError) as error:
            known = ", ".join(["request", *kwargs])
            raise BadArgument(f"tags={tag!r}: {error!r}; a tag may name {known}") from None
    return tuple(found)


def log_not_kept(request: Any, error: Refused) -> None:
    """Log that the server has no room for a page or its tags."""
    _log.warning("the page %s is not cached: %s", request.path, error)
