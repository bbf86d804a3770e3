"""Symbols that are listed, delisted and halted while the house records."""

import time
from pathlib import Path
from typing import Any

from common.streams import Stream
from tests.conftest import Tell
from tests.sims.accounting import lines
from tests.sims.matrix import accounted, recording

ALL: dict[str, Any] = {
    "SYMBOLS": "all",
    "INGEST__SYMBOLS_REFRESH_S": 2,
    "CHANNELS": "depth20,aggTrade,markPrice,forceOrder",
}


def test_a_new_symbol_joins(tmp_path: Path, tell: Tell) -> None:
    """Listed while we record: it is recorded within a refresh or two, whole from then on, on both markets."""
    with recording(tmp_path, **ALL) as built:
        for market in ("um", "spot"):
            built.exchange.fault("list", market=market, symbols=["NEWUSDT"])
        time.sleep(9)
        accounted(built, tell)
        for market in ("um", "spot"):
            assert lines(built.data, Stream(market, "depth20", "NEWUSDT"))


def test_a_symbol_that_is_delisted_leaves(tmp_path: Path, tell: Tell) -> None:
    """Its streams end with an open row `halted`; the others go on."""
    with recording(tmp_path, **ALL) as built:
        built.exchange.fault("delist", market="um", symbols=["ETHUSDT"])
        time.sleep(12)
        result = accounted(built, tell, "halted", "stale")
        halted = {(row.stream, row.to) for row in result.rows if row.cause == "halted" and row.healed_by is None}
        assert halted == {(Stream("um", channel, "ETHUSDT"), None) for channel in ALL["CHANNELS"].split(",")}


def test_a_symbol_that_is_halted_comes_back(tmp_path: Path, tell: Tell) -> None:
    """Trading halted for some seconds: it leaves, and joins again when it trades."""
    with recording(tmp_path, **ALL) as built:
        built.exchange.fault("halt", market="um", symbols=["ETHUSDT"], seconds=9.0)
        time.sleep(20)
        result = accounted(built, tell, "halted", "stale")
        assert all(row.to is not None for row in result.holding() if row.cause in ("halted", "stale"))
        assert {row.symbol for row in result.holding()} == {"ETHUSDT"}
