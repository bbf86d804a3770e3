"""The reader: which rows of which files, and the levels that it computes."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from archiver import derived, lines
from archiver.plain import Plain
from archiver.tables import write_day
from archiver.tables.schema import schema as arrow_schema
from common import scan as reader
from common.channels import is_timed
from common.columns import columns
from common.frame import Frame
from common.paths import Minute, parquet_day, parquet_minute
from common.scan import scan, with_levels
from common.streams import Stream

ROOT = Path(__file__).parents[2]
STREAM = Stream("um", "depth20", "BTCUSDT")
SPOT = Stream("spot", "depth20", "BTCUSDT")
START_MS = 1_790_524_080_000  # 2026-09-27 15:48 UTC
FIRST = START_MS // 60_000

Archive = Callable[..., Path]


def frame(counter: int, at_ms: int, late_ns: int = 40_000_000) -> Frame:
    payload = {"e": "depthUpdate", "E": at_ms, "T": at_ms, "s": "BTCUSDT", "U": 1, "u": counter, "pu": 0}
    sides = {"b": [["100.10", "1.000"], ["99.90", "0.250"]], "a": [["100.20", "3.000"]]}
    text = json.dumps(payload | sides, separators=(",", ":"))
    return Frame(at_ms * 1_000_000 + late_ns, "17e9a3b0c1d2e3f-ab12", counter, text.encode())


def put(data: Path, number: int, frames: list[Frame], stream: Stream = STREAM) -> Path:
    path = data / parquet_minute(Minute(stream, number))
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = Plain.of(lines.render(frames))
    side = derived.write(path, stream, plain or frames, crc=1)
    assert (side.rows, side.rejected) == (len(frames), None)
    return path


def bundle(data: Path, minutes: list[Path]) -> None:
    write_day(minutes, data / parquet_day(STREAM, date(2026, 9, 27)))


@pytest.fixture
def three_minutes(tmp_path: Path) -> list[Path]:
    """Three minutes of two frames each, at the minute's start and half a minute later; counters 1 to 6."""
    return [
        put(tmp_path, FIRST + n, [frame(2 * n + 1 + k, START_MS + n * 60_000 + k * 30_000) for k in (0, 1)])
        for n in range(3)
    ]


def counters(data: Path, start: reader.Instant, end: reader.Instant) -> list[int]:
    return scan("um", "depth20", "BTCUSDT", start, end, data_dir=data).collect()["counter"].to_list()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-09-27", "2026-09-28", [1, 2, 3, 4, 5, 6]),
        (date(2026, 9, 27), date(2026, 9, 28), [1, 2, 3, 4, 5, 6]),
        ("2026-09-27T15:48:30", "2026-09-27T15:49:30", [2, 3]),
        ("2026-09-27T17:48:30+02:00", "2026-09-27T15:49:30Z", [2, 3]),
        (datetime(2026, 9, 27, 15, 50, tzinfo=UTC), date(2026, 10, 1), [5, 6]),
        (datetime(2026, 9, 27, 15, 48, 0, 1), datetime(2026, 9, 27, 15, 48, 30, 1), [2]),  # noqa: DTZ001
        ("2026-09-27T15:49", "2026-09-27T15:49", []),
        ("2020-01-01", "2020-01-02", []),
    ],
)
@pytest.mark.parametrize("bundled", [False, True])
def test_the_interval_is_half_open_in_utc(
    three_minutes: list[Path],
    tmp_path: Path,
    bundled: bool,
    start: reader.Instant,
    end: reader.Instant,
    expected: list[int],
) -> None:
    """Texts, dates and times with and without zone choose the same rows from minutes as from a day."""
    if bundled:
        bundle(tmp_path, three_minutes)
        for path in three_minutes:
            path.unlink()
    assert counters(tmp_path, start, end) == expected


def test_a_late_minute_beside_its_day_is_added(three_minutes: list[Path], tmp_path: Path) -> None:
    """Rows of a minute that the day does not have are added, in order."""
    bundle(tmp_path, three_minutes)
    for path in three_minutes:
        path.unlink()
    put(tmp_path, FIRST + 1, [frame(9, START_MS + 70_000)])
    assert counters(tmp_path, "2026-09-27", "2026-09-28") == [1, 2, 3, 9, 4, 5, 6]


