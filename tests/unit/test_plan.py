"""Which stream goes over which connection."""

import msgspec
import pytest

from common.settings import IngestSettings, Settings
from common.streams import Stream
from ingest.plan import MESSAGE_BYTES, NAMES_PER_MESSAGE, plans, recorded, subscriptions


def settings(**changes: object) -> Settings:
    return msgspec.structs.replace(Settings(), **changes)


def test_each_stream_has_its_own_route() -> None:
    """USD-M depth goes to /public, trades and marks to /market; spot has one route; nothing is asked for twice."""
    found = plans(settings(markets=["um", "spot"], channels=["depth20", "aggTrade", "markPrice"], symbols=["BTCUSDT"]))
    assert [(plan.url.rpartition("binance.com")[2], [stream.channel for stream in plan.streams]) for plan in found] == [
        ("/public/stream", ["depth20"]),
        ("/market/stream", ["aggTrade", "markPrice"]),
        (":9443/stream", ["depth20", "aggTrade"]),
    ]


def test_a_channel_that_a_market_lacks_is_left_out_there() -> None:
    """Spot has no markPrice and no forceOrder."""
    streams = recorded(settings(markets=["spot"], channels=["depth20", "markPrice", "forceOrder"]))
    assert {stream.channel for stream in streams} == {"depth20"}


@pytest.mark.parametrize("count", [1, 200, 201, 500, 1000])
def test_limits_are_kept_for_any_number_of_symbols(count: int) -> None:
    """At most 200 streams a connection, parts of nearly the same size, every stream once."""
    symbols = [f"S{number}USDT" for number in range(count)]
    found = plans(settings(symbols=symbols, channels=["depth20"], ingest=IngestSettings(streams_per_connection=200)))
    sizes = [len(plan.streams) for plan in found]
    assert max(sizes) <= 200
    assert max(sizes) - min(sizes) <= 1
    assert sorted(stream.symbol for plan in found for stream in plan.streams) == sorted(symbols)


def test_subscriptions_are_small_enough_to_be_answered() -> None:
    """Each message has at most 100 names and 4,000 bytes, non-ASCII symbols included, and together they name all."""
    streams = [
        Stream("um", "depth20", symbol) for symbol in [f"1000000VERYLONG{n}USDT" for n in range(500)] + ["测试USDT"]
    ]
    messages = subscriptions(streams)
    named = []
    for number, (message, part) in enumerate(messages, 1):
        text = msgspec.json.decode(message)
        assert len(message) <= MESSAGE_BYTES
        assert len(text["params"]) <= NAMES_PER_MESSAGE
        assert (text["method"], text["id"]) == ("SUBSCRIBE", number)
        assert text["params"] == [stream.exchange_name for stream in part]
        named += part
    assert named == streams
