"""Real recordings, and the comparison of an archive with what was played of them."""

import json
from pathlib import Path
from typing import Any

from archiver import tables
from common.paths import folder
from common.streams import Stream
from tests.sims.accounting import account, lines, verify_holds
from tests.sims.exchange.client import Exchange
from tests.sims.exchange.recording import read_all, shifted

DATA = Path(__file__).parents[2] / "../shared/data"

MIDNIGHT = (
    DATA / "derived/um_BTCUSDT_20230404T235820Z_514s_depth20_100ms_DERIVED.txt.gz",
    DATA / "ws/um_BTCUSDT_20230404T235820Z_100s_depth0ms_trade_bookTicker_markPrice1s.gz",
    DATA / "ws/um_BTCUSDT_20230405T000000Z_415s_depth0ms_trade_bookTicker_markPrice1s_continuation.gz",
)
"""Three channels of um BTCUSDT around a midnight."""

PRESENT = (
    DATA / "ws/um_BTCUSDT_20261006_aggTrade_45frames.TRANSCRIBED.jsonl",
    DATA / "ws/um_BTCUSDT_20261006_markPrice1s_30frames.TRANSCRIBED.jsonl",
)
"""Payloads as the exchange sends them in 2026."""


def compare(
    exchange: Exchange, data: Path, streams: dict[Stream, str], files: tuple[Path, ...], window_s: tuple[float, float]
) -> None:
    """The recording itself, its times moved as the exchange moved them, against raw lines and Parquet rows."""
    result = account(exchange, data)
    assert (result.missing, result.doubled, result.alien) == ({}, {}, {})
    assert result.causes() <= {"stale"}  # before and after the recording the exchange says nothing
    shift_ms = exchange.state()["replay"]["shift_ms"]
    recorded = read_all(files, window_s)
    for stream, name in streams.items():
        sent = [shifted(frame.payload, shift_ms) for frame in recorded if frame.stream == name]
        assert sent
        archived = sorted(lines(data, stream), key=lambda line: line.counter)
        assert [line.payload for line in archived] == sent
        assert sorted(parquet_values(data, stream), key=text) == sorted(map(json.loads, sent), key=text)
    assert verify_holds(data) == []


def parquet_values(data: Path, stream: Stream) -> list[dict[str, Any]]:
    """What all Parquet files of a stream say, as JSON values."""
    files = sorted((data / folder("parquet", stream)).rglob("*.parquet"))
    return [value for file in files for value in tables.payload_values(tables.read(file), stream)]


def text(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
