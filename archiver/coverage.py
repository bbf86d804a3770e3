"""From the sessions of all collectors to the ledger's rows of one stream: pure.

A session covers its stream from its opening to its end. What no session covered is a gap, and has a row; so has what a
session received and dropped, and what the exchange's own ids say is missing although a session covered it. Where they
say that nothing is missing in a gap, it is none. Sessions are a set: events may come twice, late, or in any order, and
the rows are computed from the set anew.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from archiver.ids import Hole, Ids
from common import ledger
from common.channels import CHANNELS
from common.clock import SECOND_NS
from common.ledger import Row
from common.session import Cause, Closed, Dropped, Event, Marked, Opened
from common.streams import Stream

T = TypeVar("T")

KEPT_SESSIONS = 64
"""Sessions of a stream that are looked at; what lies before has its rows already."""

NEAR_NS = 100_000_000
"""The times of an event and of the frames around it differ by the way between the two."""

TOUCH_NS = 1_000_000
"""Two sessions touch where one ends with the frame that opens the other, which takes its own way to each of them. The
exchange's times tell nothing apart that is nearer."""


@dataclass(slots=True)
class Session:
    """One subscription of one connection to the stream.

    Attributes:
        connection: The connection's id.
        number: Which of its sessions of this stream.
        opened_ns: When it opened, or its first frame came.
        last_ns: The last moment known to be covered.
        closed: Its closing event; None while it lives, or when it died without a word.
        dead: It died without a word: its collector gives no sign of life.
    """

    connection: str
    number: int
    opened_ns: int
    last_ns: int
    closed: Closed | None = None
    dead: bool = False

    @property
    def end_ns(self) -> int | None:
        """Where its coverage ends; None while it lives."""
        if self.closed is not None:
            return max(self.closed.at, self.opened_ns)
        return self.last_ns if self.dead else None

    @property
    def cause(self) -> Cause:
        return self.closed.cause if self.closed is not None else "crash"

    def heard(self, at_ns: int) -> None:
        """It covers its stream until then at least."""
        self.last_ns = max(self.last_ns, at_ns)


class Gap(NamedTuple):
    """An interval that no session covered; wall clock in ns.

    Attributes:
        before: The session that ended where it begins.
        from_ns: Its start.
        to_ns: Its end; None while it lasts.
        missing: How many frames it lacks, as far as ids or pace can tell.
    """

    before: Session
    from_ns: int
    to_ns: int | None
    missing: int | None

    def overlaps(self, from_ns: int, to_ns: int) -> bool:
        """Whether it has a moment of the interval, or one near it."""
        return self.from_ns - NEAR_NS <= to_ns and (self.to_ns is None or from_ns <= self.to_ns + NEAR_NS)


