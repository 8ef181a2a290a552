"""One request for a cached page: under a lease, with the tags of what the view reads.

Django's CacheMiddleware decides what to look up, and what may be cached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async  # async only

from tagcache.client._async.computing import AwaitedComputation
from tagcache.client.compute_options import ComputeOptions
from tagcache.contrib.django.page_rules import (
    ANSWERS,
    MARK_SECONDS,
    NOT_KEPT,
    PageRules,
    log_not_kept,
)
from tagcache.contrib.django.registry import is_uncommitted
from tagcache.errors import Refused
from tagcache.model.fetched import Found


class AsyncPage:
    """The look-ups of one request, and the response to cache.

    Django stores two kinds of entries for a page: the names of the headers on which it varies, and
    the response for each combination of their values. ``_works`` has a computation for each that
    was looked up. If the names are not known, their lease serves for the page. Either may be
    replaced by a mark that the page must not be cached, so that nobody waits for another
    visitor's page.
    """

    def __init__(self, cache: Any, rules: PageRules, request: Any) -> None:
        self._cache = cache
        self._rules = rules
        self._request = request
        self._works: dict[str, AwaitedComputation[Any]] = {}
        self._is_marked = False

    async def respond(self, view: Callable[[], Awaitable[Any]]) -> Any:
        """Return the cached response, or that of ``view``, which is then cached if it may be."""
        try:
            found = await self._find()
            if found is None:
                found = await (self._make(view) if self._works else view())
        finally:
            for work in self._works.values():
                await work.give_up()
                work.leave()
        return found

    async def _find(self) -> Any:
        """Return the cached response; None if there is none."""
        rules = self._rules
        found = rules.process_request(self._request)
        while found is None and not self._is_marked and rules.answers.asked is not None:
            asked = rules.answers.asked
            rules.answers.tell(asked, await self._look_up(asked))
            found = rules.process_request(self._request)
        return found

    async def _work(self, key: str, options: ComputeOptions) -> AwaitedComputation[Any]:
        client = await self._cache.async_client()
        return AwaitedComputation(client, self._cache.make_and_validate_key(key), options)

    async def _look_up(self, key: str) -> Any:
        """Return the cached value, or None; then others wait if this caller gets the lease."""
        work = self._works[key] = await self._work(key, self._rules.options)
        if not await work.begin():
            return None
        self._is_marked = work.value == NOT_KEPT
        return None if self._is_marked else work.value

    async def _answer(self, view: Callable[[], Awaitable[Any]]) -> Any:
        """Return the rendered response, or an exception that Django turns into a response."""
        try:
            response = await view()
            if callable(getattr(response, "render", None)):
                render = response.render
                render = sync_to_async(render)  # async only
                response = await render()
        except ANSWERS as error:
            return error
        return response

    async def _make(self, view: Callable[[], Awaitable[Any]]) -> Any:
        lead = list(self._works.values())[-1]
        if self._is_marked:
            response = await self._answer(view)
        else:
            response = await lead.produce(lambda: self._answer(view), self._rules.tags)
            if lead.found is Found.STALE and lead.token is None:
                return response
        if not isinstance(response, ANSWERS):
            response = self._rules.process_response(self._request, response)
        if not self._is_marked and not is_uncommitted():
            await self._keep(lead)
        if isinstance(response, ANSWERS):
            raise response
        return response

    async def _keep(self, lead: AwaitedComputation[Any]) -> None:
        """Store the response, or a mark that it must not be cached."""
        try:
            if self._rules.answers.kept:
                await self._store(lead)
                return
        except Refused as error:
            log_not_kept(self._request, error)
        client = await self._cache.async_client()
        await client.put(lead._key, NOT_KEPT, ttl=MARK_SECONDS)

    async def _store(self, lead: AwaitedComputation[Any]) -> None:
        """Store the names of the headers and the response, if nothing was invalidated meanwhile."""
        (names_key, names, timeout), (page_key, response, _) = self._rules.answers.kept
        options = self._rules.options_for(timeout)
        if lead is self._works.get(page_key):
            lead._options = options
            await lead.store(response)
            lead.token = None
        elif lead is self._works.get(names_key):
            # The value depends on the names, so take the lease of the page before storing them.
            page = self._works[page_key] = await self._work(page_key, options)
            is_there = await page.look_up(waits=False)
            page.tags = lead.tags
            lead._options = options
            if await lead.store(names) and not is_there:
                await page.store(response)
                page.token = None
            lead.token = None
        # The names must outlive the page, or every look-up of the page would begin anew.
        client = await self._cache.async_client()
        name = self._cache.make_and_validate_key(names_key)
        await client.put(name, names, ttl=self._rules.names_seconds(timeout))
