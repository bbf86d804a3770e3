"""Keeps the ledger: takes session events and signs of life, decides who died, makes the rows durable.

The events themselves are archived in `ledger/sessions/<YYYY-MM-DD>.jsonl` before they are acknowledged, so that what a
session covered is known after a restart; rows are computed from all of them anew, and written where they changed.
"""

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from archiver import archived, session_files
from archiver.bundles import Bundled
from archiver.coverage import KEPT_SESSIONS, Coverage, Session, by_pace
from archiver.jobs import Written
from archiver.layout import minute_named
from archiver.members import CorruptError, directory
from archiver.revisions import as_healed_as, explained, informed, same, withdrawn
from archiver.signs import Signs, heard_ns
from archiver.staging import Said, Stage
from common import ledger
from common.clock import DAY_NS, MINUTE_NS, SECOND_NS, now_ns
from common.frame import PLAUSIBLE_NS
from common.ledger import Row
from common.paths import Minute, day_of, raw_minute
from common.streams import Stream

log = logging.getLogger(__name__)

SETTLED_S = 3.0
"""A hole in a stream's ids is looked at when it is so old: a twin's frames may come a little later."""

SESSION_FILES = 7
"""So many of the newest files of sessions are read at the start: a recorded stream speaks in each of them."""

KEPT_ROWS = 4 * KEPT_SESSIONS
"""Of a stream with more rows those are forgotten that do not change any more."""


