"""One connection and its sessions, by what it says in its streams; its connection and the producer are stood in for."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from common.clock import SECOND_NS
from common.lag import Way
from common.session import Closed, Marked
from common.streams import Stream
from ingest import control
from ingest.pace import Pace
from ingest.subscriber import Subscriber
from tests.stand_ins import Hand, Wire

BOOK, TRADES = Stream("um", "depth20", "BTCUSDT"), Stream("um", "aggTrade", "BTCUSDT")
UNTIMED = Stream("spot", "depth20", "BTCUSDT")
"""Nothing in it tells when it was sent."""


class Scene:
    """A subscriber between the two."""

    def __init__(self) -> None:
        self.hand, self.wire, self.way = Hand(), Wire(), Way()
        self.paces: defaultdict[Stream, Pace] = defaultdict(Pace)
        self.subscriber = Subscriber("seat", "um", self.paces, self.way, self.hand)  # type: ignore[arg-type]
        self.subscriber._connection = self.wire  # type: ignore[assignment]
        self.now_s = asyncio.get_running_loop().time()

    async def asked(self) -> list[tuple[str, int]]:
        """What was asked so far: method and number of names."""
        for _ in range(20):
            await asyncio.sleep(0)
        return [(each["method"], len(each.get("params", ()))) for each in self.wire.asked]

    async def answer(self, **reply: Any) -> None:
        """Answers the oldest question that is not answered yet."""
        await self.asked()
        self.wire.answered += 1
        self.message(msgspec.json.encode({"result": None, **reply, "id": self.wire.answered}))

    def message(self, text: bytes) -> None:
        self.wire.heard_ns = time.time_ns()
        self.subscriber.lanes.message(self.wire.heard_ns, text)

    def frame(self, stream: Stream, late_s: float = 0.0) -> None:
        event_ms = (time.time_ns() - int(late_s * SECOND_NS)) // 1_000_000
        self.message(b'{"stream":"%b","data":{"E":%d}}' % (stream.exchange_name.encode(), event_ms))

    def untimed(self, after_s: float) -> None:
        """A frame of `UNTIMED`, so long after what came last by the wall clock."""
        self.wire.heard_ns += int(after_s * SECOND_NS)
        self.subscriber.lanes.message(
            self.wire.heard_ns, b'{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":1}}'
        )

    def look(self, after_s: float = 0.5) -> None:
        self.now_s += after_s
        self.subscriber.look(self.now_s)


class Clock:
    """Stands where the loop stands, to say how late it is."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s

    def time(self) -> float:
        return self._now_s


def played(play: Callable[[Scene], Any]) -> None:
    """Plays a scene in a loop of its own."""

    async def run() -> None:
        async with asyncio.timeout(10):
            scene = Scene()
            await play(scene)
            if not scene.wire.closed.done():
                scene.subscriber.end("maintenance", "the test is over")

    asyncio.run(run())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PAUSE_S", 0.0)


def test_a_stream_that_is_wanted_again_at_once_has_a_row_for_the_time_between() -> None:
    """Unsubscribed, and wanted again before the exchange answered: it is subscribed after the answer, anew."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.answer()
        scene.subscriber.release([BOOK], "gate", "closed")
        scene.subscriber.want([BOOK])
        assert await scene.asked() == [("SUBSCRIBE", 1), ("UNSUBSCRIBE", 1)]
        assert scene.hand.of(BOOK) == [("open", 1)]
        await scene.answer()
        assert (await scene.asked())[2:] == [("SUBSCRIBE", 1)]
        await scene.answer()
        assert scene.hand.of(BOOK) == [("open", 1), ("close", 1, "gate"), ("open", 2)]

    played(play)


def test_a_stream_that_is_let_go_twice_is_unsubscribed_once() -> None:
    """Let go, wanted and let go again within one answer: one question, and its end has the last reason."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.answer()
        scene.subscriber.release([BOOK], "gate", "closed")
        scene.subscriber.want([BOOK])
        scene.subscriber.release([BOOK], "halted", "not listed")
        await scene.answer()
        assert await scene.asked() == [("SUBSCRIBE", 1), ("UNSUBSCRIBE", 1)]
        assert scene.hand.of(BOOK) == [("open", 1), ("close", 1, "halted")]
        assert not scene.subscriber.holds(BOOK)

    played(play)


def test_a_stream_that_is_let_go_is_not_watched_any_more() -> None:
    """Silent while the exchange has not answered yet: it is not subscribed again."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.answer()
        scene.subscriber.release([BOOK], "gate", "closed")
        for _ in range(18):
            scene.look()
        assert await scene.asked() == [("SUBSCRIBE", 1), ("UNSUBSCRIBE", 1)]
        assert scene.subscriber.doubted() == []

    played(play)


def test_the_reason_to_leave_outlives_the_connection() -> None:
    """Lost before the exchange answered: the row that begins then has the cause for which the stream was let go."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK, TRADES])
        await scene.answer()
        scene.subscriber.release([BOOK], "halted", "not listed")
        scene.wire.close("lost")
        scene.subscriber.end("disconnect", "lost")
        assert scene.hand.of(BOOK) == [("open", 1), ("close", 1, "halted")]
        assert scene.hand.of(TRADES) == [("open", 1), ("close", 1, "disconnect")]

    played(play)


