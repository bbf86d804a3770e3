"""The simulated exchange's pure parts: names and routes, control messages, faults of frames, the sent record."""

import json

import pytest

from tests.sims.exchange import sent
from tests.sims.exchange.alterations import ALTERATIONS, Plan
from tests.sims.exchange.names import is_possible, parse_address, route_of, serves
from tests.sims.exchange.requests import Refusal, Request, parse, result
from tests.sims.exchange.streams import ExchangeStream
from tests.sims.exchange.wire import close_frame, text_frame


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("btcusdt@depth20@100ms", "public"),
        ("btcusdt@depth", "public"),
        ("btcusdt@depth@0ms", "public"),
        ("btcusdt@bookTicker", "public"),
        ("btcusdt@rpiDepth@500ms", "public"),
        ("!bookTicker", "public"),
        ("btcusdt@aggTrade", "market"),
        ("btcusdt@markPrice@1s", "market"),
        ("!markPrice@arr@1s", "market"),
        ("测试usdt@kline_1m", "market"),
        ("tradingSession", "market"),
    ],
)
def test_um_streams_have_the_route_of_the_reference(name: str, route: str) -> None:
    """Each um stream is served on one route only, and on spot there are none."""
    assert is_possible(name)
    assert route_of("um", name) == route
    assert serves("um", route, name)
    assert not serves("um", "private", name)
    assert serves("um", "", name) == (route == "public")
    assert serves("spot", "", name)


@pytest.mark.parametrize("name", ["@@@x###", "btcusdt", "btcusdt@", "@depth", "btc usdt@depth", "", "a@b/c@d"])
def test_impossible_names_are_told_from_unknown_ones(name: str) -> None:
    """A name that no stream can have is recognised by its form."""
    assert not is_possible(name)


def test_addresses_are_read_as_the_exchange_reads_them() -> None:
    """Route, wrapping and initial streams come from path and query, percent-encoded or not."""
    raw = parse_address("um", "/public/ws/btcusdt@depth/ethusdt%40depth")
    assert raw is not None
    assert (raw.route, raw.combined, raw.names) == ("public", False, ["btcusdt@depth", "ethusdt@depth"])
    combined = parse_address("spot", "/stream?streams=btcusdt%40trade/ethusdt@trade&timeUnit=MICROSECOND")
    assert combined is not None
    assert (combined.route, combined.combined, combined.names) == ("", True, ["btcusdt@trade", "ethusdt@trade"])
    assert parse_address("spot", "/public/ws") is None
    assert parse_address("um", "/") is None


_EXPECTED = "expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


@pytest.mark.parametrize(
    ("text", "code", "msg"),
    [
        ('{"method":"GET_PROPERTY","params":["colour"],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1, "Invalid value type: expected Boolean"),
        (
            '{"method":"SET_PROPERTY","params":[1,true],"id":1}',
            2,
            "Invalid request: property name must be a string",
        ),
        ('{"method":"LIST_SUBSCRIPTIONS"}', 2, "Invalid request: request ID must be an unsigned integer"),
        ('{"method":"LIST_SUBSCRIPTIONS","id":-1}', 2, "Invalid request: request ID must be an unsigned integer"),
        (
            '{"method":"SUBSCRIB","id":1}',
            2,
            f"Invalid request: unknown variant SUBSCRIB, {_EXPECTED} at line 1 column 20",
        ),
        ('{"method":"GET_PROPERTY","params":["combined",1],"id":1}', 2, "Invalid request: too many parameters"),
        ('{"params":["a@b"],"id":1}', 2, "Invalid request: missing field `method` at line 1 column 25"),
        ("{nonsense", 3, "Invalid JSON: expected value at line 1 column 2"),
        ('{"method":"SUBSCRIBE","params":["@@@x###"],"id":1}', 2, "Invalid request: invalid stream"),
    ],
)
def test_errors_have_the_documented_texts(text: str, code: int, msg: str) -> None:
    """Each documented mistake gets its code and text, in both shapes."""
    refusal = parse("um", text)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.msg) == (code, msg)
    assert json.loads(refusal.to_text()) == {"error": {"code": code, "msg": msg}, "id": refusal.id}
    assert json.loads(refusal.to_text(flat=True)) == {"code": code, "msg": msg, "id": refusal.id}


