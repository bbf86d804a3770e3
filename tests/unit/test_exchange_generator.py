"""The generated frames: their form is that of real ones, their ids keep the rules of the exchange."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sims.exchange import sent
from tests.sims.exchange.generator import LoopedFeed, SymbolFeed
from tests.sims.exchange.streams import ExchangeStream
from tests.sims.exchange.symbols import decimal_text, default_symbols, listings

DATA = Path(__file__).parents[2] / "../shared/data/ws"
START_MS = 1_795_233_900_000


class _Kept:
    combined = False

    def __init__(self) -> None:
        self.texts: list[str] = []

    def push(self, frame: bytes, records: bytearray | None, at_bytes: int) -> bool:
        self.texts.append(frame[frame.index(b"{") :].decode())
        return True


def _play(
    market: str,
    channel: str,
    slots: int = 1_300,
    seed: int = 1,
    symbol: str = "BTCUSDT",
    step_ms: int = 100,
    loop: int = 0,
    changes: int = 1,
) -> list[str]:
    clock = [START_MS + 50]
    of = market, listings(market, [symbol])[0], seed, lambda: clock[0]
    feed = LoopedFeed(*of, loop=loop) if loop else SymbolFeed(*of, changes=changes)
    stream, kept = ExchangeStream(market, f"{symbol.lower()}@{channel}", keeps_record=True), _Kept()
    stream.subscribers.append(kept)
    feed.wake(channel, stream)
    for _ in range(slots):
        feed.slot()
        clock[0] += step_ms
    assert stream.records is not None
    assert len(stream.records) == len(kept.texts) * sent.RECORD_BYTES
    return kept.texts


def _keys(value: Any) -> Any:
    """The keys of an object in their order, objects inside included."""
    return [(key, _keys(inner)) for key, inner in value.items()] if isinstance(value, dict) else None


def _real(name: str) -> list[str]:
    file = DATA / name
    if not file.exists():
        pytest.skip("the shared recordings are not here")
    return file.read_text().splitlines()


@pytest.mark.parametrize(
    ("channel", "file", "line"),
    [
        ("depth20@100ms", "um_BTCUSDT_20260822_depth20_500ms_cadence_4frames.TRANSCRIBED.jsonl", 1),
        ("aggTrade", "um_BTCUSDT_20261006_aggTrade_45frames.TRANSCRIBED.jsonl", 0),
        ("kline_1m", "um_BTCUSDT_20261006_kline1m_25frames.TRANSCRIBED.jsonl", 0),
        ("markPrice@1s", "um_BTCUSDT_20261006_markPrice1s_30frames.TRANSCRIBED.jsonl", 0),
    ],
)
def test_um_frames_are_like_the_captured_ones(channel: str, file: str, line: int) -> None:
    """Keys, their order, blanks and the length of ids are those of the frames captured in 2026."""
    real = _real(file)[line]
    real = json.loads(real)["payload"] if real.startswith('{"received_at_ns"') else real
    made = _play("um", channel, 30)[-1]
    assert (", " in made) == (", " in real)
    mine, theirs = json.loads(made), json.loads(real)
    if channel == "depth20@100ms":
        assert list(mine) == list(theirs), "this capture has st"
        assert len(mine["b"]) == len(mine["a"]) == 20
        assert len(str(mine["u"])) == len(str(theirs["u"]))
        assert abs(len(made) - len(real)) < 120
    else:
        assert _keys(mine) == _keys(theirs)


def test_um_depth_chains_by_previous_id_and_stays_sorted() -> None:
    """`pu` is the previous frame's `u`, `U` lies above it, and no book is crossed or out of order."""
    books = [json.loads(text) for text in _play("um", "depth20@100ms")]
    for before, book in itertools.pairwise(books):
        assert book["pu"] == before["u"] < book["U"] <= book["u"]
        assert book["T"] < book["E"]
    for book in books:
        bids, asks = [float(level[0]) for level in book["b"]], [float(level[0]) for level in book["a"]]
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert bids[0] < asks[0]
    assert books[0]["b"] != books[-1]["b"]


def test_spot_depth_ids_rise_and_its_diffs_join() -> None:
    """`lastUpdateId` rises strictly; on diffs `U` is the previous `u` and one."""
    ids = [json.loads(text)["lastUpdateId"] for text in _play("spot", "depth20@100ms")]
    assert all(before < after for before, after in itertools.pairwise(ids))
    diffs = [json.loads(text) for text in _play("spot", "depth@100ms")]
    assert all(after["U"] == before["u"] + 1 <= after["u"] for before, after in itertools.pairwise(diffs))


