"""Is each frame that the exchange sent in the archive, once, byte for byte; and if not, does the ledger say so?

And the other way about: has each row of the ledger its gap? Either a frame of the stream is missing in it, or for a
moment of it no connection was being served with the stream, by the exchange's own word (`spans`). Reads the archive
with the standard library alone: nothing of the code under test judges itself.
"""

import base64
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from common import ledger
from common.channels import CHANNELS
from common.clock import iso
from common.ledger import Row
from common.streams import Stream
from tests.sims.exchange.client import Exchange
from tests.sims.exchange.sent import SKIPPED, Sent
from tests.sims.exchange.spans import Span

SLACK_NS = 60_000_000
"""The exchange's stamp of a frame and the collector's differ by the way between them."""

MARKS = frozenset({"gate", "suspend", "halted"})
"""Causes whose rows say something of recorded data where no frame is missing: marks, not gaps."""

_LINE = re.compile(rb'\{"t":(\d+),"c":"([^"]+)","n":(\d+),"([db])":(.*)\}', re.DOTALL)


@dataclass(frozen=True)
class Line:
    """A line of the raw archive."""

    receive_ns: int
    connection: str
    counter: int
    payload: bytes


def lines(data: Path, stream: Stream) -> list[Line]:
    """Every frame of a stream, minute files and day bundles together."""
    found = []
    for file in sorted((data / "raw" / stream.market / stream.channel / stream.symbol).rglob("*.zip")):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                for line in archive.read(name).splitlines():
                    match = _LINE.fullmatch(line)
                    assert match, (file, name, line[:200])
                    json.loads(line)
                    receive_ns, connection, counter, kind, value = match.groups()
                    payload = base64.b64decode(value.strip(b'"')) if kind == b"b" else value
                    found.append(Line(int(receive_ns), connection.decode(), int(counter), payload))
    return found


def streams(exchange: Exchange, markets: tuple[str, ...] = ("um", "spot")) -> dict[tuple[str, str], Stream]:
    """(market, exchange stream) to our stream, for all that was subscribed."""
    found = {}
    for market in markets:
        for name in exchange.streams(market):
            symbol, _, suffix = name.partition("@")
            for channel in CHANNELS.values():
                if channel.suffix == suffix:
                    found[market, name] = Stream(market, channel.name, symbol.upper())
    return found


