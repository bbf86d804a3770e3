"""The simulated exchange's lasting faults, their pure parts: rules, listings, what is on its way, and spans."""

import pytest

from tests.sims.exchange import sent, transit
from tests.sims.exchange.board import Board
from tests.sims.exchange.rules import MaxAge, Rules
from tests.sims.exchange.spans import Span, Spans
from tests.sims.exchange.symbols import listing
from tests.sims.exchange.transit import Transit


def test_the_last_word_on_latency_counts() -> None:
    """Market and route narrow it, 0 lifts it where it says so, and a word on everything forgets the others."""
    rules = Rules(60.0)
    assert rules.latency("um", "public") == (0.0, 0.0)
    rules.set_latency("um", None, 1.0, 0.5)
    rules.set_latency("um", "market", 0.0, 0.0)
    assert rules.latency("um", "public") == (1.0, 0.5)
    assert rules.latency("um", "market") == (0.0, 0.0)
    assert rules.latency("spot", "") == (0.0, 0.0)
    rules.set_latency(None, None, 2.0, 0.0)
    assert rules.latency("um", "market") == rules.latency("spot", "") == (2.0, 0.0)


def test_a_moved_stream_is_served_on_one_route_alone() -> None:
    """By its name before its suffix; an un-routed connection is one on /public; null moves it back."""
    rules = Rules(60.0)
    rules.reroute("um", "aggTrade", "public")
    rules.reroute("um", "ethusdt@aggTrade", "private")
    assert rules.serves("um", "public", "btcusdt@aggTrade")
    assert rules.serves("um", "", "btcusdt@aggTrade")
    assert not rules.serves("um", "market", "btcusdt@aggTrade")
    assert rules.serves("um", "private", "ethusdt@aggTrade")
    assert rules.serves("um", "market", "btcusdt@markPrice@1s")
    rules.reroute("um", "aggTrade", None)
    assert rules.serves("um", "market", "btcusdt@aggTrade")


def test_an_age_is_of_one_market_and_can_be_given_back() -> None:
    """The other market keeps its own, and None is the first one again."""
    rules = Rules(60.0)
    rules.set_max_age("um", 5.0, "rst")
    assert rules.max_ages == {"um": MaxAge(5.0, "rst"), "spot": MaxAge(60.0)}
    rules.set_max_age("um", None, "close")
    assert rules.max_ages["um"] == MaxAge(60.0)


def test_the_board_says_what_flows() -> None:
    """Only what is TRADING flows; of a symbol that was never listed the board knows nothing."""
    board = Board(("BTCUSDT", "测试USDT"))
    changed: list[str] = []
    board.on_change = changed.append
    assert board.flows("um", "测试usdt@aggTrade")
    assert board.flows("um", "!markPrice@arr@1s")
    assert board.flows("um", "nosuchusdt@depth")
    board.set_status("um", ["BTCUSDT"], "SETTLING")
    assert not board.flows("um", "btcusdt@aggTrade")
    assert board.flows("spot", "btcusdt@aggTrade")
    board.set_status("um", ["BTCUSDT"], "SETTLING", gone=True)
    assert [one.symbol for one in board.shown("um")] == ["测试USDT"]
    board.add("um", ["BTCUSDT", "NEWUSDC"], "TRADING", "PERPETUAL", 7)
    assert [(one.symbol, one.rank) for one in board.shown("um")] == [("BTCUSDT", 0), ("测试USDT", 1), ("NEWUSDC", 2)]
    assert board.flows("um", "btcusdt@aggTrade")
    assert changed == ["um"] * 3
    with pytest.raises(ValueError, match="NOSUCH"):
        board.set_status("um", ["NOSUCH"], "BREAK")
    with pytest.raises(ValueError, match="FOREVER"):
        board.add("um", ["XUSDT"], "TRADING", "FOREVER", 7)


