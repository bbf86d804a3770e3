"""The fault matrix: the house records, something goes wrong, and every frame is accounted for."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LENGTH, Tell
from tests.sims.accounting import Account, account
from tests.sims.house import House, house
from tests.sims.own_names import OwnNames

EVERYTHING = "depth20,aggTrade,markPrice,forceOrder,bookTicker,kline_1m"
LONG = pytest.mark.timeout(200 + int(120 * LENGTH) + (600 if LENGTH > 2 else 0))
"""Some tests last as long as LENGTH says, and an outage of Redis ten minutes where LENGTH is more than 2."""

WARM_S = 5.0
"""So long the collectors learn how often each stream speaks."""


ALONE_AND_TWINS = pytest.mark.parametrize("collectors", [1, 2], ids=["alone", "twins"])
"""A fault that all the collectors there are have: two of them account for it as one does."""

TWINS_IN_SOAK = ALONE_AND_TWINS if LENGTH > 2 else pytest.mark.parametrize("collectors", [1], ids=["alone"])
"""The same where it takes a minute: two of them in `make soak` alone."""


def alone_and_twins(name: str, ways: Sequence[Any], *, twins: Sequence[Any]) -> pytest.MarkDecorator:
    """As `ALONE_AND_TWINS`, for a fault that comes in several ways.

    Args:
        name: Of the test's argument.
        ways: Its values.
        twins: Those that two collectors have in `make test`; in `make soak` they have all.
    """
    cases = [(1, way) for way in ways] + [(2, way) for way in (twins if LENGTH <= 2 else ways)]
    ids = [f"{way}-{'alone' if collectors == 1 else 'twins'}" for collectors, way in cases]
    return pytest.mark.parametrize(("collectors", name), cases, ids=ids)


@contextlib.contextmanager
def recording(
    folder: Path,
    *exchange_args: str,
    collectors: int = 1,
    names: OwnNames | None = None,
    warm_s: float = WARM_S,
    **settings: Any,
) -> Iterator[House]:
    """A house that records both markets and every channel.

    Args:
        folder: For everything.
        exchange_args: For the simulated exchange.
        collectors: How many of them record the same.
        names: By which the collectors find the exchange; None gives them its address.
        warm_s: How long they learn before the test begins.
        settings: As `House` takes them.
    """
    settings = {"MARKETS": "um,spot", "CHANNELS": EVERYTHING, **settings}
    with house(folder, *exchange_args, **settings) as built:
        if names is not None:
            built.call_exchange(names.EXCHANGE)
        for name in collector_names(collectors):
            built.start(name, within=names.command if names else ())
        built.start("archiver")
        built.wait_for_frames(200)
        time.sleep(warm_s)
        yield built


def collector_names(collectors: int) -> list[str]:
    """As `House.start` takes them: `ingest`, `ingest-2`."""
    return ["ingest", *(f"ingest-{number}" for number in range(2, collectors + 1))]


def accounted(built: House, tell: Tell, *causes: str) -> Account:
    """Stops everything and compares: each frame once, no gap without a row, no row without a gap."""
    built.settle()
    result = account(built.exchange, built.data)
    tell(**result.figures)
    said = result.verdict(set(causes))
    assert said == "", f"{said}\n{built.log('ingest')[-6000:]}"
    return result


def all_connected(built: House, collectors: int, within_s: float = 30.0) -> list[int]:
    """As `connections`, when each collector has its three: um's two routes, and spot."""
    deadline = time.monotonic() + within_s
    while len(found := connections(built)) != 3 * collectors:
        assert time.monotonic() < deadline, f"{found}: not every connection came back"
        time.sleep(0.1)
    return found


def connections(built: House, market: str | None = None) -> list[int]:
    """The numbers of the exchange's living connections, oldest first."""
    found = [one for one in built.exchange.state()["connections"] if not one["half_open"]]
    return sorted(one["id"] for one in found if market in (None, one["market"]))
