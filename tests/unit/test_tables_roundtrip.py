"""Frames to Parquet and back, value for value."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.tables import encode, payload_values
from archiver.tables.fixed_point import exact, parse_texts, text, without_zeros
from common.frame import Frame
from common.streams import Stream

UM_BOOK = Stream("um", "depth20", "BTCUSDT")


def frames_of(*payloads: bytes) -> list[Frame]:
    return [
        Frame(1_790_526_539_000_000_000 + n, "17e9a3b0c1d2e3f-ab12", n, payload)
        for n, payload in enumerate(payloads, 1)
    ]


def book(bids: list[list[Any]], asks: list[list[Any]], **changed: Any) -> bytes:
    payload = {"e": "depthUpdate", "E": 1790526538985, "T": 1790526538981, "s": "BTCUSDT", "U": 1, "u": 3, "pu": 0}
    return json.dumps(payload | {"b": bids, "a": asks} | changed, separators=(",", ":")).encode()


def assert_lossless(stream: Stream, payloads: list[bytes], rejected: list[int] | None = None) -> None:
    encoded = encode(stream, frames_of(*payloads))
    assert encoded.rejected == (rejected or [])
    kept = [json.loads(payload) for n, payload in enumerate(payloads) if n not in encoded.rejected]
    assert payload_values(encoded.table) == kept


DECIMALS = st.builds(
    lambda whole, fraction: f"{whole}.{fraction}" if fraction else str(whole),
    st.integers(0, 10**9),
    st.text("0123456789", max_size=8),
)
ODD = st.sampled_from(["1e-7", "-0.00", "00.1", "+1.5", "1.", ".5", "1E3", "123456789012345678901.5", "1.50"])
LEVELS = st.lists(st.tuples(DECIMALS | ODD, DECIMALS | ODD).map(list), max_size=25)


@given(st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_book_survives_or_is_refused(books: list[tuple[list[list[str]], list[list[str]]]]) -> None:
    """A book with any decimals is either given back text for text or refused, never changed."""
    payloads = [book(bids, asks, u=n) for n, (bids, asks) in enumerate(books)]
    encoded = encode(UM_BOOK, frames_of(*payloads))
    kept = [json.loads(payload) for n, payload in enumerate(payloads) if n not in encoded.rejected]
    assert payload_values(encoded.table) == kept


PLAIN = st.integers(0, 3).flatmap(
    lambda decimals: st.lists(
        st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)).map(
            lambda pair: [text(pair[0], decimals), text(pair[1], 3)]
        ),
        min_size=1,
        max_size=20,
    )
)


@given(PLAIN, PLAIN)
@settings(max_examples=100, deadline=None)
def test_both_ways_agree(bids: list[list[str]], asks: list[list[str]]) -> None:
    """The same book with a blank in it, which takes the slow way, gives the same columns."""
    usual = book(bids, asks)
    blank = usual.replace(b'"b":[[', b'"b": [[')
    fast, slow = (encode(UM_BOOK, frames_of(payload)) for payload in (usual, blank))
    assert fast.rejected == slow.rejected == []
    assert payload_values(fast.table) == payload_values(slow.table) == [json.loads(usual)]
    for name in ("best_bid_price", "best_ask_quantity", "bid_price_gaps", "price_decimals", "quantity_text_decimals"):
        if len({text.count(".") for level in bids + asks for text in level[:1]}) == 1 and _same_decimals(bids + asks):
            assert fast.table.column(name).to_pylist() == slow.table.column(name).to_pylist()


def _same_decimals(levels: list[list[str]]) -> bool:
    return len({len(price.partition(".")[2]) for price, _ in levels}) == 1


@pytest.mark.parametrize(
    "payload",
    [
        book([], []),
        book([["1.0", "2"]], []),
        book([["1.0", "2"]] * 25, [["1.1", "3"]]),
        book([["1.0", "2"]], [["1.1", "3.5"]]),
        book([["1e-7", "2"]], [["1.1", "-0"]]),
        book([["1.0", "2"]], [["1.1", "3"]], ps="BTCUSDT", st=1),
        book([["1.0", "2"]], [["1.1", "3"]], new={"b": [["9.9", "1"]], "x": 1.10}, big=123456789012345678901234567890),
        book([["1.0", "2"]], [["1.1", "3"]], ps=None, st="1"),
        book([["0.000012", "123456789012345678.00000000"]], [["0.000013", "1.00000000"]], st=None)[:-1]
        + b',"x":"\xc3\xa9"}',
        b' {"a" : [ ["1.1","3"] ], "b":[],"pu":0,"u":1,"U":1,"s":"BTCUSDT","T":1,"E":1,"e":"depthUpdate"}',
        book([["1.0", "2"]], [["1.1", "3"]]).replace(b'"E":1790526538985,', b""),
    ],
)
def test_unusual_books_are_kept_or_refused_whole(payload: bytes) -> None:
    """Empty sides, other depths, blanks, odd texts unknown keys are kept; only what fits no 15 digits is refused."""
    refused = [1] if b"123456789012345678.0" in payload else []
    usual = book([["1.0", "2"]], [["1.1", "3"]])
    assert_lossless(UM_BOOK, [usual, payload, usual], refused)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not JSON",
        b"[1]",
        b"null",
        b"\xff",
        b'{"e":"depthUpdate"}',
        book([["1.0", "2"]], [["1.1", "3"]], s="ETHUSDT"),
        book([["1.0", "2"]], [["1.1", "3"]], e="trade"),
        book([["1.0", "2"]], [["1.1", "3"]], u="3"),
        book([["1.0", "2"]], [["1.1", "3"]], u=2**63),
        book([["1.0", "2"]], [["1.1", "3"]], u=1.0),
        book([["1.0", "x"]], [["1.1", "3"]]),
        book([["1.0", 2]], [["1.1", "3"]]),
        book([["1.0", "2", []]], [["1.1", "3"]]),
        book([["1.0", "NaN"]], [["1.1", "3"]]),
        book([["1.0", "2"]], [["1.1", "3"]])[:-1],
        book([["1.0", "2"]], [["1.1", "3"]]) + b",",
    ],
)
def test_what_cannot_be_typed_is_refused_alone(payload: bytes) -> None:
    """A payload of another shape is refused and its neighbours are not."""
    usual = book([["1.0", "2"]], [["1.1", "3"]])
    assert_lossless(UM_BOOK, [usual] * 10 + [payload] + [usual] * 10, [10])


def test_two_broken_payloads_do_not_mend_each_other() -> None:
    """Payloads that are JSON only when they are joined are refused."""
    trade = TRADE.encode()
    pieces = [trade + b"," + trade[:-1] + b',"st":1', b'"st":1}']
    assert encode(Stream("um", "aggTrade", "X"), frames_of(*pieces)).rejected == [0, 1]
    strings = [trade + b"," + trade[:9] + b"}", b'{",' + trade[9:]]
    assert encode(Stream("um", "aggTrade", "X"), frames_of(*strings)).rejected == [0, 1]


def test_a_tick_size_change_splits_the_minute() -> None:
    """After a change of tick size inside a minute each row has its own decimals, and its own right prices."""
    before, after = (
        book([["28145.1", "2.000"]], [["28145.2", "1.000"]]),
        book([["28145.11", "2.0"]], [["28145.12", "1.5"]]),
    )
    payloads = [before] * 30 + [after] * 30
    assert_lossless(UM_BOOK, payloads)
    table = encode(UM_BOOK, frames_of(*payloads)).table
    assert set(table.column("price_decimals").to_pylist()) == {1, 2}
    assert table.column("best_bid_price").to_pylist() == [28145.1] * 30 + [28145.11] * 30


TRADE = '{"e":"aggTrade","E":1,"a":2,"s":"X","p":"1.0","q":"1","f":1,"l":1,"T":1,"m":true}'
MARK = b'{"e":"markPriceUpdate","E":1,"s":"BTCUSDT_261225","p":"31799.27730000","P":"31235.82439517","r":"","T":0}'
FORCE = (
    b'{"e":"forceOrder","E":5,"o":{"s":"BTCUSDT","S":"SELL","o":"LIMIT","f":"IOC","q":"0.014","p":"84201.3",'
    b'"ap":"84260.1","X":"FILLED","l":"0.014","z":"0.014","T":4}}'
)
KLINE = (
    b'{"e":"kline","E":5,"s":"BNBBTC","k":{"t":1,"T":2,"s":"BNBBTC","i":"1m","f":-1,"L":-1,"o":"0.0010","c":"0.0020",'
    b'"h":"0.0025","l":"0.0015","v":"1000","n":0,"x":false,"q":"1.0000","V":"500","Q":"0.500","B":"123456"}}'
)


@pytest.mark.parametrize(
    ("stream", "payload"),
    [
        (Stream("um", "markPrice", "BTCUSDT_261225"), MARK),
        (Stream("um", "markPrice", "BTCUSDT_261225"), MARK.replace(b'"r":""', b'"r":"-0.00012300","ap":"1.8E-7"')),
        (Stream("um", "markPrice", "BTCUSDT_261225"), MARK.replace(b'"r":"",', b"")),
        (Stream("um", "forceOrder", "BTCUSDT"), FORCE),
        (Stream("um", "forceOrder", "BTCUSDT"), FORCE.replace(b'"T":4}', b'"T":4,"ps":"BTCUSDT","st":1}')),
        (Stream("um", "forceOrder", "BTCUSDT"), FORCE.replace(b'"T":4}', b'"T":4,"new":[1]},"ps":"BTCUSDT","st":1')),
        (Stream("spot", "kline_1m", "BNBBTC"), KLINE),
        (Stream("spot", "kline_1m", "BNBBTC"), KLINE.replace(b'"v":"1000"', b'"v":"123456789012345.00000000"')),
        (Stream("um", "aggTrade", "测试USDT"), TRADE.replace("X", "测试USDT").encode()),
        (
            Stream("spot", "bookTicker", "BNBUSDT"),
            b'{"u":4,"s":"BNBUSDT","b":"25.3519","B":"31.21","a":"25.4","A":"40"}',
        ),
    ],
)
def test_unusual_frames_survive(stream: Stream, payload: bytes) -> None:
    """Delivery contracts, keys at either place, bars without trades, mixed decimals: all come back as they were."""
    assert_lossless(stream, [payload, payload])


@pytest.mark.parametrize(
    ("stream", "payload"),
    [
        (Stream("um", "forceOrder", "BTCUSDT"), b'{"e":"forceOrder","E":5,"o":[]}'),
        (Stream("um", "forceOrder", "BTCUSDT"), FORCE.replace(b'"84201.3"', b'"abc"')),
        (Stream("spot", "kline_1m", "BNBBTC"), KLINE.replace(b'"i":"1m"', b'"i":"5m"')),
        (Stream("spot", "kline_1m", "BNBBTC"), KLINE.replace(b'"n":0', b'"n":true')),
    ],
)
def test_frames_of_another_shape_are_refused(stream: Stream, payload: bytes) -> None:
    """A required value of another type, or another stream's frame, is refused."""
    assert_lossless(stream, [payload], [0])


def test_no_frames_are_a_table_without_rows() -> None:
    """An empty minute has all columns and no row."""
    encoded = encode(UM_BOOK, [])
    assert encoded.table.num_rows == 0
    assert "bid_price_gaps" in encoded.table.column_names


def test_the_unknown_channel_has_no_parquet() -> None:
    """Frames of no known stream stay raw."""
    with pytest.raises(ValueError, match="unknown channel 'unknown'"):
        encode(Stream("um", "unknown", "_"), [])


@given(st.lists(DECIMALS, min_size=1))
@settings(deadline=None)
def test_the_fast_parser_agrees_with_the_exact_one(texts: list[str]) -> None:
    """What the fast parser does not refuse, it parses to the same numbers."""
    parsed = parse_texts(texts)
    if parsed is not None:
        assert [text(int(unit), int(decimals)) for unit, decimals in zip(*parsed, strict=True)] == texts
    scaled = exact(texts)
    units, decimals = without_zeros(scaled.units, scaled.decimals)
    assert [unit * 10 ** (scaled.decimals - decimals) for unit in units] == scaled.units
