"""Minute files and the day that they become."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.tables import encode, payload_values, read, write, write_day
from common.columns import columns
from common.frame import Frame
from common.streams import Stream

STREAM = Stream("um", "aggTrade", "BTCUSDT")


def trade(receive_ns: int, counter: int, stream: Stream = STREAM) -> Frame:
    payload = {"e": "aggTrade", "E": 1, "a": counter, "s": stream.symbol, "p": "1.10", "q": "2", "f": 1, "l": 1}
    return Frame(receive_ns, "17e9a3b0c1d2e3f-ab12", counter, json.dumps(payload | {"T": 1, "m": True}).encode())


def minute(path: Path, frames: list[Frame], stream: Stream = STREAM) -> Path:
    write(encode(stream, frames).table, path)
    return path


def test_a_file_names_its_stream_format_and_units(tmp_path: Path) -> None:
    """The footer holds the stream's key, the format and a unit for every column, and what the caller noted."""
    table = encode(STREAM, [trade(5, 1)]).table
    write(table.replace_schema_metadata({**table.schema.metadata, b"note": b"x"}), tmp_path / "minute")
    notes = pq.read_metadata(tmp_path / "minute").metadata
    assert notes[b"maserver.stream"] == b"md:um:aggTrade:BTCUSDT"
    assert notes[b"maserver.format"] == b"1"
    assert notes[b"note"] == b"x"
    units = json.loads(notes[b"maserver.units"])
    assert dict(zip(table.column_names, units, strict=True)) == {c.name: c.unit for c in columns("um", "aggTrade")}


def test_files_of_other_programs_and_formats_are_refused(tmp_path: Path) -> None:
    """A Parquet file without our metadata, or of a later format, is an error that says so."""
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other")
    with pytest.raises(ValueError, match="names no stream"):
        read(tmp_path / "other")
    table = encode(STREAM, [trade(5, 1)]).table
    later = table.replace_schema_metadata({**table.schema.metadata, b"maserver.format": b"2"})
    with pytest.raises(ValueError, match="newer"):
        payload_values(later)


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_day_holds_each_row_of_its_minutes_in_order(
    tmp_path_factory: pytest.TempPathFactory, minutes: list[list[int]]
) -> None:
    """However the receive times of the files interleave, the day is sorted and has every row once."""
    folder = tmp_path_factory.mktemp("day")
    counter = iter(range(1, 1000))
    frames = [sorted(trade(at, next(counter)) for at in times) for times in minutes]
    files = [minute(folder / f"{n}", some) for n, some in enumerate(frames)]
    rows = write_day(files, folder / "day")
    written = payload_values(read(folder / "day"))
    expected = sorted(frame for some in frames for frame in some)
    assert rows == len(expected)
    assert written == [json.loads(frame.payload) for frame in expected]


def test_a_day_takes_its_late_minutes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day file of several row groups and a late minute become a day again."""
    monkeypatch.setattr("archiver.tables.files.GROUP_ROWS", 10)
    day = tmp_path / "day"
    assert write_day([minute(tmp_path / "a", [trade(n * 10, n + 1) for n in range(35)])], day) == 35
    late = minute(tmp_path / "late", [trade(105, 100), trade(106, 101)])
    assert write_day([day, late], tmp_path / "again") == 37
    table = read(tmp_path / "again")
    times = table.column("receive_time").cast(pa.int64()).to_pylist()
    assert times == sorted([n * 10 for n in range(35)] + [105, 106])
    assert pq.read_metadata(tmp_path / "again").num_row_groups == 4


def test_a_day_is_of_one_stream(tmp_path: Path) -> None:
    """Minutes of two symbols are never mixed, and no minutes are no day."""
    other = Stream("um", "aggTrade", "ETHUSDT")
    files = [minute(tmp_path / "a", [trade(1, 1)]), minute(tmp_path / "b", [trade(2, 1, other)], other)]
    with pytest.raises(ValueError, match="md:um:aggTrade:ETHUSDT"):
        write_day(files, tmp_path / "day")
    with pytest.raises(ValueError, match="at least one"):
        write_day([], tmp_path / "day")
