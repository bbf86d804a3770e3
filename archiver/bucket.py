"""A bucket: the lines of one minute of one stream that wait for the minute to be over, in memory and in a file."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from common.clock import SECOND_NS
from common.frame import PLAUSIBLE_NS
from common.paths import Minute

LATE_BUCKET_S = 60.0
"""A bucket for a minute that is over already gathers so long: its file is written once, not once a batch."""


@dataclass(slots=True, eq=False)
class Bucket:
    """The frames of one minute of one stream that wait for the minute to be over.

    Attributes:
        is_part: Whether it was taken as a part of its minute, whose Parquet file is owed then (`Stage.owed`).
    """

    minute: Minute
    path: Path
    is_late: bool
    first_s: float
    last_s: float
    lines: list[bytes] = field(default_factory=list)
    buffered_bytes: int = 0
    spilled_bytes: int = 0
    is_part: bool = False

    @property
    def size_bytes(self) -> int:
        return self.buffered_bytes + self.spilled_bytes

    def add(self, line: bytes, now_s: float) -> None:
        """Takes a line, with its end."""
        self.lines.append(line)
        self.buffered_bytes += len(line)
        self.last_s = now_s

    def spill(self) -> None:
        """Moves the lines into the file.

        Raises:
            OSError: The disk does not take them; they stay here, and the file is as it was.
        """
        if not self.lines:
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            text = b"".join(self.lines)
            view = memoryview(text)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:
            os.ftruncate(descriptor, self.spilled_bytes)
            raise
        finally:
            os.close(descriptor)
        self.spilled_bytes += len(text)
        self.buffered_bytes = 0
        self.lines.clear()


class When(TypedDict):
    """By what a minute of a stream is judged: how far the stream is and was read, the two clocks, the grace."""

    watermark_ns: int
    caught_up: bool
    now_s: float
    wall_ns: int
    grace_s: float


def is_over(bucket: Bucket, **when: Unpack[When]) -> bool:
    """Whether a bucket's minute can be written.

    By the stream's own time: later event times than the minute's end and the grace have been seen. Or, where nothing
    follows, by the wall clock: the stream is read to its end, nothing came for the grace, and it is not that minute
    now. What comes for a minute that was over before is gathered for `LATE_BUCKET_S`, so that no file is written once
    per batch.
    """
    if bucket.is_late:
        if when["now_s"] - bucket.first_s >= LATE_BUCKET_S:
            return True
        when["watermark_ns"] = 0
    return is_past(bucket.minute, bucket.last_s, **when)


def is_past(minute: Minute, last_s: float, **when: Unpack[When]) -> bool:
    """Whether a minute, of which something came last at `last_s`, is over, as in `is_over`."""
    grace_ns = int(when["grace_s"] * SECOND_NS)
    if when["watermark_ns"] >= minute.end_ns + grace_ns:
        return True
    being_filled = minute.start_ns - PLAUSIBLE_NS <= when["wall_ns"] < minute.end_ns + grace_ns
    return when["caught_up"] and when["now_s"] - last_s >= when["grace_s"] and not being_filled