def test_minutes_that_a_crash_left_are_not_doubled(three_minutes: list[Path], tmp_path: Path) -> None:
    """Minutes whose rows are in the day already add nothing."""
    bundle(tmp_path, three_minutes)
    assert counters(tmp_path, "2026-09-27", "2026-09-28") == [1, 2, 3, 4, 5, 6]


def test_only_files_of_the_interval_are_opened(three_minutes: list[Path], tmp_path: Path) -> None:
    """A file outside the interval may be broken: it is never opened."""
    three_minutes[0].write_bytes(b"broken")
    three_minutes[2].write_bytes(b"broken")
    assert counters(tmp_path, "2026-09-27T15:49", "2026-09-27T15:50") == [3, 4]


def test_channels_without_event_time_are_chosen_by_receive_time(tmp_path: Path) -> None:
    """Spot depth20 has no event time: its rows are chosen by when they arrived."""
    payload = b'{"lastUpdateId":7,"bids":[["1.00000000","2.50000000"]],"asks":[]}'
    frames = [Frame((START_MS + n * 1000) * 1_000_000, "17e9a3b0c1d2e3f-ab12", n, payload) for n in range(3)]
    put(tmp_path, FIRST, frames, SPOT)
    start, end = "2026-09-27T15:48:01", "2026-09-27T15:48:02"
    found = scan("spot", "depth20", "BTCUSDT", start, end, data_dir=tmp_path).collect()
    assert found["counter"].to_list() == [1]
    assert found["exchange_time"].to_list() == [None]
    assert with_levels(found.lazy()).collect().select("bid_prices", "ask_prices").rows() == [([1.0], [])]


def test_no_data_is_an_empty_frame_of_the_right_schema(tmp_path: Path) -> None:
    """A stream that was never recorded has the same columns as one that was, and no rows."""
    empty = scan("um", "depth20", "NOSUCH", "2026-09-27", "2026-09-28", data_dir=tmp_path)
    put(tmp_path, FIRST, [frame(1, START_MS)])
    some = scan("um", "depth20", "BTCUSDT", "2026-09-27", "2026-09-28", data_dir=tmp_path)
    assert empty.collect_schema() == some.collect_schema()
    assert empty.collect().height == 0
    assert with_levels(empty).collect().height == 0


@pytest.mark.parametrize(
    ("market", "channel", "start", "end", "message"),
    [
        ("cm", "depth20", "2026-09-27", "2026-09-28", "unknown market 'cm': one of um, spot"),
        ("spot", "markPrice", "2026-09-27", "2026-09-28", "unknown channel 'markPrice' of market 'spot'"),
        ("um", "unknown", "2026-09-27", "2026-09-28", "unknown channel 'unknown'"),
        ("um", "depth20", "yesterday", "2026-09-28", "not an ISO-8601 time: 'yesterday'"),
        ("um", "depth20", "2026-09-28", "2026-09-27", "is before the start"),
    ],
)
def test_mistakes_are_named(market: str, channel: str, start: str, end: str, message: str) -> None:
    """An unknown market or channel, a text that is no time and a turned interval are errors that say what is wrong."""
    with pytest.raises(ValueError, match=re.escape(message)):
        scan(market, channel, "BTCUSDT", start, end)