@dataclass
class Account:
    """What became of the frames that were sent.

    Attributes:
        sent, archived: Frames.
        missing: Frames that were sent and are not archived, up to the end of what is judged.
        doubled, alien: Frames that are archived too often, or were never sent.
        rows: The ledger.
        absent_ns: When frames were made that are not archived, also those after the end and those skipped on purpose.
        spans: When connections were served with the stream.
        archived_ns: When the newest frame that is archived was made.
        at_ns: When the spans were asked for, by the exchange's clock: those that lasted, lasted until then.
    """

    sent: int = 0
    archived: int = 0
    missing: dict[Stream, list[Sent]] = field(default_factory=dict)
    doubled: dict[Stream, int] = field(default_factory=dict)
    alien: dict[Stream, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    absent_ns: dict[Stream, list[int]] = field(default_factory=dict)
    spans: dict[Stream, list[Span]] = field(default_factory=dict)
    archived_ns: dict[Stream, int] = field(default_factory=dict)
    at_ns: int = 0

    @property
    def figures(self) -> dict[str, int]:
        """For the table of `make soak`."""
        missing = sum(map(len, self.missing.values()))
        doubled = sum(self.doubled.values())
        return {"sent": self.sent, "missing": missing, "doubled": doubled, "rows": len(self.rows)}

    def unexplained(self) -> dict[Stream, list[Sent]]:
        """Missing frames that lie in no row of the ledger."""
        left: dict[Stream, list[Sent]] = {}
        for stream, frames in self.missing.items():
            rows = [row for row in self.rows if row.stream == stream and row.healed_by is None]
            lost = [one for one in frames if not any(_covers(row, one.sent_ns) for row in rows)]
            if lost:
                left[stream] = lost
        return left

    def story(self) -> str:
        """For a person: each stream's unexplained frames between its rows, in order of time."""
        told = []
        for stream, frames in self.unexplained().items():
            rows = [row for row in self.rows if row.stream == stream]
            told.append(f"{stream.key}: {len(frames)} unexplained")
            told += sorted(
                [f"  {iso(one.sent_ns)} missing, deliveries {one.deliveries}" for one in frames[:20]]
                + [f"  {row.from_} .. {row.to} {row.cause} healed_by={row.healed_by}" for row in rows]
            )
        return "\n".join(told)

    def holding(self) -> list[Row]:
        """The gaps that hold; the stop at the test's end, which leaves an open one in each stream, is none."""
        return [
            row
            for row in self.rows
            if row.healed_by is None and not _is_mark(row) and not (row.cause == "maintenance" and row.to is None)
        ]

    def marks(self) -> list[Row]:
        """The rows that hold and are no gaps: what they cover was recorded, and is marked."""
        return [row for row in self.rows if row.healed_by is None and _is_mark(row)]

    def unjustified(self) -> list[Row]:
        """Gaps that hold in the ledger although there was none.

        A `rejected` row is none of them: its frames are archived as they came, it says that they cannot be read.
        """
        return [row for row in self.holding() if row.cause != "rejected" and not self._is_justified(row)]

    def _is_justified(self, row: Row) -> bool:
        spans = [(span.from_ns, span.to_ns or self.at_ns) for span in self.spans.get(row.stream, ())]
        last_ns = max((to_ns for _, to_ns in spans), default=0)
        absent_ns = self.absent_ns.get(row.stream, ())
        if row.to_ns is None:
            # It says that nothing comes any more. What lies behind the end of the last span proves that only where the
            # row begins there, or with the last frame: the test's own end would else justify every open row.
            return (
                row.from_ns >= min(last_ns, self.archived_ns.get(row.stream, last_ns)) - SLACK_NS
                or any(_covers(row, at_ns) and at_ns < last_ns - SLACK_NS for at_ns in absent_ns)
                or not _is_covered(spans, row.from_ns - SLACK_NS, last_ns)
            )
        return any(_covers(row, at_ns) for at_ns in absent_ns) or not _is_covered(
            spans, row.from_ns - SLACK_NS, row.to_ns + SLACK_NS
        )

    def verdict(self, causes: set[str]) -> str:
        """What is wrong, for a person; empty where all is well.

        Args:
            causes: The causes that a gap may have.
        """
        told = [f"{stream.key}: {count} frames doubled" for stream, count in self.doubled.items()]
        told += [f"{stream.key}: {count} frames that were never sent" for stream, count in self.alien.items()]
        if story := self.story():
            told.append(story)
        told += [f"{_told(row)}: no frame is missing, and it was served all the time" for row in self.unjustified()]
        told += [f"{_told(row)}: not a cause for this" for row in self.holding() if row.cause not in causes]
        return "\n".join(told)

    def causes(self) -> set[str]:
        """Why frames are missing."""
        return {row.cause for row in self.holding()}


def _is_mark(row: Row) -> bool:
    return row.cause in MARKS and row.frames_missing == 0


def _told(row: Row) -> str:
    return f"{row.stream.key} {row.from_} .. {row.to} {row.cause} ({row.frames_missing} missing)"


def _is_covered(spans: Iterable[tuple[int, int]], from_ns: int, to_ns: int) -> bool:
    """Whether the spans together leave no moment of the interval out."""
    reached = from_ns
    for start_ns, end_ns in sorted(spans):
        if start_ns > reached:
            break
        reached = max(reached, end_ns)
    return reached >= to_ns


def _covers(row: Row, at_ns: int) -> bool:
    return row.from_ns - SLACK_NS <= at_ns and (row.to_ns is None or at_ns <= row.to_ns + SLACK_NS)


def account(exchange: Exchange, data: Path, *, until_ns: int | None = None) -> Account:
    """Compares everything sent with everything archived.

    Args:
        exchange: Who knows what it sent.
        data: The archive.
        until_ns: Frames generated later do not count as missing; None takes the last archived frame of each stream.
    """
    result = Account(rows=ledger.read(data), at_ns=exchange.state()["now_ns"])
    for (market, name), stream in streams(exchange).items():
        result.spans[stream] = exchange.spans(market, name)
        everything = exchange.sent(market, name)
        sent = [one for one in everything if not one.flags & SKIPPED]
        absent = [one.sent_ns for one in everything if one.flags & SKIPPED]
        found = lines(data, stream)
        digests = Counter(exchange.digest(line.payload) for line in found)
        expected = Counter(one.digest for one in sent)
        result.archived += len(found)
        doubled = sum(count for digest, count in (digests - expected).items() if digest in expected)
        if doubled:
            result.doubled[stream] = doubled
        alien = sum(count for digest, count in digests.items() if digest not in expected)
        if alien:
            result.alien[stream] = alien
        end_ns = until_ns if until_ns is not None else max((line.receive_ns for line in found), default=0)
        missing = []
        for one in sent:
            result.sent += one.sent_ns <= end_ns
            if digests[one.digest] > 0:
                digests[one.digest] -= 1
                result.archived_ns[stream] = max(one.sent_ns, result.archived_ns.get(stream, 0))
            else:
                absent.append(one.sent_ns)
                if one.sent_ns <= end_ns:
                    missing.append(one)
        result.absent_ns[stream] = absent
        if missing:
            result.missing[stream] = missing
    return result


def verify_holds(data: Path) -> list[str]:
    """What `python -m archiver verify` finds."""
    from archiver.verify import verify

    return [str(problem) for problem in verify(data, None, rows=ledger.read(data))]