def test_spot_takes_ids_that_um_refuses() -> None:
    """Spot ids are signed numbers, short texts or null."""
    for request_id in ("abc1", None, -5):
        text = json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": request_id})
        assert parse("spot", text) == Request("LIST_SUBSCRIPTIONS", request_id)
        assert isinstance(parse("um", text), Refusal)
    assert result(None, 5) == '{"result":null,"id":5}'


def test_websocket_frames_have_the_three_lengths() -> None:
    """A server's frame is unmasked, with a length of 7, 16 or 64 bits."""
    assert text_frame(b"x" * 125) == b"\x81\x7d" + b"x" * 125
    assert text_frame(b"x" * 126)[:4] == b"\x81\x7e\x00\x7e"
    assert text_frame(b"x" * 65_536)[:10] == b"\x81\x7f" + (65_536).to_bytes(8, "big")
    assert close_frame(1008, "no") == b"\x88\x04\x03\xf0no"


_FORCE = b'{"e":"forceOrder","E":1790526541102,"o":{"s":"BTCUSDT","S":"SELL","T":1790526540400,"ps":"BTCUSDT","st":1}}'


@pytest.mark.parametrize(
    ("how", "payload", "altered"),
    [
        ("blanks", b'{"E":1,"b":[["1","2"]]}', b'{"E": 1, "b": [["1", "2"]]}'),
        ("unknown_key", b'{"E":1}', b'{"E":1,"zz":"new"}'),
        ("empty_levels", b'{"u":1,"b":[["1","2"],["3","4"]],"a":[["5","6"]]}', b'{"u":1,"b":[],"a":[]}'),
        ("earlier_time", b'{"E":1790526541102}', b'{"E":1790526536102}'),
        (
            "pair_outside",
            _FORCE,
            b'{"e":"forceOrder","E":1790526541102,"o":{"s":"BTCUSDT","S":"SELL","T":1790526540400},"ps":"BTCUSDT","st":1}',
        ),
    ],
)
def test_alterations_stay_valid_json(how: str, payload: bytes, altered: bytes) -> None:
    """Each way to alter a frame gives the form that the exchange was seen to send."""
    assert ALTERATIONS[how](payload) == altered
    json.loads(altered)


class _Receiver:
    combined = False

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def push(self, frame: bytes, records: bytearray | None, at_bytes: int) -> bool:
        self.got.append(frame[2:])
        return True


def test_the_sent_record_tells_what_befell_each_frame() -> None:
    """A skipped frame has no delivery, a repeated one goes twice, a reordered one late; each keeps its place."""
    stream, receiver = ExchangeStream("um", "btcusdt@aggTrade", keeps_record=True), _Receiver()
    stream.subscribers.append(receiver)
    for plan in (Plan("skip", 1, where="2"), Plan("repeat", 1, where="3"), Plan("reorder", 1, where="4")):
        stream.plan(plan)
    payloads = [b"1", b"2", b"3", b"4", b"5", b"6"]
    for payload in payloads:
        stream.publish(payload)
    assert receiver.got == [b"1", b"3", b"3", b"5", b"4", b"6"]
    assert stream.records is not None
    records = sent.unpack(bytes(stream.records))
    assert [record.digest for record in records] == [sent.digest(payload) for payload in payloads]
    assert [record.deliveries for record in records] == [1, 0, 1, 1, 1, 1]
    assert [record.flags for record in records] == [0, sent.SKIPPED, sent.REPEATED, sent.REORDERED, 0, 0]


def test_frames_that_nobody_gets_are_recorded_too() -> None:
    """A stream goes on without subscribers and in silence, and the record knows what was missed."""
    stream, receiver = ExchangeStream("um", "btcusdt@aggTrade", keeps_record=True), _Receiver()
    stream.publish(b"1")
    stream.subscribers.append(receiver)
    stream.is_silent = True
    stream.publish(b"2")
    stream.is_silent = False
    stream.publish(b"3")
    assert stream.records is not None
    assert [record.deliveries for record in sent.unpack(bytes(stream.records))] == [0, 0, 1]
    assert receiver.got == [b"3"]