def test_levels_are_the_exchanges_numbers(three_minutes: list[Path], tmp_path: Path) -> None:
    """All levels as floats are the floats nearest to the texts, and as decimals the texts' values; DuckDB agrees."""
    rows = scan("um", "depth20", "BTCUSDT", "2026-09-27", "2026-09-28", data_dir=tmp_path)
    names = ["bid_prices", "bid_quantities", "ask_prices", "ask_quantities"]
    expected = ([100.1, 99.9], [1.0, 0.25], [100.2], [3.0])
    assert with_levels(rows).select(names).collect().row(0) == expected
    exact = with_levels(rows, as_=Decimal).select(names).collect().row(0)
    assert exact == (
        [Decimal("100.1"), Decimal("99.9")],
        [Decimal(1), Decimal("0.25")],
        [Decimal("100.2")],
        [Decimal(3)],
    )
    assert with_levels(rows, levels=1).select(names).collect().row(0) == ([100.1], [1.0], [100.2], [3.0])
    with duckdb.connect() as connection:
        connection.execute((ROOT / "common/duckdb_macros.sql").read_text())
        asked = ", ".join(f"{name}(b)" for name in names)
        row = connection.execute(f"SELECT {asked} FROM '{three_minutes[0]}' b").fetchone()
    assert row == expected


def test_lists_of_32_and_of_64_bits_are_read_together(three_minutes: list[Path], tmp_path: Path) -> None:
    """Minutes whose quantities need 64 bits are read with those that need 32, by `scan` and, as told, by DuckDB."""
    large = [frame(n, START_MS + 180_000) for n in (7, 8)]
    large = [each._replace(payload=each.payload.replace(b'"0.250"', b'"9876543210.125"')) for each in large]
    odd = frame(9, START_MS + 240_000)
    odd = odd._replace(payload=odd.payload.replace(b'"b":', b'"b": '))
    files = [*three_minutes, put(tmp_path, FIRST + 3, large), put(tmp_path, FIRST + 4, [odd])]
    rows = scan("um", "depth20", "BTCUSDT", "2026-09-27", "2026-09-28", data_dir=tmp_path)
    found = with_levels(rows).select("counter", pl.col("bid_quantities").list.get(1)).collect().rows()
    expected = [*((n, 0.25) for n in range(1, 7)), (7, 9876543210.125), (8, 9876543210.125), (9, 0.25)]
    assert found == expected
    with duckdb.connect() as connection:
        connection.execute((ROOT / "common/duckdb_macros.sql").read_text())
        names = [str(path) for path in files]
        asked = "SELECT counter, bid_quantities(b)[2] FROM read_parquet(?, union_by_name = true) b ORDER BY counter"
        assert connection.execute(asked, [names]).fetchall() == expected


CHANNELS = [
    *(("um", name) for name in ("depth20", "bookTicker", "aggTrade", "markPrice", "forceOrder", "kline_1m")),
    *(("spot", name) for name in ("depth20", "bookTicker", "aggTrade", "kline_1m")),
]


@pytest.mark.parametrize(("market", "channel"), CHANNELS)
def test_each_column_is_documented(market: str, channel: str) -> None:
    """docs/parquet.md gives the unit and meaning of each column of each channel; reader and writer have the same."""
    page = (ROOT / "docs/parquet.md").read_text()
    section = "".join(page.split(f"### {name}\n", 1)[1].split("\n### ")[0] for name in ("All channels", channel))
    for column in columns(market, channel):
        assert f"| `{column.name}` | {column.unit} | {column.meaning}" in section, column.name
    assert reader.schema(market, channel).names() == arrow_schema(Stream(market, channel, "X")).names
    assert is_timed(market, channel) == (market == "um" or channel in ("aggTrade", "kline_1m"))


@pytest.mark.parametrize("name", ["docs/parquet.md", "README.md"])
def test_the_examples_of_the_page_run(
    name: str, three_minutes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each Python block and each DuckDB block of a page runs on an archive."""
    page = (ROOT / name).read_text()
    (tmp_path / "data").mkdir()
    bundle(tmp_path, three_minutes)
    (tmp_path / "parquet").rename(tmp_path / "data/parquet")
    (tmp_path / "common").symlink_to(ROOT / "common")
    monkeypatch.chdir(tmp_path)
    python = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for block in python:
        exec(compile(block, name, "exec"), {})
    sql = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    with duckdb.connect() as connection:
        connection.execute((ROOT / "common/duckdb_macros.sql").read_text())
        for block in sql:
            assert connection.execute(block).fetchall()
    assert python
    assert sql
    assert isinstance(scan("um", "depth20", "BTCUSDT", "2026-09-27", "2026-09-28"), pl.LazyFrame)
