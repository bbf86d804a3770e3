"""What the archive holds of a stream's ids: who starts reading between copies has not read what was archived before.

Copies stand in a stream in any order where Redis refused a part of a batch, and the position moved past some of the
frames already. They are not read again, and not missing.
"""

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from archiver import lines, members
from archiver.ids import Hole, trade_id
from common.clock import MINUTE_NS
from common.frame import Frame, event_time_ms, filed_ns
from common.paths import Minute, raw_day, raw_minute
from common.streams import Stream

log = logging.getLogger(__name__)

MOST_MINUTES = 60
"""So many minutes of a hole are looked into: of a longer one the first and the last."""


class Archived(NamedTuple):
    """A frame's id, when it was received, in ns, and the exchange's time of it, in ms, where it is plausible."""

    number: int
    receive_ns: int
    event_ms: int | None


def within(data: Path, stream: Stream, holes: Collection[Hole]) -> list[Archived]:
    """The frames of holes that are in the archive. Blocks: mostly no file is there, or a few.

    Raises:
        OSError: A file cannot be read.
    """
    found = []
    for minute in sorted({minute for hole in holes for minute in _minutes(stream, hole)}):
        for frame in _frames(data, minute):
            number = trade_id(frame.payload)
            if number is not None and any(hole.last_id < number < hole.next_id for hole in holes):
                event_ms = event_time_ms(frame.payload)
                is_filed_by_it = filed_ns(frame.receive_ns, event_ms) != frame.receive_ns
                found.append(Archived(number, frame.receive_ns, event_ms if is_filed_by_it else None))
    return found


def _minutes(stream: Stream, hole: Hole) -> Iterator[Minute]:
    """A minute more than the hole has on each side: frames are filed by the exchange's clock."""
    numbers = range(hole.last_ns // MINUTE_NS - 1, hole.next_ns // MINUTE_NS + 2)
    half = MOST_MINUTES // 2
    return (Minute(stream, number) for number in (*numbers[:half], *numbers[half:][-half:]))


def _frames(data: Path, minute: Minute) -> Iterator[Frame]:
    for path in (data / raw_minute(minute), data / raw_day(minute.stream, minute.day)):
        try:
            member = members.directory(path).find(members.member_name(minute))
            if member is not None:
                with path.open("rb") as file:
                    yield from lines.parse(members.unpack(member, members.read_packed(file, member)))
        except FileNotFoundError:
            continue
        except ValueError as error:
            log.warning("%s: ids in it are not seen: %s", path, error)
