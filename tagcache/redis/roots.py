"""The names of partitions."""

from __future__ import annotations


def roots_of(prefix: str, number: int, database: int) -> list[str]:
    """Return the roots of the partitions of a database, ``number`` of them.

    A root ends in a hash tag. For a database other than 0 the hash tag begins with its number.
    """
    names = ["all"] if number == 1 else [str(each) for each in range(number)]
    of = f"{database}." if database else ""
    return [f"{prefix}{{{of}{name}}}:" for name in names]


def database_of(tag: bytes) -> int:
    """Return the number of the database that a hash tag belongs to."""
    number, dot, _ = tag.partition(b".")
    return int(number) if dot else 0