@pytest.mark.parametrize(
    ("symbol", "parts"),
    [
        ("BTCUSDT", ("BTCUSDT", "BTC", "USDT")),
        ("ETHBTC", ("ETHBTC", "ETH", "BTC")),
        ("BTCUSDC_261225", ("BTCUSDC", "BTC", "USDC")),
    ],
)
def test_assets_follow_from_the_symbol(symbol: str, parts: tuple[str, str, str]) -> None:
    """Pair, base and quote."""
    one = listing("um", symbol, 0)
    assert (one.pair, one.base_asset, one.quote_asset) == parts


def test_spans_begin_and_end_and_are_cut_in_the_past() -> None:
    """What ended before the cut stays; what was on its way is taken off, and never ends before it began."""
    spans = Spans()
    spans.begin("um", "a", 1, 10)
    spans.end("a", 1, 20)
    spans.begin("um", "a", 1, 30)
    spans.end("a", 1, 50)
    spans.begin("um", "b", 1, 45)
    spans.begin("um", "a", 2, 31)
    spans.cut(1, 40)
    spans.cut(1, 35)
    assert spans.of("um", "a") == [Span(1, 10, 20), Span(1, 30, 40), Span(2, 31, None)]
    assert spans.of("um", "b") == [Span(1, 45, 45)]
    assert spans.of("spot", "a") == []
    assert spans.names("um") == ["a", "b"]


class _Clock:
    """A clock that the test turns, with calls that become due."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, object]] = []

    def later(self, seconds: float, call: object) -> None:
        self.due.append((self.now + seconds, call))

    def turn(self, seconds: float) -> None:
        self.now += seconds
        due, self.due = [one for one in self.due if one[0] <= self.now], [one for one in self.due if one[0] > self.now]
        for _, call in due:
            assert callable(call)
            call()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    turned = _Clock()
    monkeypatch.setattr(transit, "time", turned)
    return turned


def _made(clock: _Clock) -> tuple[Transit, list[bytes]]:
    arrived: list[bytes] = []
    return Transit(lambda frame, records, at: arrived.append(frame), lambda: None, clock.later, 1), arrived


def test_what_is_late_arrives_in_order_when_it_is_due(clock: _Clock) -> None:
    """A smaller delay does not overtake a larger one; then nothing is held any more."""
    way, arrived = _made(clock)
    way.delay(1.0, 0.0)
    way.take(b"1", None, 0)
    clock.turn(0.5)
    way.take(b"2", None, 0)
    way.delay(0.0, 0.0)
    way.take(b"3", None, 0)
    assert not way.is_idle
    clock.turn(0.5)
    assert arrived == [b"1"]
    clock.turn(0.5)
    assert arrived == [b"1", b"2", b"3"]
    assert way.is_idle


def test_a_stall_holds_what_is_due(clock: _Clock) -> None:
    """Replies wait behind data then, and all that is due comes in one burst; what is late still waits."""
    way, arrived = _made(clock)
    way.stall()
    way.take(b"1", None, 0)
    way.take(b"reply", None, -1)
    way.delay(2.0, 0.0)
    way.take(b"2", None, 0)
    clock.turn(1.0)
    assert arrived == []
    way.resume()
    assert arrived == [b"1", b"reply"]
    clock.turn(1.0)
    assert arrived == [b"1", b"reply", b"2"]


def test_the_end_takes_with_it_what_is_on_its_way(clock: _Clock) -> None:
    """What is lost begins with the oldest frame that is held, as the record has it, or with the stall."""
    way, _ = _made(clock)
    assert way.lost_from_ns is None
    way.delay(1.0, 0.0)
    records = bytearray(sent.pack(5, b"x" * 8, 0, 0) + sent.pack(7, b"y" * 8, 0, 0))
    way.take(b"2", records, sent.RECORD_BYTES)
    assert way.lost_from_ns == 7
    way.stall()
    assert way.lost_from_ns == 7
    clock.turn(3.0)
    way.resume()
    way.delay(0.0, 0.0)
    assert way.lost_from_ns is None
    way.stall()
    assert way.lost_from_ns is not None
    assert way.lost_from_ns > 7
