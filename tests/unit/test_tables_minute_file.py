"""The Parquet files that we write byte by byte: readers find in them what the slow way makes of the same frames."""

import json
import random
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.plain import Plain
from archiver.tables import encode, encode_plain, pages, payload_values, read, write_day, write_plain
from archiver.tables.fixed_point import text
from common.frame import Frame, to_staged_line
from common.streams import Stream

UM, SPOT = Stream("um", "depth20", "1000PEPEUSDT"), Stream("spot", "depth20", "测试USDT")
START_NS = 1_790_526_539_000_000_000


def payload(stream: Stream, number: int, bids: list[list[str]], asks: list[list[str]], **changed: object) -> bytes:
    if stream.market == "spot":
        whole: dict[str, object] = {"lastUpdateId": number, "bids": bids, "asks": asks}
    else:
        at = START_NS // 1_000_000 + number
        whole = {"e": "depthUpdate", "E": at, "T": at - 4, "s": stream.symbol, "U": number, "u": number * 3, "pu": 7}
        whole |= {"ps": stream.symbol, "b": bids, "a": asks, "st": 1}
    return json.dumps(whole | changed, separators=(",", ":"), ensure_ascii=False).encode()


def plain_of(payloads: list[bytes]) -> Plain:
    frames = [Frame(START_NS + n * n * 31, "17e9a3b0c1d2e3f-ab12", 5 + 2 * n, each) for n, each in enumerate(payloads)]
    plain = Plain.of(b"".join([to_staged_line(frame) + b"\n" for frame in frames]))
    assert plain is not None
    return plain


def written(stream: Stream, plain: Plain, path: Path) -> Path | None:
    """The minute's file; None where its frames have to be looked at one by one."""
    values = encode_plain(stream, plain)
    if values is None:
        return None
    assert write_plain(stream, len(plain), values, {b"note": b"x"}, path) == path.stat().st_size
    return path


@st.composite
def books(draw: st.DrawFn) -> list[bytes]:
    """Payloads of one shape: as many levels, as many decimals; whole numbers from one digit to more than 32 bits."""
    stream = draw(st.sampled_from([UM, SPOT]))
    places, sizes = draw(st.tuples(st.integers(0, 8), st.integers(0, 8)))
    levels = draw(st.integers(1, 22)), draw(st.integers(1, 22))
    rng = random.Random(draw(st.integers(0, 2**32)))
    most = 10 ** draw(st.integers(1, 14))
    step = draw(st.sampled_from([1, 10, 1000]))

    def side(count: int) -> list[list[str]]:
        return [[text(rng.randrange(most), places), text(rng.randrange(most) * step, sizes)] for _ in range(count)]

    return [
        payload(stream, rng.randrange(1, 10 ** rng.randrange(1, 16)), side(levels[0]), side(levels[1]))
        for _ in range(draw(st.integers(1, 5)))
    ]


@given(books())
@settings(max_examples=150, deadline=None)
def test_every_reader_finds_what_the_slow_way_makes_of_the_frames(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]
) -> None:
    """pyarrow, Polars and DuckDB read the columns that the frames have one by one, and the payloads come back."""
    stream = SPOT if b"lastUpdateId" in payloads[0] else UM
    plain = plain_of(payloads)
    folder = tmp_path_factory.mktemp("minute")
    path = written(stream, plain, folder / "minute.parquet")
    encoded = encode(stream, plain.frames())
    if path is None:
        return  # more than 15 or 18 digits
    assert encoded.rejected == []
    table = read(path)
    assert table.equals(encoded.table)
    assert payload_values(table) == [json.loads(each) for each in payloads]
    assert pl.from_arrow(table).equals(pl.read_parquet(path).cast(pl.from_arrow(table).schema))  # type: ignore[arg-type, union-attr]
    columns = {name: f"epoch_ns({name})" for name in table.column_names if name.endswith("_time")}
    chosen = ", ".join(f"{columns.get(name, name)} AS {name}" for name in table.column_names)
    rows = duckdb.execute(f"SELECT {chosen} FROM '{path}'").fetchall()
    for name, values in zip(table.column_names, zip(*rows, strict=True), strict=True):
        expected = table.column(name)
        if name in columns:
            expected = expected.cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
        assert list(values) == expected.to_pylist(), name
    assert write_day([path], folder / "day.parquet") == len(payloads)
    assert read(folder / "day.parquet").equals(encoded.table)


