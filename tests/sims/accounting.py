"""Is each frame that the exchange sent in the archive, once, byte for byte; and if not, does the ledger say so?

Reads the archive with the standard library alone: nothing of the code under test judges itself.
"""

import base64
import json
import re
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from common import ledger
from common.channels import CHANNELS
from common.clock import iso
from common.ledger import Row
from common.streams import Stream
from tests.sims.exchange.client import Exchange
from tests.sims.exchange.sent import Sent

SLACK_NS = 60_000_000
"""The exchange's stamp of a frame and the collector's differ by the way between them."""

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
    """What became of the frames that were sent."""

    sent: int = 0
    archived: int = 0
    missing: dict[Stream, list[Sent]] = field(default_factory=dict)
    doubled: dict[Stream, int] = field(default_factory=dict)
    alien: dict[Stream, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

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
        """The rows that hold; the stop at the test's end, which leaves an open one in each stream, is none."""
        return [
            row for row in self.rows if row.healed_by is None and not (row.cause == "maintenance" and row.to is None)
        ]

    def causes(self) -> set[str]:
        """Why frames are missing."""
        return {row.cause for row in self.holding()}


def _covers(row: Row, at_ns: int) -> bool:
    return row.from_ns - SLACK_NS <= at_ns and (row.to_ns is None or at_ns <= row.to_ns + SLACK_NS)


def account(exchange: Exchange, data: Path, *, until_ns: int | None = None) -> Account:
    """Compares everything sent with everything archived.

    Args:
        exchange: Who knows what it sent.
        data: The archive.
        until_ns: Frames generated later do not count as missing; None takes the last archived frame of each stream.
    """
    result = Account(rows=ledger.read(data))
    for (market, name), stream in streams(exchange).items():
        sent = [one for one in exchange.sent(market, name) if not one.flags & 1]
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
            elif one.sent_ns <= end_ns:
                missing.append(one)
        if missing:
            result.missing[stream] = missing
    return result


def verify_holds(data: Path) -> list[str]:
    """What `python -m archiver verify` finds."""
    from archiver.verify import verify

    return [str(problem) for problem in verify(data, None, rows=ledger.read(data))]