def test_a_stream_that_was_not_covered_when_it_was_let_go_has_its_new_reason() -> None:
    """Doubted, and then paused: the row of the silence ends, and that of the gate begins."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK], doubted=[BOOK])
        scene.subscriber.release([BOOK], "gate", "closed")
        await scene.answer()
        await scene.answer()
        assert scene.hand.of(BOOK) == [("open", 0), ("close", 0, "gate")]

    played(play)


def test_a_beat_of_which_nothing_came_is_not_covered() -> None:
    """Subscribed by the exchange's word, and let go before a first frame: what was on its way never came."""

    async def play(scene: Scene) -> None:
        for _ in range(1000):
            scene.paces[BOOK].add(2.0)  # so that a short silence proves nothing
        scene.subscriber.want([BOOK])
        await scene.answer()
        scene.subscriber.release([BOOK], "gate", "closed")
        await scene.answer()
        (_, began), (_, ended) = scene.hand.said
        assert (began.at, scene.hand.of(BOOK)[1]) == (ended.at, ("close", 1, "gate"))

    played(play)


def test_a_mark_ends_on_each_connection_where_it_began() -> None:
    """Flagged, and unflagged later: the second mark completes the first; one that is open at the end is closed."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.answer()
        scene.subscriber.flag(BOOK, Marked(5, "gate"))
        scene.subscriber.unflag(BOOK, 9)
        scene.subscriber.unflag(BOOK, 10)
        scene.subscriber.flag(BOOK, Marked(20, "gate"))
        scene.subscriber.end("rotation", "")
        assert scene.hand.marks() == [
            Marked(5, "gate"), Marked(5, "gate", 9), Marked(20, "gate"), Marked(20, "gate", scene.wire.heard_ns),
        ]  # fmt: skip

    played(play)


def test_a_refused_subscription_is_tried_again() -> None:
    """The exchange refuses: a row `rejected`, and the stream is in doubt, so that the connection is replaced."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.asked()
        scene.message(b'{"error":{"code":4,"msg":"Too many requests"},"id":1}')
        assert scene.hand.of(BOOK) == [("open", 0), ("close", 0, "rejected")]
        assert scene.subscriber.doubted() == [BOOK]
        scene.now_s += 11
        assert scene.subscriber.is_sick(scene.now_s)
        scene.frame(BOOK)
        assert scene.hand.of(BOOK)[2:] == [("open", 1)]

    played(play)


def test_a_stalled_connection_may_still_answer() -> None:
    """Nothing is heard at all: what is not answered then proves nothing. Heard and not answered: it is closed."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.asked()
        for _ in range(60):
            scene.look()
        assert not scene.wire.closed.done()
        scene.frame(TRADES)
        scene.look()
        assert scene.wire.closed.result().startswith("no answer to SUBSCRIBE")

    played(play)


def test_who_stood_still_does_not_call_others_silent() -> None:
    """After a pause of our own the first look doubts nobody; a silence that goes on is found by the looks after it."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.answer()
        for _ in range(10):
            scene.frame(BOOK)
            scene.look()
        scene.look(after_s=60)
        assert scene.subscriber.doubted() == []
        scene.look()
        assert scene.subscriber.doubted() == [BOOK]

    played(play)


@pytest.mark.parametrize(("silent_s", "doubted"), [({}, []), ({TRADES: 600.0}, [TRADES])], ids=["new", "silent"])
def test_a_silence_does_not_begin_anew_with_the_next_connection(
    silent_s: dict[Stream, float], doubted: list[Stream]
) -> None:
    """Else a stream would never be called silent whose neighbour's silence has the connection replaced every time."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([TRADES], silent_s=silent_s)
        await scene.answer()
        scene.look()
        assert scene.subscriber.doubted() == doubted
        scene.frame(TRADES)
        scene.look()
        scene.look()
        assert scene.subscriber.doubted() == []

    played(play)


def test_what_is_subscribed_is_asked_again_when_a_stream_joins() -> None:
    """A list that was asked for before a stream joined does not tell of it."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.answer()
        scene.subscriber.ask_what_is_subscribed()
        scene.subscriber.ask_what_is_subscribed()
        scene.subscriber.want([Stream("um", "forceOrder", "NEWUSDT")])
        scene.subscriber.ask_what_is_subscribed()
        methods = [method for method, _ in await scene.asked()]
        assert methods == ["SUBSCRIBE", "LIST_SUBSCRIPTIONS", "SUBSCRIBE", "LIST_SUBSCRIPTIONS"]

    played(play)


