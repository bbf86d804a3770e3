"""Recordings are read in all formats of the shared data, and times are moved without touching anything else."""

import gzip
import json
import math
import re
from pathlib import Path

import pytest

from tests.sims.exchange.recording import Recorded, UnreadableRecordingError, read, read_all, shifted, stream_name

DATA = Path(__file__).parents[2] / "../shared/data"


def _write(folder: Path, name: str, *lines: str) -> Path:
    file = folder / name
    content = ("\n".join(lines) + "\n").encode()
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return file


AGG = '{"e":"aggTrade","E":1790526539120,"a":7,"s":"BTCUSDT","T":1790526538990}'
COMBINED = f'{{"stream":"btcusdt@aggTrade","data":{AGG}}}'
FRAME = ("um", "btcusdt@aggTrade", AGG.encode())


@pytest.mark.parametrize(
    ("line", "at_ns"),
    [
        (f"1790526539200123456 {COMBINED}", 1_790_526_539_200_123_456),
        (f"1790526539200123 {COMBINED}", 1_790_526_539_200_123_000),
        (f"1790526539.2: {COMBINED}", 1_790_526_539_200_000_000),
        (COMBINED, 1_790_526_539_120_000_000),
        (AGG, 1_790_526_539_120_000_000),
        (json.dumps({"market": "um", "source_line": 1, "frame": COMBINED}), 1_790_526_539_120_000_000),
        (json.dumps({"received_at_ns": 1_790_526_539_200_123_456, "payload": AGG}), 1_790_526_539_200_123_456),
    ],
)
def test_each_line_format_is_read(tmp_path: Path, line: str, at_ns: int) -> None:
    """Time, stream and verbatim payload come out of every format, zipped or not, and other lines are left out."""
    others = (
        "configuration: {}",
        "wss://x/stream <-> 1.5",
        "https://x/depth -> 1790526539.1: {}",
        '{"result":null,"id":1}',
    )
    for name in ("um_a.jsonl", "um_a.gz"):
        assert read(_write(tmp_path, name, *others, line)) == [Recorded(at_ns, *FRAME)]


def test_streams_of_bare_payloads_are_found() -> None:
    """The name of a stream follows from the event, the symbol and the number of levels."""
    levels = [["1", "1"]] * 20
    assert stream_name({"e": "markPriceUpdate", "s": "BTCUSDT"}) == "btcusdt@markPrice@1s"
    assert stream_name({"e": "kline", "s": "BTCUSDT", "k": {"i": "5m"}}) == "btcusdt@kline_5m"
    assert stream_name({"e": "depthUpdate", "s": "BTCUSDT", "b": levels, "a": levels}) == "btcusdt@depth20@100ms"
    assert stream_name({"e": "depthUpdate", "s": "BTCUSDT", "b": levels, "a": []}) == "btcusdt@depth@100ms"
    assert stream_name({"e": "forceOrder", "o": {"s": "BTCUSDT"}}) == "btcusdt@forceOrder"
    assert stream_name({"lastUpdateId": 1, "bids": [], "asks": []}) is None


def test_only_times_are_shifted() -> None:
    """`E` and `T` move, and `t` of a bar; ids, prices and a `T` of 0 do not."""
    assert shifted(AGG.encode(), 10) == AGG.replace("539120", "539130").replace("538990", "539000").encode()
    trade = b'{"e":"trade","E":1790526539120,"T":0,"t":1790526539120}'
    assert shifted(trade, 5) == b'{"e":"trade","E":1790526539125,"T":0,"t":1790526539120}'
    bar = b'{"e":"kline","E":1790526539120,"k":{"t":1790526480000, "T":1790526539999}}'
    assert shifted(bar, 60_000) == b'{"e":"kline","E":1790526599120,"k":{"t":1790526540000, "T":1790526599999}}'


def test_several_files_are_merged_by_time_and_cut_to_the_window(tmp_path: Path) -> None:
    """Frames come in the order of their times, from the earliest of all files on."""
    first = _write(tmp_path, "um_a.txt", *(f"{1_790_526_539 + s}.0: {COMBINED}" for s in (0, 2, 4)))
    second = _write(tmp_path, "spot_b.txt", *(f"{1_790_526_539 + s}.0: {COMBINED}" for s in (1, 3)))
    markets = [frame.market for frame in read_all((first, second), (0.0, math.inf))]
    assert markets == ["um", "spot", "um", "spot", "um"]
    assert [frame.market for frame in read_all((first, second), (1.0, 3.0))] == ["spot", "um"]
    with pytest.raises(UnreadableRecordingError, match=r"4\.0 s long"):
        read_all((first, second), (9.0, 10.0))


def test_files_that_cannot_be_played_say_why(tmp_path: Path) -> None:
    """A missing, broken, empty or nameless file is an error that names it."""
    with pytest.raises(UnreadableRecordingError, match=r"um_none\.gz"):
        read(tmp_path / "um_none.gz")
    broken = tmp_path / "um_broken.gz"
    broken.write_bytes(gzip.compress(COMBINED.encode())[:20])
    with pytest.raises(UnreadableRecordingError, match=r"um_broken\.gz"):
        read(broken)
    with pytest.raises(UnreadableRecordingError, match="no line of it is a frame"):
        read(_write(tmp_path, "um_empty.txt", "a,b,c"))
    with pytest.raises(UnreadableRecordingError, match="neither um_ nor spot_"):
        read(_write(tmp_path, "other.txt", COMBINED))


def _recordings() -> list[Path]:
    return sorted(
        file
        for folder in ("ws", "derived")
        for file in (DATA / folder).glob("*")
        if file.is_file() and not re.search(r"csv|rest_depth", file.name)
    )


@pytest.mark.skipif(not DATA.exists(), reason="the shared recordings are not here")
def test_every_shared_recording_is_read_in_full() -> None:
    """Each line that is a frame becomes one, with a market, a stream and a payload that is JSON."""
    for file in _recordings():
        if file.stat().st_size > 800_000:
            continue
        content = file.read_bytes()
        lines = (gzip.decompress(content) if file.suffix == ".gz" else content).splitlines()
        frames = read(file)
        named = [line for line in lines if b'"stream"' in line or b'\\"stream\\"' in line]
        if named:
            assert len(frames) == len(named), file.name
        assert all(frame.market in ("um", "spot") for frame in frames)
        for frame in frames[:200]:
            json.loads(frame.payload)
        order = [frame.at_ns for frame in frames]
        assert min(order) > 1_500_000_000_000_000_000
