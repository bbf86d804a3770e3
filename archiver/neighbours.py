"""The minutes before and after one that is written: copies of its frames may be filed there.

Two connections may file the two copies of a frame on either side of a minute's end. So what the neighbours hold nearby
(`merge.near_ns`) is looked at: in their files, or, where they are written in the same batch and have none yet, in
memory.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archiver import lines, members
from archiver.grown import Grown
from archiver.merge import near_ns
from archiver.summaries import Summary
from common.frame import Frame
from common.paths import Minute, raw_day, raw_minute

if TYPE_CHECKING:
    from archiver.plain import Plain

log = logging.getLogger(__name__)


class Neighbours:
    """The neighbours of the minutes of one batch.

    Args:
        data: The data folder.
        group: The minutes of the batch.
    """

    def __init__(self, data: Path, group: frozenset[Minute]) -> None:
        self._data = data
        self._group = group
        self._pending: dict[Minute, list[Frame]] = {}
        self._grown: dict[Minute, Grown] = {}

    def near(self, minute: Minute, names: set[str], times_ns: tuple[int, int]) -> list[Frame]:
        """What the neighbours hold near the first and the last receive time of a minute.

        Nothing if it all came on the one connection of `names`, the minute's own: then it holds no copies.
        """
        within_ns = near_ns(minute.stream)
        earliest, latest = times_ns[0] - within_ns, times_ns[1] + within_ns
        near: list[Frame] = []
        for other in beside(minute):
            if other in self._pending:
                near += self._pending[other]
                continue
            if other in self._grown:
                near += _read_grown(self._grown[other], names, earliest, latest)
                continue
            for path in (self._data / raw_minute(other), self._data / raw_day(other.stream, other.day)):
                near += _read(path, other, names, earliest, latest)
        near = [frame for frame in near if earliest <= frame.receive_ns <= latest]
        return near if len(names.union([frame.connection for frame in near])) > 1 else []

    def remember_grown(self, minute: Minute, grown: Grown) -> None:
        """Keeps, for the same, a minute in parts: it is unpacked where a neighbour has another connection."""
        if not self._group.isdisjoint(beside(minute)):
            self._grown[minute] = grown

    def remember(self, minute: Minute, frames: "Sequence[Frame] | Plain") -> None:
        """Keeps what a neighbour in the batch may ask for: the frames near the minute's ends. They are sorted."""
        if not len(frames) or self._group.isdisjoint(beside(minute)):
            return
        within_ns = near_ns(minute.stream)
        if isinstance(frames, Sequence):
            first_ns, last_ns = frames[0].receive_ns + within_ns, frames[-1].receive_ns - within_ns
            self._pending[minute] = [frame for frame in frames if not first_ns < frame.receive_ns < last_ns]
        else:
            self._pending[minute] = frames.ends(within_ns)


def beside(minute: Minute) -> tuple[Minute, Minute]:
    """The minute before and the minute after."""
    return Minute(minute.stream, minute.number - 1), Minute(minute.stream, minute.number + 1)


def _read(path: Path, minute: Minute, names: set[str], earliest: int, latest: int) -> list[Frame]:
    if not path.exists():
        return []
    try:
        member = members.directory(path).find(members.member_name(minute))
        if member is None:
            return []
        summary = member.summary
        if summary is not None and not _may_hold_copies(summary, names, earliest, latest):
            return []
        return lines.parse(members.read_content(path, member))
    except ValueError as error:
        return _unseen(error)


def _read_grown(grown: Grown, names: set[str], earliest: int, latest: int) -> list[Frame]:
    if not _may_hold_copies(grown.summary, names, earliest, latest):
        return []
    try:
        return lines.parse(grown.lines())
    except ValueError as error:
        return _unseen(error)


def _unseen(error: ValueError) -> list[Frame]:
    log.warning("a neighbouring minute cannot be read, copies in it are not seen: %s", error)
    return []


def _may_hold_copies(summary: Summary, names: set[str], earliest: int, latest: int) -> bool:
    """Whether a minute has frames of that time, and of another connection than the one of `names`."""
    if summary.first_ns > latest or summary.last_ns < earliest:
        return False
    return summary.connections is None or len(names | summary.connections.keys()) > 1