@dataclass(slots=True)
class Coverage:
    """What is known of one stream's coverage.

    Attributes:
        stream: Whose.
        ids: The ids of its frames, for a channel that numbers them without a gap; else None.
        shown: Rows of holes in the ids that nothing else explains, by their id, to the frame's id before the hole; as
            long as the ids remember it.
        since_ns: When reading it began here: what came before may be in the archive, and is not read again then.
        sought: The holes that were looked for there.
    """

    stream: Stream
    ids: Ids | None = None
    since_ns: int = 0
    sessions: dict[tuple[str, int], Session] = field(default_factory=dict)
    drops: dict[tuple[str, int], Dropped] = field(default_factory=dict)
    marks: dict[tuple[str, int, Cause], Marked] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    sought: set[Hole] = field(default_factory=set)
    _explained: set[Hole] = field(default_factory=set)
    _forgotten_ns: int = 0
    _made: dict[tuple[str, int, int | None, Cause, int | None], Row] = field(default_factory=dict)

    def add(self, connection: str, event: Event) -> None:
        """Takes one event; the same one again changes nothing."""
        if isinstance(event, Dropped):
            self.drops[connection, event.at] = event
            for forgotten in _forget_the_first(self.drops):
                self._forgotten_ns = max(self._forgotten_ns, forgotten.to + NEAR_NS)
            return
        if isinstance(event, Marked):
            known = self.marks.get((connection, event.at, event.cause))
            if known is None or known.to is None:
                self.marks[connection, event.at, event.cause] = event
                _forget_the_first(self.marks)
            return
        key = connection, event.session
        session = self.sessions.get(key)
        if session is None:
            session = self.sessions[key] = Session(*key, event.at, event.at)
        if isinstance(event, Opened):
            session.opened_ns = min(session.opened_ns, event.at)
        elif session.closed is None or event.at < session.closed.at:
            session.closed = event
        session.heard(event.at)
        if len(self.sessions) > KEPT_SESSIONS:
            ends = {key: one.end_ns for key, one in self.sessions.items() if one.end_ns is not None}
            if ends:  # what ended first covers nothing of the gaps between those that stay
                del self.sessions[min(ends, key=ends.__getitem__)]
                self._forgotten_ns = max(self._forgotten_ns, min(one.opened_ns for one in self.sessions.values()))

    def silent(self) -> Iterator[Session]:
        """Sessions without a closing event, dead or alive."""
        return (session for session in self.sessions.values() if session.closed is None)

    def rows(self, before_s: float) -> list[Row]:
        """All rows that hold.

        Args:
            before_s: Holes in the ids count that were seen before this moment, monotonic.
        """
        gaps = list(self._gaps())
        return [
            *(self._gap_row(gap) for gap in gaps if not self._is_disproved(gap)),
            *self._dropped(),
            *self._marked(),
            *self._upstream(gaps, before_s),
        ]

    def disproved(self) -> list[Row]:
        """The rows of gaps in which nothing is missing, as the exchange's own ids say."""
        return [self._gap_row(gap) for gap in self._gaps() if self._is_disproved(gap)] if self.ids else []

    def _is_disproved(self, gap: Gap) -> bool:
        return self.ids is not None and gap.missing == 0

    def _gaps(self) -> Iterator[Gap]:
        last: Session | None = None
        for session in sorted(self.sessions.values(), key=lambda one: one.opened_ns):
            if last is not None and last.end_ns is not None and session.opened_ns > last.end_ns + TOUCH_NS:
                yield self._gap(last, last.end_ns, session.opened_ns)
            if last is None or _later(session.end_ns, last.end_ns):
                last = session
        if last is not None and last.end_ns is not None:
            yield self._gap(last, last.end_ns, None)

    def _gap(self, before: Session, from_ns: int, to_ns: int | None) -> Gap:
        missing = None
        if to_ns is not None:
            missing = self.ids.missing(from_ns, to_ns) if self.ids else by_pace(self.stream, from_ns, to_ns)
        return Gap(before, from_ns, to_ns, missing)

    def _gap_row(self, gap: Gap) -> Row:
        return self._row(_mark(gap.before), gap.from_ns, gap.to_ns, self._cause(gap), gap.missing)

    def _cause(self, gap: Gap) -> Cause:
        """Why its last session ended. A rotation is no reason for a gap: that is why the session ended which was to go
        on, and which covered no more because nothing ever came on it."""
        before = gap.before
        if before.cause != "rotation":
            return before.cause
        heirs = [one for one in self.sessions.values() if before.opened_ns < one.opened_ns <= gap.from_ns]
        return max(heirs, key=lambda one: one.opened_ns, default=before).cause

    def _row(self, mark: str, from_ns: int, to_ns: int | None, cause: Cause, missing: int | None) -> Row:
        """A row; made once: its id and its times cost more than all that is computed here."""
        key = mark, from_ns, to_ns, cause, missing
        row = self._made.get(key)
        if row is None:
            if len(self._made) > 4 * KEPT_SESSIONS:
                self._made.clear()
            row = self._made[key] = ledger.row(self.stream, from_ns, to_ns, cause, mark=mark, frames_missing=missing)
        return row

    def awaits_ids(self) -> bool:
        """Whether the next frame will tell how many a gap that is over lacks."""
        return self.ids is not None and any(
            gap.to_ns is not None and gap.missing is None and self.ids.reaches(gap.from_ns) for gap in self._gaps()
        )

    def gap_id(self, session: Session) -> str:
        """The id of the row for the gap after a session, if there is one."""
        return ledger.row_id(self.stream, _mark(session))

    def _dropped(self) -> Iterator[Row]:
        for (connection, at_ns), event in self.drops.items():
            yield self._row(f"dropped {connection} {at_ns}", event.at, event.to, event.cause, event.frames)

    def _marked(self) -> Iterator[Row]:
        """Nothing is missing in them; a mark ends with its connection at the latest."""
        for (connection, at_ns, cause), event in self.marks.items():
            to_ns = self._end_of(connection) if event.to is None else event.to
            yield self._row(f"mark {cause} {connection} {at_ns}", at_ns, to_ns, cause, 0)

    def _end_of(self, connection: str) -> int | None:
        ends = [one.end_ns for one in self.sessions.values() if one.connection == connection]
        return None if not ends or None in ends else max(filter(None, ends))

    def _upstream(self, gaps: list[Gap], before_s: float) -> Iterator[Row]:
        """Ids that are missing although the stream was covered, and nobody says that he dropped them."""
        if self.ids is None:
            return
        ids, settled = self.ids, set(self.ids.holes(before_s))
        self.shown = {row_id: number for row_id, number in self.shown.items() if ids.remembers(number)}
        explained = set()
        for hole in ids.holes(math.inf):
            # what explained it may be forgotten by now
            was_explained = hole in self._explained and hole.last_ns < self._forgotten_ns
            if was_explained or self._is_dropped(hole) or any(gap.overlaps(hole.last_ns, hole.next_ns) for gap in gaps):
                explained.add(hole)
            elif hole in settled:
                mark = f"break {hole.last_id} {hole.next_id}"
                row = self._row(mark, hole.last_ns, hole.next_ns, "upstream", hole.frames)
                self.shown[row.id] = hole.last_id
                yield row
        self._explained = explained

    def _is_dropped(self, hole: Hole) -> bool:
        return any(
            hole.last_ns <= drop.to + NEAR_NS and drop.at - NEAR_NS <= hole.next_ns for drop in self.drops.values()
        )


def _forget_the_first(told: dict[Any, T]) -> list[T]:
    """Bounds what is kept of a stream: what was told long ago has its row already. Gives what is forgotten."""
    return [told.pop(key) for key in [*islice(told, max(0, len(told) - KEPT_SESSIONS))]]


def _mark(session: Session) -> str:
    return f"after {session.connection}" + f" {session.number}" * (session.number != 1)


def _later(end_ns: int | None, than_ns: int | None) -> bool:
    return than_ns is not None and (end_ns is None or end_ns > than_ns)


def by_pace(stream: Stream, from_ns: int, to_ns: int) -> int | None:
    """How many frames an interval lacks, by the channel's pace; None for channels that have none."""
    channel = CHANNELS.get(stream.channel)
    if channel is None or channel.pace_s is None:
        return None
    return max(0, round((to_ns - from_ns) / (channel.pace_s * SECOND_NS)) - 1)
