"""A seat: what is told to it reaches each of its connections, whatever is under way."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.config import load
from common.lag import Way
from common.session import Marked
from common.streams import Stream
from ingest import collector, control
from ingest.attempts import Attempts
from ingest.collector import Collector
from ingest.pace import Pace
from ingest.plan import Route
from ingest.subscriber import Subscriber
from tests.stand_ins import Hand, Wire

BOOK, OTHER = Stream("um", "depth20", "BTCUSDT"), Stream("um", "depth20", "ETHUSDT")
CONFIG = Path(__file__).parents[2] / "config"


class Seat:
    """A collector whose connections open at once, or when `opens` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hand, self.wires, self.opened = Hand(), [], asyncio.Event()  # type: ignore[var-annotated]
        self.opens, self.stopping = asyncio.Event(), asyncio.Event()
        self.opens.set()
        monkeypatch.setattr(collector, "subscribe", self._subscribe)
        monkeypatch.setattr(collector, "LOOK_S", 0.01)
        monkeypatch.setattr(control, "PAUSE_S", 0.0)
        self.collector = Collector(
            1, Route("um", "public"), settings=load(CONFIG, {}), producer=self.hand,  # type: ignore[arg-type]
            attempts=Attempts(), paces=defaultdict(Pace), way=Way(),
        )  # fmt: skip

    async def _subscribe(self, *_: Any, paces: Any, way: Any, producer: Any, **__: Any) -> Subscriber:
        await self.opens.wait()
        made = Subscriber("seat", "um", paces, way, producer)
        wire = Wire()
        made._connection = wire  # type: ignore[assignment]
        wire.on_sent = lambda number: made.lanes.message(1, b'{"result":null,"id":%d}' % number)
        self.wires.append(wire)
        self.opened.set()
        return made

    def begin(self, *streams: Stream) -> None:
        """As the fleet does it."""
        self.collector.join(list(streams))
        self.running = asyncio.create_task(self.collector.run(self.stopping))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until something holds."""
        while not holds():  # noqa: ASYNC110 - it may be anything
            await asyncio.sleep(0.001)


def played(monkeypatch: pytest.MonkeyPatch, play: Callable[[Seat], Any]) -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            seat = Seat(monkeypatch)
            await play(seat)
            seat.stopping.set()
            await seat.running

    asyncio.run(run())


async def begun_and_lost(seat: Seat) -> None:
    """The book was recorded, its connection is lost, and no other can be opened."""
    seat.begin(BOOK)
    await seat.until(lambda: ("open", 1) in seat.hand.of(BOOK))
    seat.opens.clear()
    seat.wires[0].close("lost")
    await seat.until(lambda: not seat.collector.connected)


def test_what_joins_while_the_next_connection_opens_is_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever moment of a rotation a stream joins or is paused, both connections are told."""

    async def play(seat: Seat) -> None:
        seat.begin(BOOK)
        await seat.until(lambda: seat.collector.connected)
        seat.opened.clear()
        seat.collector._rotation.begin("a test", planned=True)
        await seat.opened.wait()  # open, and not yet taken up by the seat's next look
        seat.collector.join([OTHER])
        await seat.until(lambda: len(seat.wires) == 2 and seat.wires[1].subscribed >= {BOOK.exchange_name})
        await seat.until(lambda: OTHER.exchange_name in seat.wires[0].subscribed)
        await seat.until(lambda: OTHER.exchange_name in seat.wires[1].subscribed)

    played(monkeypatch, play)


def test_a_gate_that_closes_while_the_connection_is_lost_is_in_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the loss ends where that of the gate begins, before any connection is there again."""

    async def play(seat: Seat) -> None:
        await begun_and_lost(seat)
        seat.collector.pause([BOOK], "gate", "slow")
        assert seat.hand.of(BOOK)[1:] == [("close", 1, "disconnect"), ("open", 0), ("close", 0, "gate")]
        seat.opens.set()
        await seat.until(lambda: seat.collector.connected)
        assert len(seat.hand.of(BOOK)) == 4

    played(monkeypatch, play)


def test_the_last_stream_of_a_seat_leaves_with_its_own_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delisted, not stopped by the operator, although the seat ends before the exchange has answered."""

    async def play(seat: Seat) -> None:
        seat.begin(BOOK)
        await seat.until(lambda: ("open", 1) in seat.hand.of(BOOK))
        seat.wires[0].on_sent = lambda _: None
        seat.collector.leave([BOOK], "halted", "not listed")
        await seat.until(lambda: len(seat.hand.of(BOOK)) > 1)
        assert seat.hand.of(BOOK)[1:] == [("close", 1, "halted")]

    played(monkeypatch, play)


def test_a_paused_stream_that_is_delisted_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the gate ends, and one begins that says that the symbol is gone."""

    async def play(seat: Seat) -> None:
        seat.collector.paused[BOOK] = "gate", "slow"
        seat.begin(BOOK, OTHER)
        await seat.until(lambda: ("open", 1) in seat.hand.of(OTHER))
        seat.collector.leave([BOOK], "halted", "not listed")
        assert [cause for _, _, cause in seat.hand.of(BOOK)[1::2]] == ["gate", "halted"]

    played(monkeypatch, play)


def test_a_mark_over_a_rotation_ends_on_both_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flagged before the next connection came: when the flag goes, no mark stays open."""

    async def play(seat: Seat) -> None:
        seat.begin(BOOK)
        await seat.until(lambda: ("open", 1) in seat.hand.of(BOOK))
        seat.collector.flag(BOOK, Marked(5, "gate"))
        seat.collector._rotation.begin("a test", planned=True)
        await seat.until(lambda: len(seat.hand.marks()) == 2)
        seat.collector.unflag(BOOK, 2**62)
        begun, ended = seat.hand.marks()[:2], seat.hand.marks()[2:]
        assert [(mark.at, mark.to) for mark in ended] == [(mark.at, 2**62) for mark in begun]

    played(monkeypatch, play)


def test_a_cut_is_for_the_connection_that_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slept while there was none: the next connection is not cut for it."""

    async def play(seat: Seat) -> None:
        await begun_and_lost(seat)
        seat.collector.cut("suspend", "slept", 1)
        seat.opens.set()
        await seat.until(lambda: ("open", 1) in seat.hand.of(BOOK)[2:])
        await asyncio.sleep(0.05)
        assert len(seat.hand.of(BOOK)) == 3

    played(monkeypatch, play)
