"""manage.py tagcache: invalidate tags, show counters, flush a cache of the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.cache import InvalidCacheBackendError
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tagcache.client.arguments import Mode
from tagcache.contrib.connecting import AnyClient, Connecting
from tagcache.contrib.django.caches import tagged_cache
from tagcache.errors import ClientError


class Command(BaseCommand):
    """Errors of the server are never ignored here, whatever OPTIONS say."""

    help = "Invalidates tags in a TagCache of CACHES, shows its counters, or flushes it."

    def add_arguments(self, parser: CommandParser) -> None:
        parsers = parser.add_subparsers(dest="action", required=True, metavar="action")
        invalidate = parsers.add_parser(
            "invalidate", help="remove the entries with any of the tags"
        )
        invalidate.add_argument("tags", nargs="+", metavar="tag")
        invalidate.add_argument("--all", action="store_true", help="those with all of the tags")
        invalidate.add_argument(
            "--soft", action="store_true", help="let entries that have a grace become stale"
        )
        stats = parsers.add_parser("stats", help="show the counters since the server's start")
        flush = parsers.add_parser("flush", help="remove all entries, of any prefix and version")
        flush.add_argument(
            "--no-input", "--noinput", action="store_false", dest="asks", help="do not ask"
        )
        for each in (invalidate, stats, flush):
            each.add_argument("--cache", default="default", help="an alias in CACHES (default)")

    def handle(self, **options: Any) -> None:
        actions: dict[str, Callable[[AnyClient, dict[str, Any]], None]] = {
            "invalidate": self._invalidate,
            "stats": self._stats,
            "flush": self._flush,
        }
        try:
            client = self._client(options["cache"])
            try:
                actions[options["action"]](client, options)
                for address in getattr(client, "down", ()):
                    self.stderr.write(f"{address} is away; it is flushed before it is used again")
            finally:
                client.close()
        except (ClientError, ImproperlyConfigured, InvalidCacheBackendError) as error:
            raise CommandError(str(error)) from error

    def _client(self, alias: str) -> AnyClient:
        cache = tagged_cache(alias)
        if cache is None:
            raise CommandError(f"CACHES[{alias!r}] is a DummyCache, which keeps nothing")
        given = cache._connecting
        changes = {"ignore_exc": False, "on_error": None}
        return Connecting(given.urls, {**given.options, **changes}).client()

    def _invalidate(self, client: AnyClient, options: dict[str, Any]) -> None:
        mode: Mode = "all" if options["all"] else "any"
        removed = client.invalidate_tags(options["tags"], mode, soft=options["soft"])
        self.stdout.write(f"{removed} entries {'are stale' if options['soft'] else 'removed'}")

    def _stats(self, client: AnyClient, options: dict[str, Any]) -> None:
        found = client.stats()
        self.stdout.write(
            f"hits: {found.hits}\nmisses: {found.misses}\nhit ratio: {found.hit_ratio:.1%}\n"
            f"puts: {found.puts}\ninvalidations: {found.invalidations}"
        )

    def _flush(self, client: AnyClient, options: dict[str, Any]) -> None:
        if options["asks"]:
            self.stdout.write(
                "This removes all entries of the cache, those of other sites as well."
            )
            if input("Type 'yes' to continue: ") != "yes":
                raise CommandError("nothing was removed")
        self.stdout.write(f"{client.flush()} entries removed")