def test_a_step_of_the_clock_is_no_lag() -> None:
    """Frames that came before the clock was put forward do not make those that come after it late."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK, TRADES])
        await scene.answer()
        for _ in range(3):
            scene.frame(BOOK)
            scene.frame(TRADES)
            scene.look()
        scene.frame(TRADES)
        scene.frame(BOOK, late_s=60)  # the wall clock is a minute ahead by now
        scene.subscriber.stepped(scene.now_s)
        scene.way.forget()
        for _ in range(3):
            scene.frame(BOOK, late_s=60)
            scene.look()
            assert scene.subscriber.lag_s < 1

    played(play)


def test_delivered_means_since_then() -> None:
    """What came hours ago proves nothing of now."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([TRADES])
        await scene.answer()
        assert not scene.subscriber.delivered_since(TRADES, 0.0)
        scene.frame(TRADES)
        scene.look()
        assert scene.subscriber.delivered_since(TRADES, scene.now_s)
        assert not scene.subscriber.delivered_since(TRADES, scene.now_s + 1)

    played(play)


def flowing(scene: Scene, stream: Stream) -> int:
    """A stream comes on time for a while; gives the receive time of the last frame, in ns."""
    for _ in range(3):
        scene.frame(stream)
        scene.look()
    return scene.wire.heard_ns


def test_a_burst_that_ends_with_the_connection_is_as_late_as_it_says() -> None:
    """No look lies between the burst and the end: neither the rows nor a beat say that what the burst lacked came."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK, TRADES])
        await scene.answer()
        flowing(scene, TRADES)
        scene.frame(BOOK, late_s=4.0)
        sent_ns = scene.wire.heard_ns - 4 * SECOND_NS
        beat_ns = int(scene.subscriber.beat().split()[0])
        heard_ns = scene.subscriber.lanes.add(TRADES).heard_ns
        scene.subscriber.end("disconnect", "lost")
        ends_ns = {key: event.at for key, event in scene.hand.said if isinstance(event, Closed)}
        assert abs(beat_ns - sent_ns) < SECOND_NS // 10
        assert abs(ends_ns[TRADES.key] - heard_ns) < SECOND_NS // 10
        began_ns = next(event.at for key, event in scene.hand.said if key == BOOK.key)
        assert ends_ns[BOOK.key] == began_ns  # sent before its session began, and nothing since

    played(play)


@pytest.mark.parametrize("paused_s", [3.0, 0.2])
def test_a_burst_without_times_is_as_late_as_the_pause_before_it(paused_s: float) -> None:
    """Of spot's books nothing tells when they were sent: after an unusual pause they may all be from before it."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([UNTIMED])
        await scene.answer()
        before_ns = flowing(scene, UNTIMED)
        scene.untimed(after_s=paused_s)
        ends_ns = before_ns if paused_s > 1 else scene.wire.heard_ns
        assert int(scene.subscriber.beat().split()[0]) == ends_ns
        scene.subscriber.end("disconnect", "lost")
        assert [event.at for _, event in scene.hand.said if isinstance(event, Closed)] == [ends_ns]

    played(play)


@pytest.mark.parametrize(("looks", "cause"), [(23, "stale"), (3, "maintenance")])
def test_a_stop_is_not_why_a_silence_began(looks: int, cause: str) -> None:
    """The operator stops a collector whose connection is half dead: its rows begin with the silence, and say so."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.answer()
        flowing(scene, BOOK)
        for _ in range(looks):
            scene.look()
        scene.subscriber._loop = Clock(scene.now_s)  # type: ignore[assignment]
        scene.subscriber.end("maintenance", "stopped")
        assert scene.hand.of(BOOK)[1] == ("close", 1, cause)

    played(play)


def test_a_burst_without_times_may_last_over_looks() -> None:
    """Each look may see a part of it; some seconds without a pause end it. A step of the clock is no pause."""

    async def play(scene: Scene) -> None:
        def comes(after_s: float) -> None:
            scene.untimed(after_s)
            scene.look()

        def behind_s() -> float:
            return (scene.wire.heard_ns - int(scene.subscriber.beat().split()[0])) / SECOND_NS

        scene.subscriber.want([UNTIMED])
        await scene.answer()
        flowing(scene, UNTIMED)
        comes(30.0)
        comes(0.5)
        assert 30 < behind_s() < 31
        for _ in range(7):
            comes(0.5)
        assert behind_s() == 0
        scene.subscriber.stepped(scene.now_s)
        comes(3600.0)
        assert behind_s() == 0

    played(play)


def test_who_stood_still_has_not_seen_a_connection_die() -> None:
    """The looks right after it may come before what lies in the sockets is read."""

    async def play(scene: Scene) -> None:
        scene.subscriber.want([BOOK])
        await scene.answer()
        flowing(scene, BOOK)
        scene.look(after_s=60)
        assert not scene.subscriber.fell_silent(scene.now_s)
        for _ in range(21):
            scene.look()
        assert scene.subscriber.fell_silent(scene.now_s)
        scene.frame(BOOK)
        assert not scene.subscriber.fell_silent(scene.now_s)

    played(play)
