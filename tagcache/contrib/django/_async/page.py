"""One request for a page that is kept, under a lease, with the tags of what it is made of.

Django's CacheMiddleware decides what is looked up, and what may be kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async  # async only

from tagcache.client._async.computing import AwaitedComputation
from tagcache.client.compute_options import ComputeOptions
from tagcache.contrib.django.page_rules import ANSWERS, PageRules, log_not_kept
from tagcache.contrib.django.registry import is_uncommitted
from tagcache.errors import Refused
from tagcache.model.fetched import Found


class AsyncPage:
    """The look-ups of one request, and what is kept.

    Django keeps two entries for a page: the names of the headers that it varies on, and for each
    combination of these the response. ``_works`` has a computation for each that was looked up. If
    the names are not known, their lease is that of the page.
    """

    def __init__(self, cache: Any, rules: PageRules, request: Any) -> None:
        self._cache = cache
        self._rules = rules
        self._request = request
        self._works: dict[str, AwaitedComputation[Any]] = {}

    async def respond(self, view: Callable[[], Awaitable[Any]]) -> Any:
        """Return the response that is kept, or that of ``view``, which may be kept then."""
        try:
            found = await self._find()
            if found is None:
                found = await (self._compute(view) if self._works else view())
        finally:
            for work in self._works.values():
                await work.give_up()
        return found

    async def _find(self) -> Any:
        """Return the response that is kept; None if there is none."""
        rules = self._rules
        found = rules.process_request(self._request)
        while found is None and (asked := rules.answers.asked) is not None:
            rules.answers.tell(asked, await self._look_up(asked))
            found = rules.process_request(self._request)
        return found

    async def _work(self, key: str, options: ComputeOptions) -> AwaitedComputation[Any]:
        client = await self._cache.async_client()
        return AwaitedComputation(client, self._cache.make_and_validate_key(key), options)

    async def _look_up(self, key: str) -> Any:
        work = self._works[key] = await self._work(key, self._rules.options)
        return work.value if await work.look_up() else None

    async def _compute(self, view: Callable[[], Awaitable[Any]]) -> Any:
        async def answer() -> Any:
            try:
                response = await view()
                if callable(getattr(response, "render", None)):
                    render = response.render
                    render = sync_to_async(render)  # async only
                    response = await render()
            except ANSWERS as error:
                # Not a failure, for which an old page would be better.
                return error
            return response

        lead = list(self._works.values())[-1]
        response = await lead.produce(answer, self._rules.tags)
        if isinstance(response, ANSWERS):
            raise response
        if lead.found is Found.STALE and lead.token is None:
            return response
        response = self._rules.process_response(self._request, response)
        if self._rules.answers.kept and not is_uncommitted():
            try:
                await self._keep(lead)
            except Refused as error:
                log_not_kept(self._request, error)
        return response

    async def _keep(self, lead: AwaitedComputation[Any]) -> None:
        """Store the names of the headers and the response, if nothing was invalidated meanwhile."""
        (names_key, names, timeout), (page_key, response, _) = self._rules.answers.kept
        options = self._rules.options_for(timeout)
        if lead is self._works.get(page_key):
            lead._options = options
            await lead.store(response)
            lead.token = None
        elif lead is self._works.get(names_key):
            # From here to the store, the lease of the page stands for that of the names.
            page = self._works[page_key] = await self._work(page_key, options)
            is_there = await page.look_up(waits=False)
            page.tags = lead.tags
            lead._options = options
            if await lead.store(names) and not is_there:
                await page.store(response)
                page.token = None
            lead.token = None
        # They outlive the page, or each page would have to be found anew.
        client = await self._cache.async_client()
        name = self._cache.make_and_validate_key(names_key)
        await client.put(name, names, ttl=self._rules.names_seconds(timeout))
