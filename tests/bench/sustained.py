"""Forty thousand frames a second for ten minutes: does the house keep up inside its memory caps, and is anything lost?

Not part of a usual run (`--sustained`). Redis has the `maxmemory` of the house, so what is not archived in time is
refused and spilled. A loss is a break in the exchange's chain of ids (`pu` is the `u` before) in what one connection
archived.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from common.scan import scan
from tests.bench.chains import Run, run, symbols

SECONDS = 600.0
FRAMES_S = 40_000
CAPS_MIB = {"ingest": 256, "archiver": 768, "redis": 1024}
"""`mem_limit` of compose.yaml."""


class Sustained(NamedTuple):
    """What came of it.

    Attributes:
        archived: Frames in the archive, those of the warming up included.
        lost: Frames that are missing between two of one connection: at least so many, for a break counts once.
    """

    run: Run
    archived: int
    lost: int


def measure(folder: Path, tls: dict[str, Path], seconds: float, say: Callable[[str], None]) -> Sustained:
    """Runs the house; `folder`, `tls` and `say` are as for `run`."""
    done = run("house", "sustained", seconds, folder, tls, say)
    say("looking for losses")
    today = datetime.now(UTC).date()
    archived = lost = 0
    for symbol in symbols():
        rows = scan("um", "depth20", symbol, today - timedelta(1), today + timedelta(2), data_dir=done.files)
        before = pl.col("final_update_id", "connection").shift(1)
        chain = (
            rows.select("connection", "final_update_id", "previous_update_id")
            .sort("final_update_id")
            .with_columns(before.name.suffix("_before"))
            .select(
                pl.len(),
                (
                    (pl.col("connection") == pl.col("connection_before"))
                    & (pl.col("previous_update_id") != pl.col("final_update_id_before"))
                ).sum(),
            )
            .collect()
            .row(0)
        )
        archived, lost = archived + chain[0], lost + chain[1]
    return Sustained(done, archived, lost)
