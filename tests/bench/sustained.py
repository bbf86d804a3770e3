"""Forty thousand frames a second for ten minutes: does the house keep up inside its memory caps, and is anything lost?

Not part of a usual run (`--sustained`). Redis has the `maxmemory` of the house, so what is not archived in time is
refused and spilled. A loss is a break in the exchange's chain of ids (`pu` is the `u` before) in what one connection
archived; it is accounted for where a row of the ledger lies between the two frames.
"""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from common import ledger
from common.scan import scan
from tests.bench.chains import Run, run, symbols

MOST_NS = 2**63 - 1
SECONDS = 600.0
FRAMES_S = 40_000
CAPS_MIB = {"ingest": 256, "archiver": 768, "redis": 1024}
"""`mem_limit` of compose.yaml."""


class Sustained(NamedTuple):
    """What came of it.

    Attributes:
        archived: Frames in the archive, those of the warming up included.
        lost: Breaks between two frames of one connection; at least so many frames are missing.
        unaccounted: Those of them that no row of the ledger tells of.
    """

    run: Run
    archived: int
    lost: int
    unaccounted: int


def measure(folder: Path, tls: dict[str, Path], seconds: float, say: Callable[[str], None]) -> Sustained:
    """Runs the house; `folder`, `tls` and `say` are as for `run`."""
    done = run("house", "sustained", seconds, folder, tls, say)
    say("looking for losses")
    today = datetime.now(UTC).date()
    told: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in ledger.read(done.files):
        told[row.symbol].append((row.from_ns, row.to_ns or MOST_NS))
    archived = lost = unaccounted = 0
    for symbol in symbols():
        rows = scan("um", "depth20", symbol, today - timedelta(1), today + timedelta(2), data_dir=done.files)
        before = pl.col("final_update_id", "connection", "at_ns").shift(1)
        chain = (
            rows.select(
                "connection", "final_update_id", "previous_update_id", at_ns=pl.col("receive_time").to_physical()
            )
            .sort("final_update_id")
            .with_columns(before.name.suffix("_before"))
            .collect()
        )
        breaks = chain.filter(
            (pl.col("connection") == pl.col("connection_before"))
            & (pl.col("previous_update_id") != pl.col("final_update_id_before"))
        )
        archived, lost = archived + len(chain), lost + len(breaks)
        for before_ns, after_ns in breaks.select("at_ns_before", "at_ns").iter_rows():
            unaccounted += not any(from_ns < after_ns and to_ns > before_ns for from_ns, to_ns in told[symbol])
    return Sustained(done, archived, lost, unaccounted)