def usual(count: int) -> list[bytes]:
    return [
        payload(UM, n + 1, [["0.0047213", "1.500"], ["0.0047211", f"{n % 7}.250"]], [["0.0047214", "2.000"]])
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 600, 1024, 1025, 1026, 2100])
def test_minutes_of_any_length_are_read(tmp_path: Path, count: int) -> None:
    """However the rows fill the blocks of differences, all of them come back, in Polars and DuckDB, too."""
    plain = plain_of(usual(count))
    path = written(UM, plain, tmp_path / "minute.parquet")
    assert path is not None
    assert read(path).equals(encode(UM, plain.frames()).table)
    assert pl.read_parquet(path)["receive_time"].to_physical().to_list() == plain.receive_ns.tolist()
    assert duckdb.execute(f"SELECT counter FROM '{path}'").fetchall() == [(each,) for each in plain.counters.tolist()]


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    """The footer has the stream, format, units and notes, each type as pyarrow writes it, and first and last time."""
    plain = plain_of(usual(3))
    path = written(UM, plain, tmp_path / "minute.parquet")
    assert path is not None
    footer = pq.read_metadata(path)
    assert footer.metadata[b"maserver.stream"] == UM.key.encode()
    assert footer.metadata[b"note"] == b"x"
    table = encode(UM, plain.frames()).table
    assert footer.metadata[b"maserver.units"] == table.schema.metadata[b"maserver.units"]
    statistics = footer.row_group(0).column(0).statistics
    assert (statistics.min_raw, statistics.max_raw) == (plain.first_ns, plain.last_ns)
    lists = {"bid_price_gaps", "deeper_bid_quantities", "ask_price_gaps", "deeper_ask_quantities"}
    for field in pq.read_schema(path):
        expected = pa.list_(pa.int32()) if field.name in lists else table.schema.field(field.name).type
        assert field.type == expected, field.name


def test_a_day_has_64_bits_where_one_of_its_minutes_needs_them(tmp_path: Path) -> None:
    """Lists of 32 and of 64 bits become one day, and neither is changed."""
    few = plain_of(usual(5))
    many = plain_of([each.replace(b'"2.000"', b'"9876543210.125"],["0.0047215","9876543210.125"') for each in usual(5)])
    paths = [written(UM, each, tmp_path / f"{n}.parquet") for n, each in enumerate((few, many))]
    types = [pq.read_schema(path).field("deeper_ask_quantities").type.value_type for path in paths]
    assert types == [pa.int32(), pa.int64()]
    for minutes, type_ in ((paths, pa.int64()), (paths[:1], pa.int32())):
        write_day([path for path in minutes if path], tmp_path / "day.parquet")
        assert pq.read_schema(tmp_path / "day.parquet").field("deeper_ask_quantities").type.value_type == type_
        values = read(tmp_path / "day.parquet").column("deeper_ask_quantities").to_pylist()
        assert sorted(values) == [[]] * 5 + [[9876543210125]] * (5 * len(minutes) - 5)


@pytest.mark.parametrize(
    "changed",
    [
        {"s": "1001PEPEUSDT"},
        {"x": 1},
        {"st": 200},
        {"st": "1"},
        {"E": -1},
        {"u": 2**63},
        {"b": []},
        {"b": [["1.0", "2"]], "a": [["1", "2"]]},
        {"b": [["1.0", ".2"]], "a": [["1.0", "0.2"]]},
        {"b": [["1234567890123456.5", "2.5"]], "a": [["1.0", "0.2"]]},
    ],
)
def test_what_is_unusual_is_left_to_the_slow_way(changed: dict[str, object]) -> None:
    """Frames alike in what the columns do not plainly hold are not typed at once, and no frame of others is."""
    payloads = [payload(UM, n, [["1.0", "2.5"]], [["1.1", "3.5"]], **changed) for n in range(1, 4)]
    frames = [Frame(n, "a-1", n, each) for n, each in enumerate(payloads)]
    plain = Plain.of(b"".join([to_staged_line(frame) + b"\n" for frame in frames]))
    assert plain is None or encode_plain(UM, plain) is None


def test_a_digit_that_changes_in_a_symbol_is_seen() -> None:
    """A frame of another symbol, whose name differs in a digit, does not pass among those of ours."""
    payloads = usual(4)
    payloads[2] = payloads[2].replace(b'"s":"1000', b'"s":"1001')
    assert encode_plain(UM, plain_of(payloads)) is None
    assert encode(UM, plain_of(payloads).frames()).rejected == [2]


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=300))
@settings(deadline=None)
def test_differences_of_any_size_come_back(tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
    """DELTA_BINARY_PACKED holds every step, also those of 64 bits, as pyarrow's own writer does."""
    path = tmp_path_factory.mktemp("differences") / "pyarrow.parquet"
    column = pa.table({"x": pa.array(numbers, pa.int64())})
    pq.write_table(column, path, use_dictionary=False, column_encoding={"x": "DELTA_BINARY_PACKED"})
    values = np.array(numbers, np.int64)
    ours = pages.differences(values)
    assert decoded(ours) == numbers
    assert pq.read_table(path)["x"].to_pylist() == numbers


def decoded(content: bytes) -> list[int]:
    """The numbers of DELTA_BINARY_PACKED, bit by bit as Encodings.md tells it."""
    at = 0

    def varint() -> int:
        nonlocal at
        found = shift = 0
        while True:
            byte = content[at]
            at += 1
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found

    def signed() -> int:
        number = varint()
        return (number >> 1) ^ -(number & 1)

    block, miniblocks, count, value = varint(), varint(), varint(), signed()
    assert block % 128 == 0
    assert miniblocks == 1
    numbers = [value]
    while len(numbers) < count:
        least, width = signed(), content[at]
        at += 1
        packed = int.from_bytes(content[at : at + block * width // 8], "little")
        at += block * width // 8
        for n in range(min(block, count - len(numbers))):
            value = (value + least + (packed >> (n * width) & (2**width - 1)) + 2**63) % 2**64 - 2**63
            numbers.append(value)
    return numbers
