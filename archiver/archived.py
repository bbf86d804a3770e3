"""What the archive holds of a stream's ids: who starts reading between copies has not read what was archived before.

Copies stand in a stream in any order where Redis refused a part of a batch, and the position moved past some of the
frames already. They are not read again, and not missing.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from archiver import lines, members
from archiver.ids import Hole, trade_id
from common.clock import MINUTE_NS
from common.frame import PLAUSIBLE_NS, Frame, event_time_ms, filed_ns
from common.paths import Minute, raw_day, raw_minute
from common.streams import Stream

log = logging.getLogger(__name__)

MOST_MINUTES = 240
"""So many minutes of a hole are looked into at a time: of a longer one the first and the last."""


class Archived(NamedTuple):
    """A frame's id, when it was received, in ns, and the exchange's time of it, in ms, where it is plausible."""

    number: int
    receive_ns: int
    event_ms: int | None


def within(data: Path, stream: Stream, holes: Collection[Hole]) -> list[Archived]:
    """The frames of holes that are in the archive; files that cannot be read are told and passed over. Blocks."""
    found = []
    bundles = lru_cache(maxsize=2)(members.directory)
    for minute in sorted({minute for hole in holes for minute in _minutes(stream, hole)}):
        day = data / raw_day(stream, minute.day)
        for path, directory in ((data / raw_minute(minute), members.directory), (day, bundles)):
            for frame in _read(path, directory, minute):
                number = trade_id(frame.payload)
                if number is not None and any(hole.last_id < number < hole.next_id for hole in holes):
                    event_ms = event_time_ms(frame.payload)
                    is_filed_by_it = filed_ns(frame.receive_ns, event_ms) != frame.receive_ns
                    found.append(Archived(number, frame.receive_ns, event_ms if is_filed_by_it else None))
    return found


def _minutes(stream: Stream, hole: Hole) -> Iterator[Minute]:
    """Where frames of a hole may be filed: by the exchange's clock, or by ours where the two are too far apart."""
    numbers = range((hole.last_ns - PLAUSIBLE_NS) // MINUTE_NS, (hole.next_ns + PLAUSIBLE_NS) // MINUTE_NS + 1)
    half = MOST_MINUTES // 2
    return (Minute(stream, number) for number in (*numbers[:half], *numbers[half:][-half:]))


def _read(path: Path, directory: Callable[[Path], members.Directory], minute: Minute) -> list[Frame]:
    """The frames of a minute; none where the file has none of it."""
    for is_last in (False, True):  # it may be replaced by a new one while it is read
        try:
            member = directory(path).find(members.member_name(minute))
            if member is None:
                return []
            return lines.parse(members.read_content(path, member))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            if is_last:
                log.warning("%s: ids in it are not seen: %s", path, error)
    return []
