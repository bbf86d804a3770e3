"""What a minute or a day holds, in the zip's own comments: counting and choosing never decompress.

A member's comment: `{"rows":600,"first_ns":..,"last_ns":..,"connections":{"<id>":[count,first_ns,last_ns]}}` (receive
times). A day bundle's own comment has `minutes`, `first` and `last` (`HH-MM`) in place of the connections.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple, Self

import msgspec

from common.frame import Frame

_MOST_BYTES = 60_000


class Part(NamedTuple):
    """How far a minute is at a part's end: the largest receive time so far, and its sizes and CRC-32 up to there."""

    last_ns: int
    packed_bytes: int
    content_bytes: int
    crc: int


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """The frames of a minute or a day.

    Attributes:
        rows: How many.
        first_ns: The smallest receive time.
        last_ns: The largest receive time.
        connections: Count, first and last receive time in ns of each connection. None for a day, and for a minute with
            more connections than a zip comment holds (64 KB).
        parts: Where each part of a minute that grows ends (`archiver.grown`); none of one that was packed as a whole.
        minutes: How many minutes the day holds.
        first: Name of the first minute of the day.
        last: Name of the last minute of the day.
    """

    rows: int
    first_ns: int
    last_ns: int
    connections: dict[str, tuple[int, int, int]] | None = None
    parts: tuple[Part, ...] = ()
    minutes: int | None = None
    first: str | None = None
    last: str | None = None

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> Self:
        """Sums up frames, at least one, that are sorted by receive time."""
        names = set(map(itemgetter(1), frames))
        first_ns, last_ns = frames[0].receive_ns, frames[-1].receive_ns
        if len(names) == 1:
            return cls(len(frames), first_ns, last_ns, {names.pop(): (len(frames), first_ns, last_ns)})
        connections: dict[str, tuple[int, int, int]] = {}
        for frame in frames:
            count, start_ns, _ = connections.get(frame.connection, (0, frame.receive_ns, 0))
            connections[frame.connection] = (count + 1, start_ns, frame.receive_ns)
        return cls(len(frames), first_ns, last_ns, connections)

    @property
    def connection(self) -> str | None:
        """The one connection that all frames came on; None where there are several."""
        return next(iter(self.connections)) if self.connections and len(self.connections) == 1 else None

    @classmethod
    def of_day(cls, minutes: Iterable[tuple[str, "Summary | None"]]) -> "Summary | None":
        """Sums up a day's members (name, summary); None where one of them has no summary, or there are none."""
        named = sorted(minutes)
        known = [summary for _, summary in named if summary is not None]
        if not known or len(known) < len(named):
            return None
        return cls(
            sum(each.rows for each in known),
            min(each.first_ns for each in known),
            max(each.last_ns for each in known),
            minutes=len(known),
            first=named[0][0].removesuffix(".jsonl"),
            last=named[-1][0].removesuffix(".jsonl"),
        )


_decoder = msgspec.json.Decoder(Summary)
_encoder = msgspec.json.Encoder()


def encode_summary(summary: Summary) -> bytes:
    """The summary as a zip comment."""
    comment = _encoder.encode(summary)
    if len(comment) > _MOST_BYTES:
        comment = _encoder.encode(msgspec.structs.replace(summary, connections=None))
    return comment


def decode_summary(comment: bytes) -> Summary | None:
    """The inverse of `encode_summary`; None where the comment is none of ours."""
    try:
        return _decoder.decode(comment)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
