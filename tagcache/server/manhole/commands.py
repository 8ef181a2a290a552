"""The names in a manhole session: the live objects, and commands that print tables."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from twisted.internet.defer import Deferred

from tagcache.config.settings import Settings
from tagcache.model.interfaces import IEngine
from tagcache.model.statistics import EngineTotals
from tagcache.model.views import Consistency, TagSize
from tagcache.server.service import TagCacheService, described
from tagcache.server.then import then
from tagcache.sockopts import SocketOptions, socket_of
from tagcache.tables import Report, table

_CONNECTION = (
    *("id", "listener", "peer", "age s", "idle s"),
    *("commands", "bytes in", "bytes out", "last verb"),
)


def namespace(service: TagCacheService) -> dict[str, Any]:
    """Return the names of a session."""
    commands, engine = Commands(service), service.databases[0]
    return {
        # An empty store is falsy.
        "cache": _Shared(engine) if engine.store is None else engine.store,
        "databases": service.databases,
        "config": _Config(service),
        "service": service,
        **{each.__name__: each for each in commands.all()},
    }


class Commands:
    """The commands; ``help`` shows their docstrings."""

    def __init__(self, service: TagCacheService) -> None:
        self._service = service
        self._databases = service.databases

    def all(self) -> tuple[Callable[..., Any], ...]:
        """Return every command, in the order of ``help``."""
        return (
            self.connections,
            self.sockopts,
            self.stats,
            self.in_use,
            self.top_tags,
            self.invalidate,
            self.check,
            self.kill,
            self.help,
        )

    def connections(self) -> Report:
        """who is connected"""
        now = self._service.connections.monotonic()
        rows = [
            (
                each.id,
                each.listener,
                each.peer,
                now - each.opened,
                now - each.last_active,
                each.commands,
                each.bytes_in,
                each.bytes_out,
                each.last_verb.decode("latin-1").upper(),
            )
            for each in self._service.connections
        ]
        return table(_CONNECTION, rows, "no connections")

    def sockopts(self, id: int | None = None) -> Report:
        """socket options asked and in effect: of the listeners, or of connection ID, read now"""
        if id is None:
            rows = [
                (each.name, option.name, option.asked, option.effective, option.error)
                for each in self._service.listeners()
                for option in each.socket_options
            ]
            return table(("listener", "option", "asked", "effective", "error"), rows, "no options")
        connection = self._service.connections.get(id)
        if connection is None:
            return Report(f"there is no connection {id}")
        asked: dict[str, Any] = {each.name: each.asked for each in connection.socket_options}
        with socket_of(connection.transport) as sock:
            options = SocketOptions(**asked).read(sock) if sock is not None else ()
        return table(
            ("option", "asked", "effective", "error"),
            [(each.name, each.asked, each.effective, each.error) for each in options],
            "no options",
        )

    def stats(self, db: int | None = None) -> Report | Deferred[Report]:
        """counters and totals of all databases, and the state of snapshots; or those of DB alone"""

        def show(info: dict[str, Any]) -> Report:
            rows = [*info["cache"].items(), *info["persistence"].items()]
            return table(("what", "value"), rows, "nothing")

        def show_one(totals: EngineTotals) -> Report:
            return table(("what", "value"), list(described(totals).items()), "nothing")

        if db is None:
            return then(self._service.info(), show)
        return then(self._databases[db].totals(), show_one)

    def in_use(self) -> Report:
        """the databases in use, and their totals with expired entries that are not reclaimed yet"""
        rows = []
        for number, engine in self._databases:
            held, counters = engine.held(), engine.counters()
            hits = (counters.hits, counters.misses)
            rows.append((number, held.items, held.tags, held.bytes, *hits))
        return table(("db", "items", "tags", "bytes", "hits", "misses"), rows, "nothing")

    def top_tags(self, count: int = 20, db: int = 0) -> Report | Deferred[Report]:
        """the tags with the most keys, and their activity"""
        engine = self._databases[db]

        def show(found: list[TagSize]) -> Report:
            names = ("tag", "keys", "hits", "misses after", "invalidated", "last")
            return table(names, [self._tag_row(engine, tag) for tag in found], "no tags")

        return then(engine.largest_tags(b"", count), show)

    def _tag_row(self, engine: IEngine, tag: TagSize) -> tuple[object, ...]:
        activity = engine.activity(tag.name)
        last = activity.last_invalidated
        now = self._service.connections.monotonic()
        return (
            tag.name.decode("utf-8", "backslashreplace"),
            tag.keys,
            activity.hits,
            activity.misses,
            activity.invalidated,
            "never" if last is None else f"{now - last:.0f} s ago",
        )

    def invalidate(self, tag: str | bytes, db: int = 0) -> int | Deferred[int]:
        """remove every entry that carries TAG; returns how many"""
        name = tag.encode() if isinstance(tag, str) else tag
        return self._databases[db].session.invalidate_tag(name)

    def check(self, db: int | None = None) -> Report | Deferred[Report]:
        """whether entries, indexes and totals agree: of all databases, or of DB alone"""

        def show(found: Consistency) -> Report:
            checked = f"{found.entries} entries and {found.tags} tags"
            if not found.fault_count:
                return Report(f"{checked}: no faults")
            faults = "\n".join(found.faults)
            return Report(f"{checked}: {found.fault_count} faults\n{faults}")

        return then(self._service.check() if db is None else self._databases[db].check(), show)

    def kill(self, id: int) -> Report:
        """close connection ID"""
        connection = self._service.connections.get(id)
        if connection is None:
            return Report(f"there is no connection {id}")
        connection.abort()
        return Report(f"closed connection {id} from {connection.peer}")

    def help(self, topic: object = None) -> Report:
        """this list"""
        rows = [
            ("config", "every knob, its value and where it comes from; config.settings"),
            ("cache", "the live cache, database 0: cache.peek(b'key'), cache.totals(), ..."),
            ("databases", "all of them: databases[3].session.get(b'key'), ..."),
            ("service", "the whole server: service.reload(), service.info(), ..."),
        ]
        for each in self.all():
            # Python's own help takes a topic, so users may pass one.
            parameters = "" if each == self.help else ", ".join(signature(each).parameters)
            rows.append((f"{each.__name__}({parameters})", each.__doc__ or ""))
        return table(("name", "what it is"), rows, "nothing")


class _Shared:
    """A cache outside this process: the methods of a session and of the engine."""

    def __init__(self, engine: IEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        session = self._engine.session
        return getattr(session if hasattr(session, name) else self._engine, name)


class _Config:
    """The configuration in effect, also after a reload."""

    def __init__(self, service: TagCacheService) -> None:
        self._service = service

    @property
    def settings(self) -> Settings:
        return self._service.settings

    def __repr__(self) -> str:
        knobs = self._service.configuration.knobs()
        rows = [(f"{s}.{key}", str(value), origin.value) for s, key, value, origin in knobs]
        return table(("knob", "value", "from"), rows, "nothing").text
