"""From the sessions of all collectors to the ledger's rows of one stream: pure.

A session covers its stream from its opening to its end. What no session covered is a gap, and has a row. Sessions are a
set, united by connection: events may come twice, late, or in any order, and the rows are computed from the set anew.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from common import ledger
from common.channels import CHANNELS
from common.clock import SECOND_NS
from common.ledger import Row
from common.session import Cause, Closed, Dropped, Event, Opened
from common.streams import Stream

KEPT_SESSIONS = 64
"""Sessions of a stream that are looked at; what lies before has its rows already."""


@dataclass(slots=True)
class Session:
    """One connection's subscription to the stream.

    Attributes:
        connection: The connection's id.
        opened_ns: When it opened, or its first frame came.
        last_ns: The last moment known to be covered.
        closed: Its closing event; None while it lives, or when it died without a word.
        dead: It died without a word: its collector gives no sign of life.
    """

    connection: str
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


@dataclass(slots=True)
class Coverage:
    """What is known of one stream's coverage."""

    stream: Stream
    sessions: dict[str, Session] = field(default_factory=dict)
    drops: dict[tuple[str, int], Dropped] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    """Connection whose end left a gap: frames missing in it, counted by the exchange's ids."""

    def add(self, connection: str, event: Event) -> None:
        """Takes one event; the same one again changes nothing."""
        if isinstance(event, Dropped):
            self.drops[connection, event.at] = event
            return
        session = self.sessions.get(connection)
        if session is None:
            session = self.sessions[connection] = Session(connection, event.at, event.at)
        if isinstance(event, Opened):
            session.opened_ns = min(session.opened_ns, event.at)
        elif session.closed is None or event.at < session.closed.at:
            session.closed = event
        session.last_ns = max(session.last_ns, event.at)
        if len(self.sessions) > KEPT_SESSIONS:
            ended = [one for one in self.sessions.values() if one.end_ns is not None]
            if ended:
                del self.sessions[min(ended, key=lambda one: one.opened_ns).connection]

    def heard(self, connection: str, at_ns: int) -> None:
        """A frame of a connection, or its collector's word that nothing came until then."""
        session = self.sessions.get(connection)
        if session is not None and at_ns > session.last_ns:
            session.last_ns = at_ns

    def silent(self) -> Iterator[Session]:
        """Sessions without a closing event, dead or alive."""
        return (session for session in self.sessions.values() if session.closed is None)

    def rows(self) -> list[Row]:
        """A row for each interval that no session covered, and for each that was received and dropped."""
        return [*self._gaps(), *self._dropped()]

    def _gaps(self) -> Iterator[Row]:
        last: Session | None = None
        for session in sorted(self.sessions.values(), key=lambda one: one.opened_ns):
            if last is not None and last.end_ns is not None and session.opened_ns > last.end_ns:
                yield self._gap(last, session.opened_ns)
            if last is None or _later(session.end_ns, last.end_ns):
                last = session
        if last is not None and last.end_ns is not None:
            yield self._gap(last, None)

    def _gap(self, before: Session, to_ns: int | None) -> Row:
        from_ns = before.end_ns
        assert from_ns is not None
        missing = self.missing.get(before.connection)
        if missing is None and to_ns is not None:
            missing = by_pace(self.stream, from_ns, to_ns)
        return ledger.row(self.stream, from_ns, to_ns, before.cause, mark=_mark(before), frames_missing=missing)

    def gap_id(self, session: Session) -> str:
        """The id of the row for the gap after a session, if there is one."""
        return ledger.row_id(self.stream, _mark(session))

    def _dropped(self) -> Iterator[Row]:
        for (connection, at_ns), event in self.drops.items():
            mark = f"dropped {connection} {at_ns}"
            yield ledger.row(self.stream, event.at, event.to, event.cause, mark=mark, frames_missing=event.frames)


def _mark(session: Session) -> str:
    return f"after {session.connection}"


def _later(end_ns: int | None, than_ns: int | None) -> bool:
    return than_ns is not None and (end_ns is None or end_ns > than_ns)


def by_pace(stream: Stream, from_ns: int, to_ns: int) -> int | None:
    """How many frames an interval lacks, by the channel's pace; None for channels that have none."""
    channel = CHANNELS.get(stream.channel)
    if channel is None or channel.pace_s is None:
        return None
    return max(0, round((to_ns - from_ns) / (channel.pace_s * SECOND_NS)) - 1)


def withdrawn(known: Iterable[Row], now: Iterable[Row], by: str) -> list[Row]:
    """Rows that were written and hold no more: their gap turned out to be covered after all."""
    there = {row.id for row in now}
    return [
        msgspec.structs.replace(row, to=row.to or row.from_, frames_missing=0, healed_by=by)
        for row in known
        if row.id not in there and row.healed_by is None
    ]
