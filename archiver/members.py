"""The archive's zip files: a minute is one member, a day is its minutes' members, copied as they are.

We write the container ourselves (APPNOTE 6.3.10: local header, data, central directory, Zip64 where needed), for three
reasons: deflate by isal costs a quarter of zlib's, the same frames give the same bytes (times are the minute's own),
and each member's comment holds a `Summary`, so that counting a year of frames decompresses nothing. Any unzip reads
them.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from isal import igzip_lib, isal_zlib

from archiver.summaries import Summary, decode_summary, encode_summary
from common.paths import Minute

LEVEL = 3
"""Measured on minutes of depth20: isal at 3 takes a third of the time of zlib at 6, for 2 % more bytes."""
_WINDOW_BITS = 12
"""Frames repeat the one before, and isal picks nearer copies out of 4 KB than out of 32. Measured: 5 % fewer bytes of
depth20, 11 % of bookTicker, in the same time."""

_IsalError: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stub calls it an instance

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_LIMIT = 0xFFFFFFFF
_TAIL_BYTES = 4096
_STORED, _DEFLATED = 0, 8
_YEARS = 1980, 2107
"""What a zip's date can say. A board without a battery starts in 1970: only the member's date is wrong then."""


class CorruptError(ValueError):
    """The file is no zip, or a member of it is damaged."""


class Member(NamedTuple):
    """One member, as the central directory has it. `offset` is that of its local header."""

    name: str
    method: int
    dos_time: int
    dos_date: int
    crc: int
    packed_bytes: int
    content_bytes: int
    offset: int
    comment: bytes

    @property
    def summary(self) -> Summary | None:
        """What the member's comment says; None where another program wrote the zip."""
        return decode_summary(self.comment)


@dataclass(frozen=True, slots=True)
class Directory:
    """What a zip holds: its members in the order of the file, and the whole file's summary where it has one."""

    members: list[Member]
    summary: Summary | None

    def find(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


def member_name(minute: Minute) -> str:
    return f"{minute.name}.jsonl"


def pack(minute: Minute, content: bytes, summary: Summary, crc: int | None = None) -> tuple[Member, bytes]:
    """Compresses a minute's lines, whose CRC may be known; the member is placed (`offset`) when it joins a file."""
    packed = deflate(content, isal_zlib.Z_FINISH)
    member = empty(minute)._replace(
        crc=crc_of(content) if crc is None else crc,
        packed_bytes=len(packed),
        content_bytes=len(content),
        comment=encode_summary(summary),
    )
    return member, packed


def empty(minute: Minute) -> Member:
    """The member of a minute that holds nothing yet: its name and its time."""
    at = datetime.fromtimestamp(minute.number * 60, UTC)
    year = min(max(at.year, _YEARS[0]), _YEARS[1])
    dos_time, dos_date = at.hour << 11 | at.minute << 5, year - _YEARS[0] << 9 | at.month << 5 | at.day
    return Member(member_name(minute), _DEFLATED, dos_time, dos_date, crc_of(b""), 0, 0, 0, b"")


def deflate(content: bytes, end: int) -> bytes:
    """Compresses; `end` is how the stream ends: `Z_FINISH`, or `Z_FULL_FLUSH` where more is to follow."""
    packer = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -_WINDOW_BITS)
    return packer.compress(content) + packer.flush(end)


def crc_of(content: bytes, before: int = 0) -> int:
    """The CRC-32 of a member's content; `before` is that of what precedes it."""
    return int(isal_zlib.crc32(content, before))


def minute_zip(member: Member, packed: bytes) -> list[bytes]:
    """The pieces of a file with this one member."""
    head = _local_header(member)
    return [head, packed, *_end([member], len(head) + len(packed), b"")]


def write_zip(file: BinaryIO, members: Iterable[tuple[Member, bytes]]) -> None:
    """Writes packed members one after the other, and a directory whose comment sums up theirs; holds one at a time."""
    placed: list[Member] = []
    offset = 0
    for member, packed in members:
        head = _local_header(member)
        file.write(head)
        file.write(packed)
        placed.append(member._replace(offset=offset))
        offset += len(head) + len(packed)
    total = Summary.of_day([(member.name, member.summary) for member in placed])
    for piece in _end(placed, offset, encode_summary(total) if total else b""):
        file.write(piece)


def _local_header(member: Member) -> bytes:
    name = member.name.encode()
    sizes = member.crc, member.packed_bytes, member.content_bytes
    return _LOCAL.pack(b"PK\3\4", 20, 0, member.method, member.dos_time, member.dos_date, *sizes, len(name), 0) + name


def _end(members: list[Member], offset: int, comment: bytes) -> list[bytes]:
    pieces = [_central_header(member) for member in members]
    size, count = sum(map(len, pieces)), len(members)
    if offset >= _LIMIT:
        pieces.append(_END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, size, offset))
        pieces.append(_LOCATOR64.pack(b"PK\6\7", 0, offset + size, 1))
    end = b"PK\5\6", 0, 0, count, count, min(size, 0xFFFFFFFF), _narrow(offset), len(comment)
    return [*pieces, _END.pack(*end), comment]


def _central_header(member: Member) -> bytes:
    name, wide = member.name.encode(), member.offset >= _LIMIT
    extra = struct.pack("<2HQ", 1, 8, member.offset) if wide else b""
    version = 45 if wide else 20
    fixed = version, version, 0, member.method, member.dos_time, member.dos_date
    sizes = member.crc, member.packed_bytes, member.content_bytes, len(name), len(extra), len(member.comment)
    head = _CENTRAL.pack(b"PK\1\2", *fixed, *sizes, 0, 0, 0, _narrow(member.offset))
    return head + name + extra + member.comment


