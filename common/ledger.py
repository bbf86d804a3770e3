"""The ledger: every interval of a stream without data has a row (DESIGN section 6).

Rows are JSON lines in `ledger/<YYYY-MM-DD>.jsonl`, in the file of their start's date, only ever appended: a row that
changes is written again with a higher revision, and the highest revision wins. The archiver alone writes them.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import msgspec

from common.clock import from_iso, iso
from common.paths import day_of, ledger_day
from common.session import Cause
from common.streams import Stream

log = logging.getLogger(__name__)


class Row(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """An interval of one stream without data, or with a part of it.

    Attributes:
        id: Deterministic: the same gap has the same id, whoever finds it and however often.
        revision: From 1; the highest of an id is the one that holds.
        from_: ISO-8601, UTC; the last moment known to be covered. In the file its name is `from`.
        to: ISO-8601, UTC; covered again from here on; None while the gap is open.
        cause: Why.
        frames_missing: How many, by ids or by the channel's pace; None where neither can tell.
        recoverable: Whether the exchange still sells it for nothing (REST, archive): order books never.
        healed_by: What closed the gap after all; a healed row counts no more.
    """

    id: str
    revision: int
    market: str
    channel: str
    symbol: str
    from_: str
    to: str | None
    cause: Cause
    frames_missing: int | None
    recoverable: bool
    healed_by: str | None = None

    @property
    def stream(self) -> Stream:
        return Stream(self.market, self.channel, self.symbol)

    @property
    def from_ns(self) -> int:
        return from_iso(self.from_)

    @property
    def to_ns(self) -> int | None:
        return None if self.to is None else from_iso(self.to)


RECOVERABLE = frozenset({"aggTrade", "kline_1m"})
"""Channels whose every frame can be made again from the history that the exchange gives out."""


def row(stream: Stream, from_ns: int, to_ns: int | None, cause: Cause, *, mark: str, frames_missing: int | None) -> Row:
    """A first revision. `mark` is what tells this gap from any other of the stream, however its ends move."""
    return Row(
        row_id(stream, mark), 1, *stream, iso(from_ns), None if to_ns is None else iso(to_ns), cause, frames_missing,
        stream.channel in RECOVERABLE,
    )  # fmt: skip


def row_id(stream: Stream, mark: str) -> str:
    """The id of the row of a stream with this mark: 16 hex digits."""
    return hashlib.blake2b(f"{stream.key} {mark}".encode(), digest_size=8).hexdigest()


def read(data: Path, day: date | None = None) -> list[Row]:
    """The rows that hold, of one day or of all, by start. Lines that are no rows are left out and logged."""
    latest: dict[str, Row] = {}
    files = [data / ledger_day(day)] if day else sorted((data / "ledger").glob("????-??-??.jsonl"))
    for file in files:
        for found in _lines(file):
            known = latest.get(found.id)
            if known is None or found.revision > known.revision:
                latest[found.id] = found
    return sorted(latest.values(), key=lambda row: row.from_)


def _lines(file: Path) -> Iterator[Row]:
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        if line:
            try:
                yield msgspec.json.decode(line, type=Row)
            except msgspec.DecodeError as error:
                log.error("%s line %d is no row of the ledger: %s", file, number, error)


def write(data: Path, rows: Iterable[Row]) -> list[Row]:
    """Makes rows durable: new ones and changed ones are appended, with the revision that is due.

    Returns:
        What was appended; nothing for rows that stand there already.
    """
    appended: list[Row] = []
    by_day: dict[date, list[Row]] = {}
    for one in rows:
        by_day.setdefault(day_of(one.from_ns), []).append(one)
    for day, group in by_day.items():
        file = data / ledger_day(day)
        with locked_file(file) as descriptor:
            known = {one.id: one for one in read(data, day)}
            changed = [one for one in map(_revised, group, [known] * len(group)) if one is not None]
            append_lines(descriptor, map(msgspec.json.encode, changed))
        appended += changed
    return appended


def _revised(new: Row, known: dict[str, Row]) -> Row | None:
    old = known.get(new.id)
    if old is None:
        known[new.id] = new
        return new
    revised = msgspec.structs.replace(new, revision=old.revision + 1)
    if msgspec.structs.replace(old, revision=revised.revision) == revised:
        return None
    known[new.id] = revised
    return revised


@contextmanager
def locked_file(file: Path) -> Iterator[int]:
    """A file that only ever grows, open for appending and locked against other writers; made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def append_lines(descriptor: int, lines: Iterable[bytes]) -> None:
    """Appends lines durably to a file that is open for appending; a torn line of a killed writer is ended first."""
    text = b"".join(line + b"\n" for line in lines)
    if not text:
        return
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        text = b"\n" + text
    try:
        os.write(descriptor, text)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
