"""The types of entries and their tables: the native ones, or those in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tagcache.native import core

if TYPE_CHECKING or core is None:
    from tagcache.engine.python_entry import (
        ENTRY_BYTES,
        REFERENCE_BYTES,
        TAG_BYTES,
        Entries,
        Entry,
        Links,
        SieveHand,
        StoreFields,
        TagTotals,
        UsedEntry,
    )
else:
    ENTRY_BYTES, REFERENCE_BYTES, TAG_BYTES = (
        core.ENTRY_BYTES,
        core.REFERENCE_BYTES,
        core.TAG_BYTES,
    )
    Entries, Entry, Links, UsedEntry = core.Entries, core.Entry, core.Links, core.UsedEntry
    SieveHand, StoreFields, TagTotals = core.SieveHand, core.StoreFields, core.TagTotals

__all__ = [
    "ENTRY_BYTES",
    "REFERENCE_BYTES",
    "TAG_BYTES",
    "Entries",
    "Entry",
    "Links",
    "SieveHand",
    "StoreFields",
    "TagTotals",
    "UsedEntry",
]
