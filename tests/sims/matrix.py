"""The fault matrix: the house records, something goes wrong, and every frame is accounted for."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LENGTH, Tell
from tests.sims.accounting import Account, account
from tests.sims.house import House, house

EVERYTHING = "depth20,aggTrade,markPrice,forceOrder,bookTicker,kline_1m"
LONG = pytest.mark.timeout(200 + int(120 * LENGTH))

WARM_S = 5.0
"""So long the collectors learn how often each stream speaks."""


@contextlib.contextmanager
def recording(
    folder: Path, *exchange_args: str, collectors: int = 1, warm_s: float = WARM_S, **settings: Any
) -> Iterator[House]:
    """A house that records both markets and every channel, by one collector or by several."""
    settings = {"MARKETS": "um,spot", "CHANNELS": EVERYTHING, **settings}
    with house(folder, *exchange_args, **settings) as built:
        for number in range(collectors):
            built.start(f"ingest-{number + 1}" if number else "ingest")
        built.start("archiver")
        built.wait_for_frames(200)
        time.sleep(warm_s)
        yield built


def accounted(built: House, tell: Tell, *causes: str) -> Account:
    """Stops everything and compares: each frame once, no gap without a row, no row without a gap."""
    built.settle()
    result = account(built.exchange, built.data)
    tell(**result.figures)
    said = result.verdict(set(causes))
    assert said == "", f"{said}\n{built.log('ingest')[-6000:]}"
    return result


def connections(built: House, market: str | None = None) -> list[int]:
    """The numbers of the exchange's living connections, oldest first."""
    found = [one for one in built.exchange.state()["connections"] if not one["half_open"]]
    return sorted(one["id"] for one in found if market in (None, one["market"]))
