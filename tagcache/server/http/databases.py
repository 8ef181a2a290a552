"""The database that a request concerns."""

from __future__ import annotations

from tagcache.model.interfaces import IDatabases, IEngine
from tagcache.server.http.fields import UNSIGNED, Field
from tagcache.server.http.messages import Call

DB = Field("db", UNSIGNED, "the number of the database; absent: 0")


def engine_of(databases: IDatabases, call: Call) -> IEngine:
    """Return the database in the query ``db`` of a request. Raises InvalidDatabase."""
    return databases[call.query.get(DB.name, 0)]
