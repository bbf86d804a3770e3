"""A minute that grows: its zip's member is a row of parts, each deflated by itself, and more can be put behind them.

A part ends with a full flush (RFC 1951: on a byte's border, and nothing later looks back into it), and an empty last
block ends the stream: another part takes that block's place. The summary says how far the member is at each part's end,
so what overlaps with the last parts is united with these alone.
"""

from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
from isal import isal_zlib

from archiver import members
from archiver.members import CorruptError, Member
from archiver.summaries import Part, Summary, encode_summary
from common.paths import Minute

MOST_PARTS = 256
"""A summary, the member's comment, has room for some 700."""

_LAST_BLOCK = b"\3\0"
"""Empty, the last, with fixed codes, which has no bit beyond these two bytes."""

_NOTHING = Part(0, 0, 0, members.crc_of(b""))


@dataclass(frozen=True, slots=True)
class Grown:
    """A minute in parts.

    Attributes:
        member: Its member.
        summary: The member's.
        packed: The member's bytes.
    """

    member: Member
    summary: Summary
    packed: bytes

    @classmethod
    def begin(cls, minute: Minute, content: bytes, summary: Summary) -> Self:
        """The first part."""
        return cls(members.empty(minute), summary, b"").extend(0, content, summary)

    @classmethod
    def read(cls, path: Path, minute: Minute) -> Self | None:
        """A minute file; None where there is none, where it was packed as a whole, and where it is damaged."""
        try:
            member = members.directory(path).find(members.member_name(minute))
            summary = member.summary if member is not None else None
            if member is None or summary is None or not summary.parts or len(summary.parts) >= MOST_PARTS:
                return None
            with path.open("rb") as file:
                packed = members.read_packed(file, member)
        except (FileNotFoundError, CorruptError):
            return None
        fits = summary.parts[-1].packed_bytes + len(_LAST_BLOCK) == len(packed) and packed.endswith(_LAST_BLOCK)
        return cls(member, summary, packed) if fits else None

    def before(self, at_ns: int) -> int:
        """How many parts hold nothing that was received at a time (ns) or later. The member's frames are sorted."""
        return bisect_left(self.summary.parts, at_ns, key=lambda part: part.last_ns)

    def lines(self, kept: int = 0) -> bytes:
        """The lines behind the first so many parts.

        Raises:
            CorruptError: They are damaged.
        """
        before = self.summary.parts[kept - 1] if kept else _NOTHING
        rest = self.member._replace(content_bytes=self.member.content_bytes - before.content_bytes)
        return members.unpack(rest, self.packed[before.packed_bytes :], before.crc)

    def extend(self, kept: int, content: bytes, held: Summary) -> Self:
        """Puts lines behind the first so many parts, in the place of all that follows these.

        Args:
            kept: How many parts stay as they are; they are not looked at.
            content: The lines of the new part.
            held: What the minute holds then, but for its parts.
        """
        parts = self.summary.parts[:kept]
        last = parts[-1] if parts else _NOTHING
        packed = self.packed[: last.packed_bytes] + members.deflate(content, isal_zlib.Z_FULL_FLUSH)
        crc = members.crc_of(content, last.crc)
        part = Part(held.last_ns, len(packed), last.content_bytes + len(content), crc)
        packed += _LAST_BLOCK
        summary = msgspec.structs.replace(held, parts=(*parts, part))
        member = self.member._replace(
            crc=crc, packed_bytes=len(packed), content_bytes=part.content_bytes, comment=encode_summary(summary)
        )
        return type(self)(member, summary, packed)
