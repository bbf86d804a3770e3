"""When the next connection takes over; both connections are stood in for."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from common.streams import Stream
from ingest.connection import ConnectFailed
from ingest.rotation import CATCH_UP_S, PROVEN_WITHIN_S, Rotation

BOOK = Stream("um", "depth20", "BTCUSDT")


class Side:
    """What a rotation asks of a connection."""

    def __init__(
        self, *, counter: int = 100, unproven: Sequence[Stream] = (), delivers: bool = True,
        doubted: Sequence[Stream] = (), lacks: bool = False, silent_s: float = math.inf,
    ) -> None:  # fmt: skip
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.lanes = self
        self.counter = counter
        self.asked = 0
        self._unproven, self._doubted = list(unproven), list(doubted)
        self._delivers, self._lacks, self._silent_s = delivers, lacks, silent_s

    def unproven(self, within_s: float) -> list[Stream]:
        return self._unproven

    def delivered_since(self, stream: Stream, since_s: float) -> bool:
        return self._delivers

    def doubted(self) -> list[Stream]:
        return self._doubted

    def lacks_before(self, other: "Side") -> bool:
        return self._lacks

    def fell_silent(self, now_s: float) -> bool:
        return now_s >= self._silent_s

    def ask_what_is_subscribed(self) -> None:
        self.asked += 1


def takes_over_at(current: dict[str, Any], following: dict[str, Any]) -> int | None:
    """After how many seconds the next connection takes over, and None where it is given up or never does."""

    async def run() -> int | None:
        sides = Side(**current), Side(**following)

        async def subscribe() -> Any:
            return sides[1]

        rotation = Rotation("seat", subscribe, lambda _: None, lambda *_: None)
        rotation.begin("a test", planned=False)
        await asyncio.sleep(0.01)
        for second in range(100):
            if rotation.step(sides[0], float(second)) is not None:  # type: ignore[arg-type]
                return second
        return None

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("current", "following", "after_s"),
    [
        ({}, {}, 0),
        ({}, {"unproven": [BOOK]}, None),
        ({"delivers": False}, {"unproven": [BOOK]}, PROVEN_WITHIN_S),
        ({"lacks": True}, {}, CATCH_UP_S),
        ({"delivers": False, "doubted": [BOOK]}, {"unproven": [BOOK], "counter": 0}, CATCH_UP_S),
        ({"doubted": [BOOK]}, {}, 0),
        ({"lacks": True, "silent_s": 0}, {"silent_s": 12}, 12),
        ({"lacks": True}, {"silent_s": 12}, CATCH_UP_S),
    ],
    ids=[
        *("proven", "fails", "silent for both", "owes", "nothing on either", "the next one speaks"),
        *("both die", "the next one dies"),
    ],
)
def test_when_the_next_one_takes_over(
    current: dict[str, Any], following: dict[str, Any], after_s: float | None
) -> None:
    """When it is proven and the old one owes nothing; the old one is not left for one that is as silent as itself."""
    assert takes_over_at(current, following) == after_s


def test_a_connection_that_could_not_be_opened_leaves_the_old_one() -> None:
    """It is tried again later."""

    async def run() -> None:
        async def subscribe() -> Any:
            raise ConnectFailed("a test")

        admitted: list[Any] = []
        admit: Callable[[Any], None] = admitted.append
        rotation = Rotation("seat", subscribe, admit, lambda *_: None)
        rotation.begin("a test", planned=False)
        await asyncio.sleep(0.01)
        assert rotation.step(Side(), 1.0) is None  # type: ignore[arg-type]
        assert (rotation.failures, rotation.is_running, admitted) == (1, False, [])

    asyncio.run(run())
