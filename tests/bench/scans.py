"""One day of one symbol, mid and spread per minute: by `common.scan` from the day's Parquet, and from JSONL.

The day is made from books of the simulated exchange: 864,000 rows, 0.9 GB as JSONL.
"""

import random
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from archiver import tables
from common.clock import DAY_NS, MINUTE_NS
from common.frame import Frame
from common.paths import day_of, parquet_day
from common.scan import scan
from common.streams import Stream
from tests.sims.exchange.book import Book
from tests.sims.exchange.frames import um_depth
from tests.sims.exchange.symbols import listings


def _decoder() -> tuple[str, Callable[[bytes], Any]]:
    """orjson where somebody has installed it, else msgspec: they take about as long."""
    try:
        return "orjson", import_module("orjson").loads
    except ImportError:
        return "msgspec", msgspec.json.Decoder().decode


DECODER, _decode = _decoder()

STREAM = Stream("um", "depth20", "BTCUSDT")
SLOT_MS = 100
TIMES = 3


class Scans(NamedTuple):
    """Seconds for one day.

    Attributes:
        furthest: How far the two answers are apart, at most: 0 but for the order of a float sum.
    """

    parquet_s: float
    jsonl_s: float
    rows: int
    furthest: float


def measure(folder: Path) -> Scans:
    """Makes the day under `folder`, and reads it both ways."""
    start_ns = (time.time_ns() // DAY_NS - 1) * DAY_NS
    minutes, jsonl = [], folder / "day.jsonl"
    folder.mkdir(parents=True)
    with jsonl.open("wb") as file:
        for number, frames in enumerate(_minutes(start_ns)):
            path = folder / f"{number}.parquet"
            tables.write(tables.encode(STREAM, frames).table, path)
            minutes.append(path)
            file.writelines(b'{"t":%d,"c":"c","n":%d,"d":%b}\n' % (f.receive_ns, f.counter, f.payload) for f in frames)
    day = folder / parquet_day(STREAM, day_of(start_ns))
    day.parent.mkdir(parents=True)
    rows = tables.write_day(minutes, day)
    for path in minutes:
        path.unlink()
    parquet_s, ours = _best(lambda: _from_parquet(folder, start_ns))
    jsonl_s, theirs = _best(lambda: _from_jsonl(jsonl), 1)
    jsonl.unlink()
    furthest = max(abs(a - b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True))
    return Scans(parquet_s, jsonl_s, rows, furthest)


Answer = list[tuple[float, float]]
"""Mean of mid and spread of each minute."""


def _best(work: Callable[[], Answer], times: int = TIMES) -> tuple[float, Answer]:
    taken = []
    for _ in range(times):
        began_s = time.perf_counter()
        answer = work()
        taken.append(time.perf_counter() - began_s)
    return min(taken), answer


def _minutes(start_ns: int) -> Iterator[list[Frame]]:
    book = Book(listings("um", [STREAM.symbol])[0], random.Random(1))
    slots = MINUTE_NS // (SLOT_MS * 1_000_000)
    texts = []
    for _ in range(slots * 10):
        book.step(12)
        texts.append((",".join(book.bid_levels[:20]), ",".join(book.ask_levels[:20])))
    counter = 0
    for minute in range(DAY_NS // MINUTE_NS):
        frames = []
        for _ in range(slots):
            at_ms = start_ns // 1_000_000 + counter * SLOT_MS
            bids, asks = texts[counter % len(texts)]
            counter += 1
            ids = (9_000_000_000 + counter * 40, 9_000_000_039 + counter * 40, 8_999_999_999 + counter * 40)
            payload = um_depth(at_ms, at_ms - 4, STREAM.symbol, ids, bids, asks).encode()
            frames.append(Frame(at_ms * 1_000_000 + 5_123_456 + minute, "c", counter, payload))
        yield frames


def _from_parquet(folder: Path, start_ns: int) -> Answer:
    first = day_of(start_ns)
    bid, ask = pl.col("best_bid_price"), pl.col("best_ask_price")
    found = (
        scan("um", "depth20", STREAM.symbol, first, day_of(start_ns + DAY_NS), data_dir=folder)
        .group_by(pl.col("exchange_time").dt.truncate("1m").alias("minute"))
        .agg(((bid + ask) / 2).mean().alias("mid"), (ask - bid).mean().alias("spread"))
        .sort("minute")
        .collect()
    )
    return list(zip(found["mid"], found["spread"], strict=True))


def _from_jsonl(path: Path) -> Answer:
    sums: dict[int, list[float]] = {}
    with path.open("rb") as file:
        for line in file:
            book = _decode(line)["d"]
            bid, ask = float(book["b"][0][0]), float(book["a"][0][0])
            row = sums.setdefault(book["E"] // 60_000, [0.0, 0.0, 0.0])
            row[0] += 1
            row[1] += (bid + ask) / 2
            row[2] += ask - bid
    return [(mid / count, spread / count) for _, (count, mid, spread) in sorted(sums.items())]
