"""The ledger's files: appended, revised, never rewritten."""

import logging
from datetime import date
from pathlib import Path

import msgspec
import pytest

from common import ledger
from common.clock import SECOND_NS, from_iso
from common.streams import Stream

STREAM = Stream("um", "depth20", "BTCUSDT")
FROM_NS = from_iso("2026-11-20T23:59:59.5Z")
FILE = Path("ledger/2026-11-20.jsonl")


def open_row() -> ledger.Row:
    return ledger.row(STREAM, FROM_NS, None, "disconnect", mark="after a", frames_missing=None)


def closed_row() -> ledger.Row:
    return ledger.row(STREAM, FROM_NS, FROM_NS + SECOND_NS, "disconnect", mark="after a", frames_missing=9)


def test_a_row_that_changes_is_written_again_with_a_higher_revision(tmp_path: Path) -> None:
    """The same gap has the same id; the highest revision holds; what stands there already is not written."""
    assert [row.revision for row in ledger.write(tmp_path, [open_row()])] == [1]
    assert ledger.write(tmp_path, [open_row()]) == []
    assert [row.revision for row in ledger.write(tmp_path, [closed_row()])] == [2]
    assert ledger.write(tmp_path, [closed_row()]) == []
    (row,) = ledger.read(tmp_path)
    assert (row.revision, row.to_ns, row.frames_missing) == (2, FROM_NS + SECOND_NS, 9)
    assert len((tmp_path / FILE).read_bytes().splitlines()) == 2


def test_a_row_lives_in_the_file_of_its_starts_date(tmp_path: Path) -> None:
    """A gap across midnight is in the file of the day in which it began."""
    ledger.write(tmp_path, [closed_row()])
    assert (tmp_path / FILE).is_file()
    assert ledger.read(tmp_path, date(2026, 11, 21)) == []


def test_keys_are_those_of_the_design(tmp_path: Path) -> None:
    """The keys of a line, and their order, are a contract with whoever reads the files."""
    ledger.write(tmp_path, [closed_row()])
    keys = ["id", "revision", "market", "channel", "symbol", "from", "to", "cause"]
    keys += ["frames_missing", "recoverable", "healed_by"]
    assert list(msgspec.json.decode((tmp_path / FILE).read_bytes())) == keys


def test_a_torn_line_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a writer was killed in a line, the next row begins a line of its own, and the torn one is named."""
    ledger.write(tmp_path, [open_row()])
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"id":"torn')
    ledger.write(tmp_path, [closed_row()])
    with caplog.at_level(logging.ERROR):
        assert [row.revision for row in ledger.read(tmp_path)] == [2]
    assert "line 2 is no row of the ledger" in caplog.text


def test_order_books_cannot_be_had_again() -> None:
    """Trades and klines are recoverable from the exchange; books, tickers and marks by the second are lost for ever."""

    def recoverable(channel: str) -> bool:
        stream = Stream("um", channel, "BTCUSDT")
        return ledger.row(stream, 1, 2, "crash", mark="", frames_missing=1).recoverable

    assert [recoverable(name) for name in ("aggTrade", "kline_1m")] == [True] * 2
    assert [recoverable(name) for name in ("depth20", "bookTicker", "forceOrder", "markPrice")] == [False] * 4
