"""Views whose pages are cached until the objects on them change.

@cache_page(300, tags=["shop.product:{pk}"])
def show(request, pk): ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction

from tagcache.client.arguments import Duration, collected
from tagcache.contrib.django._async.page import AsyncPage
from tagcache.contrib.django._sync.page import Page
from tagcache.contrib.django.caches import tagged_cache
from tagcache.contrib.django.page_rules import PageRules, PageTags, page_tags

V = TypeVar("V", bound=Callable[..., Any])


def cache_page(
    timeout: float | None,
    *,
    cache: str | None = None,
    key_prefix: str | None = None,
    tags: PageTags = (),
    grace: Duration | None = None,
    wait: Duration | None = None,
) -> Callable[[V], V]:
    """Return a decorator for views, and for asynchronous ones: Django's, with tags.

    ``timeout`` (seconds), ``cache`` (an alias in CACHES) and ``key_prefix`` are those of Django's
    ``cache_page``, which also decides what may be cached. ``tags`` are format strings over the
    parameters of the URL and ``request``, or a callable that gets what the view gets. What the
    view reads, and ``cache_tag``, add tags. ``grace`` and ``wait`` are those of ``get_or_set``. A
    TemplateResponse is rendered at once. The view raises BadArgument for tags that cannot be made,
    ImproperlyConfigured if the cache has no tags.

        @cache_page(300, tags=["shop.product:{pk}"], grace=3600)
        def show(request, pk): ...
    """
    alias = cache or "default"
    made_of = tags if callable(tags) else collected(tags)

    def decorate(view: V) -> V:
        def rules(request: Any, *args: Any, **kwargs: Any) -> PageRules:
            given = page_tags(made_of, request, args, kwargs)
            return PageRules(timeout, key_prefix, given, grace, wait)

        def respond(request: Any, *args: Any, **kwargs: Any) -> Any:
            if (kept_in := tagged_cache(alias)) is None:
                return view(request, *args, **kwargs)
            page = Page(kept_in, rules(request, *args, **kwargs), request)
            return page.respond(lambda: view(request, *args, **kwargs))

        async def arespond(request: Any, *args: Any, **kwargs: Any) -> Any:
            if (kept_in := tagged_cache(alias)) is None:
                return await view(request, *args, **kwargs)
            page = AsyncPage(kept_in, rules(request, *args, **kwargs), request)
            return await page.respond(lambda: view(request, *args, **kwargs))

        wrapper: Any = arespond if iscoroutinefunction(view) else respond
        return cast(V, functools.wraps(view)(wrapper))

    return decorate
