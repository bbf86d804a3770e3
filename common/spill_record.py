"""A record of the spill: packed commands with a checksum over all of it, and how to find the next whole one.

A record is a header of 32 bytes, then the commands as they go to Redis. What a kill or a full disk left torn does not
pass its checksum; a reader goes on at the next record that does.
"""

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from isal import isal_zlib

_MAGIC = b"MsSp"
_HEAD = struct.Struct(">4sIQQII")  # magic, CRC-32 of all that follows it, first, last, how many, bytes of the commands
_CRC_FROM = 8
HEAD_BYTES = _HEAD.size
MOST_BYTES = 1 << 30
"""A header that says more is no header."""


class Draft(NamedTuple):
    """What becomes a record: as `Record`, with the commands in parts, for joining them costs more than writing them."""

    first: int
    last: int
    commands: int
    parts: Sequence[bytes]


class Record(NamedTuple):
    """Commands that were written and are read and sent together.

    Attributes:
        first: The number of their first batch.
        last: The number of their last batch.
        commands: How many they are.
        packed: The commands, as they are sent.
    """

    first: int
    last: int
    commands: int
    packed: bytes

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return _HEAD.size + len(self.packed)


class Found(NamedTuple):
    """What a reader found.

    Attributes:
        record: The next whole record; None when there is none before the end.
        end: Where to read on.
        skipped: Bytes before it that are no record.
    """

    record: Record | None
    end: int
    skipped: int


def encode(draft: Draft) -> list[bytes]:
    """The bytes of a record, in parts."""
    first, last, commands, parts = draft
    size = sum(map(len, parts))
    crc = isal_zlib.crc32(_HEAD.pack(_MAGIC, 0, first, last, commands, size)[_CRC_FROM:])
    for part in parts:
        crc = isal_zlib.crc32(part, crc)
    return [_HEAD.pack(_MAGIC, crc, first, last, commands, size), *parts]


def next_record(descriptor: int, start: int, end: int) -> Found:
    """The first whole record of a file at or after `start` and before `end`, in bytes."""
    record = _record_at(descriptor, start, end)
    if record is not None:
        return Found(record, start + record.size, 0)
    rest = os.pread(descriptor, end - start, start)
    at = rest.find(_MAGIC, 1)
    while at >= 0:
        record = _record_at(descriptor, start + at, end)
        if record is not None:
            return Found(record, start + at + record.size, at)
        at = rest.find(_MAGIC, at + 1)
    return Found(None, end, end - start)


def _record_at(descriptor: int, start: int, end: int) -> Record | None:
    head = os.pread(descriptor, _HEAD.size, start)
    if len(head) < _HEAD.size:
        return None
    magic, crc, first, last, commands, size = _HEAD.unpack(head)
    if magic != _MAGIC or size > MOST_BYTES or start + _HEAD.size + size > end:
        return None
    packed = os.pread(descriptor, size, start + _HEAD.size)
    if len(packed) < size or isal_zlib.crc32(packed, isal_zlib.crc32(head[_CRC_FROM:])) != crc:
        return None
    return Record(first, last, commands, packed)
