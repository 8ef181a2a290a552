"""Write all entries to a file, and read them back: versioned, checksummed, data only.

A file consists of these parts, with all numbers little-endian:

- ``TagCache snapshot`` and a line feed; then the version (u32), the approximate number of entries
  (u64), when the snapshot was taken (f64, seconds since 1970), whether it is final (u8, 1 or 0),
  and the CRC-32 (u32) of these four. Version 1 lacks the fourth;
- blocks: each has its length (u32, not 0), its CRC-32 (u32), and then records. A record has the
  lengths of key and value (u32 each), the number of its tag set (u32), its age (f64, seconds) and
  its time to live (f64, seconds; infinite for none), the key and the value. If the number of the
  tag set was not used before, the number of its tags follows (u32), and for each tag its length
  (u32) and the tag;
- between them, blocks of 4 bytes, which is less than any record: the number of the database (u32)
  of the records that follow. It is 0 at the beginning, and always before version 3;
- and blocks of 8 bytes: the grace (f64, seconds) of the records that follow. It is 0 at the
  beginning, and always before version 4;
- a length of 0, and the exact number of entries (u64).

The entries of a database are together, in the order of storing, the oldest first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from tagcache.errors import BrokenSnapshot
from tagcache.model.views import Saved

MAGIC = b"TagCache snapshot\n"
VERSION = 4
_HEADER = struct.Struct("<QdB")
_HEADER_1 = struct.Struct("<Qd")
_BLOCK = struct.Struct("<II")
_RECORD = struct.Struct("<IIIdd")
_GRACE = struct.Struct("<d")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_BLOCK_BYTES = 256 * 1024
_PIECE_BYTES = 16 * 2**20


class Header(NamedTuple):
    """The header of a snapshot.

    Attributes:
        about: the approximate number of entries.
        taken: when it was taken, in seconds since 1970.
        final: whether it was written by a server that stopped, after its last command, so that
            nothing that was acknowledged is missing. The header is written before the entries,
            but a file that ends early is broken.
    """

    about: int
    taken: float
    final: bool


def write(file: BinaryIO, header: Header, entries: Iterable[Saved]) -> int:
    """Write a snapshot, and return how many entries it has. Raises OSError."""
    head = _U32.pack(VERSION) + _HEADER.pack(*header)
    file.write(MAGIC + head + _U32.pack(zlib.crc32(head)))
    numbers: dict[tuple[bytes, ...], int] = {}
    block: list[bytes] = []
    count = size = 0
    of = 0, 0.0
    for key, value, tags, age, ttl, database, grace in entries:
        if (database, grace) != of:
            if block:
                _write_block(file, block)
            _write_marks(file, of, (database, grace))
            of = database, grace
            block.clear()
            size = 0
        number = numbers.get(tags)
        known = number is not None
        if number is None:
            number = numbers[tags] = len(numbers)
        block += (_RECORD.pack(len(key), len(value), number, age, ttl), key, value)
        count += 1
        size += _RECORD.size + len(key) + len(value)
        if not known:
            block.append(_U32.pack(len(tags)))
            for tag in tags:
                block += (_U32.pack(len(tag)), tag)
                size += _U32.size + len(tag)
        if size > _BLOCK_BYTES:
            _write_block(file, block)
            block.clear()
            size = 0
    if block:
        _write_block(file, block)
    file.write(_U32.pack(0) + _U64.pack(count))
    return count


def _write_marks(file: BinaryIO, old: tuple[int, float], new: tuple[int, float]) -> None:
    """Write the database and the grace of the records that follow, if they change."""
    if new[0] != old[0]:
        _write_block(file, [_U32.pack(new[0])])
    if new[1] != old[1]:
        _write_block(file, [_GRACE.pack(new[1])])


def _write_block(file: BinaryIO, block: list[bytes]) -> None:
    payload = b"".join(block)
    file.write(_BLOCK.pack(len(payload), zlib.crc32(payload)))
    file.write(payload)


def read_header(file: BinaryIO) -> Header:
    """Read the header of a snapshot. Raises BrokenSnapshot, OSError."""
    if file.read(len(MAGIC)) != MAGIC:
        raise BrokenSnapshot("it is not a snapshot of TagCache")
    head = _exactly(file, _U32.size)
    (version,) = _U32.unpack(head)
    # The layout of an unknown version is unknown, too; only its number can be read.
    layout = _HEADER_1 if version == 1 else _HEADER
    head += _exactly(file, layout.size)
    (checksum,) = _U32.unpack(_exactly(file, _U32.size))
    if not 1 <= version <= VERSION:
        raise BrokenSnapshot(f"it is of version {version}, this server reads up to {VERSION}")
    if zlib.crc32(head) != checksum:
        raise BrokenSnapshot("its beginning is damaged")
    count, taken, *final = layout.unpack_from(head, _U32.size)
    return Header(count, taken, final == [1])


def read_entries(file: BinaryIO) -> Iterator[Saved]:
    """Yield the entries of complete blocks. Raises BrokenSnapshot, OSError."""
    sets: list[tuple[bytes, ...]] = []
    count = database = 0
    grace = 0.0
    while True:
        (length,) = _U32.unpack(_exactly(file, _U32.size))
        if not length:
            break
        (checksum,) = _U32.unpack(_exactly(file, _U32.size))
        payload = _exactly(file, length)
        if zlib.crc32(payload) != checksum:
            raise BrokenSnapshot(f"it is damaged after {count} entries")
        if length == _U32.size:
            (database,) = _U32.unpack(payload)
            continue
        if length == _GRACE.size:
            (grace,) = _GRACE.unpack(payload)
            continue
        try:
            for entry in _records(payload, database, grace, sets):
                count += 1
                yield entry
        except (struct.error, IndexError):
            raise BrokenSnapshot(f"it is malformed after {count} entries") from None
    (total,) = _U64.unpack(_exactly(file, _U64.size))
    if total != count:
        raise BrokenSnapshot(f"it has {count} entries instead of {total}")
    if file.read(1):
        raise BrokenSnapshot("there is data after its end")


def _records(
    payload: bytes, database: int, grace: float, sets: list[tuple[bytes, ...]]
) -> Iterator[Saved]:
    """Yield the records of a block; tag sets that are new are added to ``sets``."""
    unpack, size = _RECORD.unpack_from, _RECORD.size
    at = 0
    while at < len(payload):
        key_length, value_length, number, age, ttl = unpack(payload, at)
        at += size
        key = payload[at : at + key_length]
        at += key_length
        value = payload[at : at + value_length]
        at += value_length
        if number == len(sets):
            (tag_count,) = _U32.unpack_from(payload, at)
            at += _U32.size
            tags = []
            for _ in range(tag_count):
                (length,) = _U32.unpack_from(payload, at)
                at += _U32.size
                tags.append(payload[at : at + length])
                at += length
            sets.append(tuple(tags))
        if at > len(payload):
            raise IndexError
        yield Saved(key, value, sets[number], age, ttl, database, grace)


def _exactly(file: BinaryIO, count: int) -> bytes:
    pieces = []
    while count:
        # A damaged length must not allocate memory that the file cannot fill.
        piece = file.read(min(count, _PIECE_BYTES))
        if not piece:
            raise BrokenSnapshot("its end is missing")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