class Bookkeeper:
    """The ledger of the streams that this archiver holds.

    Args:
        data: The data folder.
        dead_after_s: A collector that gives no sign for so long is dead.
    """

    def __init__(self, data: Path, *, dead_after_s: float) -> None:
        self._data = data
        self._coverage: dict[Stream, Coverage] = {}
        self._rows: dict[Stream, dict[str, Row]] = {}
        self._signs = Signs(dead_after_s)
        self._changed: set[Stream] = set()
        self._holed: dict[Stream, float] = {}
        self._said: list[Said] = []
        self._found: list[Row] = []

    # What comes in.

    def take_over(self, streams: Iterable[Stream]) -> None:
        """Reads what is known of streams that this archiver reads from now on. Blocks: a few files."""
        wanted = {stream.key: stream for stream in streams}
        for stream in wanted.values():
            self._coverage[stream] = Coverage(stream, since_ns=now_ns())
        files = session_files.files(self._data)
        self._read_sessions(files[-SESSION_FILES:], wanted)
        for row in ledger.read(self._data):
            if (stream := row.stream).key in wanted:
                self._rows.setdefault(stream, {})[row.id] = row
        open_since = self._open_since(wanted.values())
        if open_since:
            days = {str(day + timedelta(days)) for day in open_since.values() for days in (-1, 0, 1)}
            older = [file for file in files[:-SESSION_FILES] if file.stem in days]
            self._read_sessions(older, {stream.key: stream for stream in open_since})
        for stream in wanted.values():
            self._remember_the_dead(self._coverage[stream])

    def _read_sessions(self, files: Iterable[Path], wanted: Mapping[str, Stream]) -> None:
        for file in files:
            for line in session_files.read(file):
                if line.stream in wanted:
                    self._coverage[wanted[line.stream]].add(line.c, line.event)

    def _open_since(self, streams: Iterable[Stream]) -> dict[Stream, date]:
        """Streams with a gap that is open since a session of which nothing was read, and the day on which it began."""
        found = {}
        for stream in streams:
            coverage = self._coverage[stream]
            known = {coverage.gap_id(session) for session in coverage.sessions.values()}
            for row in self._rows.get(stream, {}).values():
                if row.to is None and row.healed_by is None and row.id not in known:
                    found[stream] = day_of(row.from_ns)
        return found

    def _remember_the_dead(self, coverage: Coverage) -> None:
        """A session that has its row already, and no closing event, was found dead before."""
        for session in coverage.silent():
            row = self._rows.get(coverage.stream, {}).get(coverage.gap_id(session))
            if row is not None and row.healed_by is None:
                session.dead = True
                session.last_ns = row.from_ns

    def give_up(self, stream: Stream) -> None:
        """Somebody else keeps this stream's ledger now."""
        self._coverage.pop(stream, None)
        self._rows.pop(stream, None)
        self._changed.discard(stream)
        self._holed.pop(stream, None)
        self._said = [one for one in self._said if one.stream != stream]

    def take(self, stage: Stage, now_s: float) -> None:
        """Takes what was read since the last time: events, and holes in the ids, which are looked at a little later."""
        for said in stage.said:
            coverage = self._coverage.setdefault(said.stream, Coverage(said.stream))
            coverage.add(said.connection, said.event)
            self._said.append(said)
            self._changed.add(said.stream)
            if coverage.ids is not None:
                self._holed[said.stream] = now_s
        stage.said.clear()
        for stream in stage.holed:
            coverage = self._coverage.setdefault(stream, Coverage(stream))
            coverage.ids = stage.ids(stream)
            self._holed[stream] = now_s
            self._changed.add(stream)
        stage.holed.clear()
        for stream in [stream for stream, since_s in self._holed.items() if now_s - since_s > SETTLED_S]:
            self._changed.add(stream)
            if self._coverage[stream].awaits_ids():
                self._holed[stream] = now_s
            else:
                del self._holed[stream]

    def written(self, done: Written) -> None:
        """Takes what a minute's writing found: frames without a Parquet row, a damaged file."""
        minute = done.minute
        if done.rejected is not None:
            first_ns, last_ns, count = done.rejected.first_ns, done.rejected.last_ns, done.rejected.count
            mark = f"rejected {minute.number}"
            self._found.append(
                ledger.row(minute.stream, first_ns, last_ns, "rejected", mark=mark, frames_missing=count)
            )
        if done.corrupt is not None:
            self._damaged(minute.stream, done.corrupt, minute.start_ns, minute.end_ns)

    def bundled(self, done: Bundled) -> None:
        """Takes what a day's bundling found."""
        start_ns = int(datetime(done.day.year, done.day.month, done.day.day, tzinfo=UTC).timestamp()) * SECOND_NS
        for path in done.corrupt:
            found = minute_named(done.stream, done.day, path.name[:5])
            span = (found.start_ns, found.end_ns) if found else (start_ns, start_ns + DAY_NS)
            self._damaged(done.stream, path, *span)

    def _damaged(self, stream: Stream, path: Path, from_ns: int, to_ns: int) -> None:
        log.error("%s was damaged and is set aside; what could not be read of it is lost", path)
        missing = by_pace(stream, from_ns, to_ns)
        self._found.append(
            ledger.row(stream, from_ns, to_ns, "rejected", mark=f"damaged {path.name}", frames_missing=missing)
        )

    # Who is alive.

    def no_judgement(self, now_s: float) -> None:
        """Redis took no writes for a while: the silence of the collectors proves nothing, and counts from now."""
        self._signs.forgive(now_s)

    def judge(self, beats: dict[bytes, bytes], stage: Stage, unread: frozenset[Stream], now_s: float) -> None:
        """Decides which sessions live, by their collectors' signs of life; `unread` streams are judged later.

        A sign that says more than is known of a dead session (its spill was sent later) lets it live, until it is
        buried again with that.
        """
        silent = {one.connection for coverage in self._coverage.values() for one in coverage.silent()}
        alive, came, dead = self._signs.judge(beats, silent, now_s)
        for stream, coverage in self._coverage.items():
            for session in coverage.silent() if stream not in unread else ():
                if session.connection in came:
                    self._changed.add(stream)
                value = beats.get(session.connection.encode(), b"")
                if session.dead and (session.connection in alive or heard_ns(value) > session.last_ns):
                    session.dead = False
                    self._changed.add(stream)
                elif not session.dead and session.connection in dead:
                    self._bury(coverage, session, value, stage)
                    self._changed.add(stream)

    def _bury(self, coverage: Coverage, session: Session, value: bytes, stage: Stage) -> None:
        """A dead session's coverage ends with the last that is known of it, by its own word or by its frames."""
        stream, name = coverage.stream, session.connection
        session.heard(heard_ns(value))
        session.heard(stage.heard(stream).get(name, 0))
        for number in (session.last_ns // MINUTE_NS, session.last_ns // MINUTE_NS + 1):
            session.heard(self._last_archived(Minute(stream, number), name))
        session.dead = True
        log.warning("%s: the collector of %s is gone without a word", stream.key, name)

    def _last_archived(self, minute: Minute, connection: str) -> int:
        try:
            members = directory(self._data / raw_minute(minute)).members
        except (FileNotFoundError, CorruptError):
            return 0
        summary = members[0].summary if members else None
        known = (summary.connections or {}) if summary else {}
        return known[connection][2] if connection in known else 0

    # What goes out.

    async def settle(self, *, at_once: bool = False) -> list[Said]:
        """Makes everything that changed durable.

        Args:
            at_once: Does not wait for a twin's frames before a hole in the ids counts.

        Returns:
            The events whose entries may be acknowledged now.

        Raises:
            OSError: The disk does not take it; nothing is forgotten.
        """
        said, self._said = self._said, []
        found, self._found = self._found, []
        changed, self._changed = self._changed | (self._holed.keys() if at_once else set()), set()
        if not said and not found and not changed:
            return []
        before_s = math.inf if at_once else time.monotonic() - SETTLED_S
        try:
            await self._seek(changed)
            rows = [*found, *self._rows_of(changed, before_s)]
            appended = await asyncio.to_thread(self._write, said, rows)
        except OSError:
            self._said[:0] = said
            self._found[:0] = found
            self._changed |= changed
            raise
        for row in appended:
            self._rows.setdefault(row.stream, {})[row.id] = row
            log.info(
                "ledger: %s %s %s..%s %s", row.id, row.stream.key, row.from_, row.to or "", row.healed_by or row.cause
            )
        for stream in {row.stream for row in appended}:
            self._forget(stream)
        return said

    async def _seek(self, streams: Iterable[Stream]) -> None:
        """Looks into the archive for what holes in the ids lack, once for each: it may have been read before our start.
        Of a long hole a part is found at a time; what is left of it is another one."""
        for stream in streams:
            coverage = self._coverage.get(stream)
            if coverage is None or coverage.ids is None:
                continue
            until_ns = coverage.since_ns + PLAUSIBLE_NS
            new = {hole for hole in coverage.ids.holes(math.inf) if hole.last_ns < until_ns} - coverage.sought
            found = await asyncio.to_thread(archived.within, self._data, stream, new) if new else []
            now_s = time.monotonic()
            for one in found:
                coverage.ids.add(one.number, one.receive_ns, now_s, one.event_ms)
                self._holed[stream] = now_s
            coverage.sought = (coverage.sought | new) & set(coverage.ids.holes(math.inf))

    def _rows_of(self, streams: Iterable[Stream], before_s: float) -> list[Row]:
        rows: list[Row] = []
        for stream in streams:
            coverage = self._coverage.get(stream)
            if coverage is None:
                continue
            known = self._rows.setdefault(stream, {})
            now = [informed(row, known.get(row.id)) for row in coverage.rows(before_s)]
            rows += now
            disproved = {row.id: row for row in coverage.disproved()}
            # also where it was never written: who starts after us knows no ids, and would find the gap again
            rows += withdrawn((as_healed_as(row, known.get(row.id)) for row in disproved.values()), now, "ids")
            gaps = {coverage.gap_id(session) for session in coverage.sessions.values()} & known.keys()
            if self._is_judged(coverage):
                rows += withdrawn((known[one] for one in gaps - disproved.keys()), now, "resumed")
            rows += withdrawn(self._upstream_before(coverage, now), now, "ids")
        return [row for row in rows if not same(row, self._rows.get(row.stream, {}).get(row.id))]

    def _is_judged(self, coverage: Coverage) -> bool:
        """Whether all sessions that seem to last are known to: one that was killed beside its twin has no row, and an
        archiver that starts later would take it for one that covers everything since."""
        return all(session.dead or self._signs.has_lived(session.connection) for session in coverage.silent())

    def _upstream_before(self, coverage: Coverage, now: Sequence[Row]) -> list[Row]:
        """Rows that ids alone had shown, of this process, or with a better cause by now: they hold if they are shown
        again. Those that an earlier archiver found are not forgotten with it, nor those whose hole is forgotten."""
        before = [row for row in self._rows.get(coverage.stream, {}).values() if row.cause == "upstream"]
        return [row for row in before if row.id in coverage.shown or explained(now, row)]

    def _forget(self, stream: Stream) -> None:
        """Bounds what is kept of a stream: a row stands as it is when what could change it is remembered no more."""
        known, coverage = self._rows[stream], self._coverage.get(stream)
        if len(known) <= KEPT_ROWS or coverage is None:
            return
        current = {row.id for row in (*coverage.rows(-math.inf), *coverage.disproved())} | coverage.shown.keys()
        current |= {coverage.gap_id(session) for session in coverage.sessions.values()}
        for row in list(known.values()):
            if row.id not in current and row.to is not None:
                del known[row.id]

    def _write(self, said: Sequence[Said], rows: Sequence[Row]) -> list[Row]:
        session_files.append(self._data, said)
        return ledger.write(self._data, rows)
