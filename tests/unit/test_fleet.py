"""All seats together."""

import asyncio
from pathlib import Path

import pytest

from common.config import load
from ingest import collector
from ingest.connection import ConnectFailed
from ingest.fleet import Fleet
from tests.stand_ins import Hand

CONFIG = Path(__file__).parents[2] / "config"


async def _refused(*_: object, **__: object) -> None:
    raise ConnectFailed("a test")


@pytest.mark.parametrize(("channels", "is_due"), [("forceOrder", False), ("forceOrder,depth20", True), ("", False)])
def test_a_house_that_may_be_silent_is_not_ended_for_it(
    channels: str, is_due: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where a stream must deliver does the silence of all of them prove anything."""
    monkeypatch.setattr(collector, "subscribe", _refused)
    settings = load(CONFIG, {"MASERVER_CHANNELS": channels or "depth20"})

    async def run() -> None:
        stopping = asyncio.Event()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            fleet = Fleet(settings, Hand(), group, stopping)  # type: ignore[arg-type]
            fleet.start({"um": ["BTCUSDT"] if channels else []})
            assert fleet.is_due == is_due
            stopping.set()

    asyncio.run(run())