def _narrow(offset: int) -> int:
    return 0xFFFFFFFF if offset >= _LIMIT else offset


def directory(path: Path) -> Directory:
    """Reads what a zip holds, from its end, without its content.

    Raises:
        CorruptError: It is no zip, or its directory is damaged.
    """
    with path.open("rb") as file:
        try:
            return _directory(file, *_find_end(file))
        except (struct.error, UnicodeDecodeError, IndexError) as error:
            raise CorruptError(f"{path}: damaged zip directory: {error}") from error


def summary(path: Path) -> Summary | None:
    """What a zip holds, in sum, by its own comment or its members'; None where another program wrote it.

    Raises:
        CorruptError: It is no zip, or its directory is damaged.
    """
    with path.open("rb") as file:
        try:
            at, tail, end = _find_end(file)
            found = decode_summary(tail[end + _END.size :])
            if found is not None:
                return found
            held = _directory(file, at, tail, end).members
        except (struct.error, UnicodeDecodeError, IndexError) as error:
            raise CorruptError(f"{path}: damaged zip directory: {error}") from error
    return held[0].summary if len(held) == 1 else Summary.of_day([(each.name, each.summary) for each in held])


def _find_end(file: BinaryIO) -> tuple[int, bytes, int]:
    """Where the file's tail starts, the tail, and where in it the end record is."""
    size = file.seek(0, 2)
    for length in (_TAIL_BYTES, 70_000):
        at = max(0, size - length)
        file.seek(at)
        tail = file.read()
        end = tail.rfind(b"PK\5\6")
        if end >= 0:
            return at, tail, end
    raise IndexError("there is none at the file's end; it was cut off, or it is no zip")


def _directory(file: BinaryIO, at: int, tail: bytes, end: int) -> Directory:
    _, _, _, _, count, length, start, _ = _END.unpack_from(tail, end)
    if start == 0xFFFFFFFF:
        count, length, start = _read_end64(file, tail, end)
    if start + length > at + end:
        raise IndexError("it lies beyond the end")
    if start >= at:
        block = tail[start - at : start - at + length]
    else:
        file.seek(start)
        block = file.read(length)
    found = _members(block, count)
    if any(member.offset + _LOCAL.size + member.packed_bytes > start for member in found):
        raise IndexError("it names members beyond the data")
    return Directory(found, decode_summary(tail[end + _END.size :]))


def _read_end64(file: BinaryIO, tail: bytes, end: int) -> tuple[int, int, int]:
    _, _, at, _ = _LOCATOR64.unpack_from(tail, end - _LOCATOR64.size)
    if at >= 2**62:
        raise IndexError("it lies beyond the end")
    file.seek(at)
    fields = _END64.unpack(file.read(_END64.size))
    return fields[7], fields[8], fields[9]


def _members(block: bytes, count: int) -> list[Member]:
    members, at = [], 0
    for _ in range(count):
        magic, _, _, _, method, time, day, crc, packed, content, names, extras, comments, _, _, _, offset = (
            _CENTRAL.unpack_from(block, at)
        )
        if magic != b"PK\1\2":
            raise IndexError("not a directory entry")
        at += _CENTRAL.size
        name, extra = block[at : at + names].decode(), block[at + names : at + names + extras]
        if offset == 0xFFFFFFFF:
            (offset,) = struct.unpack_from("<Q", extra, 4)
        comment = block[at + names + extras : at + names + extras + comments]
        members.append(Member(name, method, time, day, crc, packed, content, offset, comment))
        at += names + extras + comments
    return members


def read_packed(file: BinaryIO, member: Member) -> bytes:
    """The member's compressed bytes as they stand in the file.

    Raises:
        CorruptError: The local header is damaged, or the file ends within the member.
    """
    file.seek(member.offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
        raise CorruptError(f"{member.name}: damaged local header")
    names, extras = _LOCAL.unpack(head)[-2:]
    file.seek(names + extras, 1)
    packed = file.read(member.packed_bytes)
    if len(packed) != member.packed_bytes:
        raise CorruptError(f"{member.name}: the file ends within it")
    return packed


def unpack(member: Member, packed: bytes, crc_before: int = 0) -> bytes:
    """The member's content, its CRC and its length checked; `crc_before` is that of what precedes it (`Grown.lines`).

    Raises:
        CorruptError: The content is damaged, or compressed in a way that is not ours.
    """
    if member.method not in (_STORED, _DEFLATED):
        raise CorruptError(f"{member.name}: compression method {member.method}, not deflate")
    try:
        content = isal_zlib.decompress(packed, -15, member.content_bytes + 1) if member.method else packed
    except _IsalError as error:
        raise CorruptError(f"{member.name}: {error}") from error
    if len(content) != member.content_bytes or crc_of(content, crc_before) != member.crc:
        raise CorruptError(f"{member.name}: its content does not fit its CRC")
    return content


def read_member(path: Path, name: str) -> bytes:
    """The content of a member of a zip.

    Raises:
        CorruptError: The zip is damaged, or has no such member.
    """
    member = directory(path).find(name)
    if member is None:
        raise CorruptError(f"{path}: holds no {name}")
    return read_content(path, member)


def read_content(path: Path, member: Member) -> bytes:
    """The content of a member that the directory of the zip told.

    Raises:
        CorruptError: The member is damaged, or the zip is another one by now.
    """
    with path.open("rb") as file:
        return unpack(member, read_packed(file, member))