@pytest.mark.parametrize("market", ["um", "spot"])
def test_agg_trades_are_consecutive(market: str) -> None:
    """`a` rises by one, and `f` follows the previous `l`."""
    trades = [json.loads(text) for text in _play(market, "aggTrade")]
    assert len(trades) > 100
    for before, trade in itertools.pairwise(trades):
        assert trade["a"] == before["a"] + 1
        assert trade["f"] == before["l"] + 1
        assert before["f"] <= before["l"]
        assert trade["T"] < trade["E"]


@pytest.mark.parametrize("market", ["um", "spot"])
def test_each_bar_is_closed_once(market: str) -> None:
    """`x` is true once a minute, behind the minute's end, and the bar's numbers hold together."""
    bars = [json.loads(text) for text in _play(market, "kline_1m")]
    final = [bar for bar in bars if bar["k"]["x"]]
    assert [bar["k"]["t"] for bar in final] == [START_MS, START_MS + 60_000]
    for bar in bars:
        candle = bar["k"]
        assert candle["T"] == candle["t"] + 59_999
        assert float(candle["l"]) <= float(candle["o"]) <= float(candle["h"])
        assert float(candle["V"]) <= float(candle["v"])
    assert all(bar["E"] > bar["k"]["T"] for bar in final)


def test_mark_prices_come_each_second_on_the_second() -> None:
    """`E` is a whole second, and none is left out."""
    times = [json.loads(text)["E"] for text in _play("um", "markPrice@1s", 200)]
    assert times == list(range(START_MS + 1_000, START_MS + 1_000 + 1_000 * len(times), 1_000))
    assert len(times) == 19


def test_liquidations_are_rare_and_never_two_a_second() -> None:
    """About one in 20 s, at least 1 s apart, with pair and type inside the order."""
    orders = [json.loads(text) for text in _play("um", "forceOrder", 20_000)]
    times = [order["E"] for order in orders]
    assert 60 < len(orders) < 160
    assert all(after - before >= 1_000 for before, after in itertools.pairwise(times))
    assert list(orders[0]["o"]) == ["s", "S", "o", "f", "q", "p", "ap", "X", "l", "z", "T", "ps", "st"]


def test_the_seed_decides() -> None:
    """The same seed and clock give the same bytes, another seed others; a restart later has higher ids."""
    assert _play("um", "depth20@100ms", 20, seed=7) == _play("um", "depth20@100ms", 20, seed=7)
    assert _play("um", "depth20@100ms", 20, seed=7) != _play("um", "depth20@100ms", 20, seed=8)


def test_prices_survive_a_long_walk() -> None:
    """After hours the price is still near where the symbol was listed."""
    for symbol in ("BTCUSDT", "1000PEPEUSDT", "S021USDT"):
        listing = listings("um", [symbol])[0]
        book = json.loads(_play("um", "depth20@100ms", 20_000, symbol=symbol)[-1])
        listed = float(listing.price_text(listing.price))
        assert 0.5 * listed < float(book["b"][0][0]) < 1.5 * listed


def test_symbols_differ_in_ticks_and_lots() -> None:
    """500 symbols have unique names, positive prices, and decimals that vary."""
    names = default_symbols(500)
    assert len(set(names)) == 500
    for market in ("um", "spot"):
        listed = listings(market, names)
        assert all(listing.price > 100 for listing in listed)
        assert len({listing.tick for listing in listed}) > 1
    assert decimal_text(1_250, 2) == "12.50"
    assert decimal_text(7, 0) == "7"


def test_a_looped_feed_repeats_its_first_slots_with_new_ids() -> None:
    """Its books of later slots are those of the first ones, while times and ids go on."""
    looped = [json.loads(text) for text in _play("um", "depth20@100ms", slots=50, loop=20)]
    lived = [json.loads(text) for text in _play("um", "depth20@100ms", slots=20)]
    books = [(frame["b"], frame["a"]) for frame in looped]
    assert books[:20] == [(frame["b"], frame["a"]) for frame in lived]
    assert books[20:40] == books[:20]
    assert books[40:] == books[:10]
    assert all(before["u"] < after["U"] <= after["u"] for before, after in itertools.pairwise(looped))
    assert all(before["E"] < after["E"] for before, after in itertools.pairwise(looped))


def test_more_levels_may_change_in_a_slot() -> None:
    """With `changes` a diff is as long as those of a large symbol, and the book is still one."""
    few, many = (_play("um", "depth@100ms", slots=100, changes=changes) for changes in (1, 20))
    assert sum(map(len, many)) > 1.8 * sum(map(len, few))
    for text in _play("um", "depth20@100ms", slots=100, changes=20):
        book = json.loads(text)
        bids, asks = ([float(price) for price, _ in book[side]] for side in ("b", "a"))
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert bids[0] < asks[0]
