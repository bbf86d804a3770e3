"""The faults of the simulated exchange that last until they are taken back, over real sockets, and its spans."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import ClientConnection

from tests.exchange_socket import ask, close_code, following, is_silent, opened
from tests.sims.exchange.client import Exchange, ExchangeError
from tests.sims.exchange.spans import Span

DEPTH = "btcusdt@depth20@100ms"
TRADES = "btcusdt@aggTrade"


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    """One exchange at ten times the real pace; each test takes its faults back."""
    with Exchange.started("--rate", "10", "--acks", "early") as it:
        yield it
        assert "Traceback" not in it.log()


def public(exchange: Exchange, *names: str) -> ClientConnection:
    return opened(f"{exchange.um_ws}/public/stream?streams={'/'.join(names)}")


def number_of(exchange: Exchange) -> int:
    """The youngest connection's number."""
    return max(int(connection["id"]) for connection in exchange.state()["connections"])


def drained(ws: ClientConnection) -> None:
    """Reads until nothing comes."""
    while not is_silent(ws, 0.3):
        pass


# -- the network -------------------------------------------------------------------------------------------------------


def test_latency_delays_data_alone_and_never_reorders(exchange: Exchange) -> None:
    """Data comes late, with its event time as it was and in order; replies do not wait; taken back, it is over."""
    with public(exchange, DEPTH) as ws:
        following(ws)
        number = number_of(exchange)
        exchange.fault("latency", seconds=0.4, jitter_s=0.2, connection=number)
        ask(ws, "LIST_SUBSCRIPTIONS")
        books = [following(ws)["data"] for _ in range(80)]
        assert _age_ms(books[-1]) >= 400
        assert all(after["pu"] == before["u"] for before, after in itertools.pairwise(books))
        assert exchange.sent("um", DEPTH)[-1].deliveries == 0
        exchange.fault("latency", seconds=0, connection=number)
        late = len(exchange.sent("um", DEPTH))
        time.sleep(0.7)
        records = exchange.sent("um", DEPTH)
        assert {one.deliveries for one in records[late - 10 :]} == {1}


def test_new_connections_are_as_late_as_the_network(exchange: Exchange) -> None:
    """Latency of a market and route holds for connections that open later, until it is 0; other routes are not late."""
    exchange.fault("latency", seconds=0.5, market="um", route="public")
    with public(exchange, DEPTH) as late, opened(f"{exchange.um_ws}/market/stream?streams={TRADES}") as other:
        assert _age_ms(following(late)["data"]) >= 500
        following(other)
        assert [one.deliveries for one in exchange.sent("um", DEPTH)][-1] == 0
        assert exchange.sent("um", TRADES)[-1].deliveries == 1
    exchange.fault("latency", seconds=0)
    with public(exchange, DEPTH) as ws:
        following(ws)
        assert exchange.sent("um", DEPTH)[-1].deliveries == 1


def _age_ms(payload: Any) -> float:
    """How long ago a payload that just came was sent."""
    return float(time.time() * 1_000 - payload["E"])


def test_rest_answers_late(exchange: Exchange) -> None:
    """The answer is made in the middle of the delay, or where the test wants it."""
    url = exchange.http + "/fapi/v1/time"
    for before in (0.5, 1.0):
        exchange.fault("rest_latency", seconds=0.3, before=before, market="um")
        asked_ms = time.time_ns() // 1_000_000
        server_ms = _get(url)["serverTime"]
        assert server_ms - asked_ms >= 300 * before - 1
        assert time.time_ns() // 1_000_000 - server_ms >= 300 * (1 - before) - 1
    exchange.fault("rest_latency", seconds=0)


def test_dead_connections_get_replies_and_no_data(exchange: Exchange) -> None:
    """A dead connection answers, subscribes and delivers nothing; a new one is well."""
    with public(exchange, DEPTH) as ws:
        following(ws)
        assert exchange.fault("dead", connection=number_of(exchange))["connections"]
        drained(ws)
        assert ask(ws, "SUBSCRIBE", ["ethusdt@bookTicker"]) == {"result": None, "id": 1}
        assert is_silent(ws)
        with public(exchange, DEPTH) as new:
            following(new)


def test_one_connection_may_lose_one_stream_until_it_subscribes_anew(exchange: Exchange) -> None:
    """Its other streams and other connections go on; SUBSCRIBE brings it back, unless the silence is sticky."""
    other_name = "ethusdt@depth20@100ms"
    with public(exchange, DEPTH, other_name) as other, public(exchange, DEPTH, other_name) as ws:
        following(ws)
        number = number_of(exchange)
        for sticky in (False, True):
            exchange.fault("silence", streams=[DEPTH], connection=number, sticky=sticky)
            assert _names(ws, 30) == {other_name}
            assert ask(ws, "LIST_SUBSCRIPTIONS")["result"] == [DEPTH, other_name]
            assert following(other, lambda frame: frame["stream"] == DEPTH)
            ask(ws, "SUBSCRIBE", [DEPTH])
            assert _names(ws, 30) == ({other_name} if sticky else {DEPTH, other_name})
        exchange.fault("speak", streams=[DEPTH], connection=number)
        assert DEPTH in _names(ws, 30)


def _names(ws: ClientConnection, count: int) -> set[str]:
    """The streams of the next frames that the exchange makes: a reply comes behind all that it has made."""
    ask(ws, "GET_PROPERTY", ["combined"])
    return {following(ws)["stream"] for _ in range(count)}


# -- the exchange ------------------------------------------------------------------------------------------------------


def test_each_market_has_a_clock_that_can_be_wrong(exchange: Exchange) -> None:
    """Event times and REST move by the offset, those of the other market and the sent record do not."""
    exchange.fault("clock", offset_s=-3_600, market="um")
    with public(exchange, DEPTH) as ws:
        assert following(ws)["data"]["E"] - time.time() * 1_000 < -3_500_000
    assert _get(exchange.http + "/fapi/v1/time")["serverTime"] - time.time() * 1_000 < -3_500_000
    assert abs(_get(exchange.http + "/api/v3/time")["serverTime"] - time.time() * 1_000) < 60_000
    assert abs(exchange.sent("um", DEPTH)[-1].sent_ns - time.time_ns()) < 60e9
    exchange.fault("clock", offset_s=0)
    assert abs(_get(exchange.http + "/fapi/v1/time")["serverTime"] - time.time() * 1_000) < 60_000


def test_symbols_are_listed_while_it_runs(exchange: Exchange) -> None:
    """A new symbol stands in exchangeInfo as it was listed, and its streams flow, also those subscribed before."""
    name = "newusdt@depth20@100ms"
    with public(exchange, name) as ws:
        assert is_silent(ws)
        exchange.fault("list", symbol="NEWUSDT", status="PENDING_TRADING")
        assert _listed(exchange, "um")["NEWUSDT"]["status"] == "PENDING_TRADING"
        assert is_silent(ws)
        exchange.fault("list", symbol="NEWUSDT")
        assert following(ws)["data"]["s"] == "NEWUSDT"
    row = _listed(exchange, "um")["NEWUSDT"]
    assert (row["status"], row["contractType"], row["baseAsset"], row["quoteAsset"]) == (
        "TRADING", "PERPETUAL", "NEW", "USDT",
    )  # fmt: skip
    assert abs(row["onboardDate"] - time.time() * 1_000) < 60_000
    assert "NEWUSDT" not in _listed(exchange, "spot")
    exchange.fault("list", symbols=["TSLAUSDT"], contract_type="TRADIFI_PERPETUAL")
    exchange.fault("list", symbols=["BTCUSDT_261225"], contract_type="CURRENT_QUARTER")
    rows = _listed(exchange, "um")
    assert (rows["TSLAUSDT"]["contractType"], rows["TSLAUSDT"]["underlyingType"]) == ("TRADIFI_PERPETUAL", "EQUITY")
    quarter = rows["BTCUSDT_261225"]
    assert (quarter["pair"], quarter["baseAsset"], quarter["deliveryDate"]) == ("BTCUSDT", "BTC", 1_798_185_600_000)


@pytest.mark.parametrize(("market", "status"), [("um", "SETTLING"), ("spot", "BREAK")])
def test_symbols_are_delisted_while_it_runs(exchange: Exchange, market: str, status: str) -> None:
    """First the status changes and the streams go silent, making no frames; then it is gone; and it can come back."""
    exchange.fault("list", market=market, symbol="OLDUSDT")
    name = "oldusdt@depth20@100ms"
    base = exchange.um_ws + "/public" if market == "um" else exchange.spot_ws
    with opened(f"{base}/stream?streams={name}/{DEPTH}") as ws:
        following(ws, lambda frame: frame["stream"] == name)
        exchange.fault("delist", market=market, symbol="OLDUSDT")
        assert _listed(exchange, market)["OLDUSDT"]["status"] == status
        made = len(exchange.sent(market, name))
        exchange.fault("delist", market=market, symbols=["OLDUSDT"], gone=True)
        assert "OLDUSDT" not in _listed(exchange, market)
        assert ask(ws, "LIST_SUBSCRIPTIONS")["result"] == [name, DEPTH]
        assert _names(ws, 30) == {DEPTH}
        assert len(exchange.sent(market, name)) == made
        assert exchange.spans(market, name)[-1].to_ns
        exchange.fault("list", market=market, symbol="OLDUSDT")
        following(ws, lambda frame: frame["stream"] == name)


def test_a_halt_ends_by_itself(exchange: Exchange) -> None:
    """The status says so, nothing comes, and then both are as before."""
    with public(exchange, DEPTH) as ws:
        following(ws)
        exchange.fault("halt", symbols=["BTCUSDT"], seconds=0.6)
        assert _listed(exchange, "um")["BTCUSDT"]["status"] == "TRADING_HALT"
        drained(ws)
        following(ws)
        assert _listed(exchange, "um")["BTCUSDT"]["status"] == "TRADING"


def test_spot_symbols_can_be_asked_for_by_status(exchange: Exchange) -> None:
    """`symbolStatus` filters, and an unknown one is an error."""
    exchange.fault("list", market="spot", symbol="BROKENUSDC", status="BREAK")
    url = exchange.http + "/api/v3/exchangeInfo?symbolStatus="
    assert [(row["symbol"], row["quoteAsset"]) for row in _get(url + "BREAK")["symbols"]] == [("BROKENUSDC", "USDC")]
    assert {row["status"] for row in _get(url + "TRADING")["symbols"]} == {"TRADING"}


def test_client_pings_may_stay_without_an_answer(exchange: Exchange) -> None:
    """Data goes on, no pong comes; then pongs come again."""
    with public(exchange, DEPTH) as ws:
        exchange.fault("pongs", answers=False, market="um")
        unanswered = ws.ping()
        for _ in range(30):
            following(ws)
        assert not unanswered.is_set()
        exchange.fault("pongs", answers=True)
        answered = ws.ping()
        following(ws, lambda _: answered.is_set())


@pytest.mark.parametrize(("how", "code"), [("close", 1001), ("rst", 1006)])
def test_the_greatest_age_can_change(exchange: Exchange, how: str, code: int) -> None:
    """Connections of the market that are older are cut, in the way that was asked for; null gives the old age back."""
    with opened(exchange.um_ws + "/ws") as ws, opened(exchange.spot_ws + "/ws") as other:
        exchange.fault("max_age", seconds=0.2, market="um", how=how)
        assert close_code(ws) == code
        exchange.fault("max_age", seconds=None)
        with opened(exchange.um_ws + "/ws") as young:
            assert is_silent(young, 0.6)
        assert ask(other, "LIST_SUBSCRIPTIONS")["result"] == []


def test_streams_move_to_another_route(exchange: Exchange) -> None:
    """From then on they are silent where they were, subscribed or not, and flow on the other route alone."""
    with public(exchange, DEPTH) as ws, opened(exchange.um_ws + "/market/stream") as other:
        following(ws)
        ask(other, "SUBSCRIBE", [DEPTH])
        exchange.fault("reroute", suffix="depth20@100ms", route="market")
        drained(ws)
        assert ask(ws, "SUBSCRIBE", ["ethusdt@depth20@100ms"]) == {"result": None, "id": 1}
        assert is_silent(ws)
        assert following(other)["stream"] == DEPTH
        exchange.fault("reroute", suffix="depth20@100ms", route=None)
        assert _names(ws, 30) == {DEPTH, "ethusdt@depth20@100ms"}
        drained(other)


def test_wrong_details_are_refused_and_named(exchange: Exchange) -> None:
    """Each makes no sense, says so, and does nothing."""
    for kind, details, part in (
        ("latency", {"seconds": -1}, "must not be negative"),
        ("latency", {"seconds": 1, "market": "cm"}, "cm"),
        ("delist", {"symbol": "NOSUCH"}, "NOSUCH"),
        ("list", {"symbol": "XUSDT", "status": "SLEEPING"}, "SLEEPING"),
        ("list", {"symbols": []}, "symbols"),
        ("max_age", {"seconds": 1, "how": "gently"}, "gently"),
        ("silence", {"streams": [DEPTH], "sticky": True}, "connection"),
        ("pongs", {}, "answers is missing"),
    ):
        with pytest.raises(ExchangeError, match=part):
            exchange.fault(kind, **details)


# -- spans -------------------------------------------------------------------------------------------------------------


def _unsubscribe(exchange: Exchange, ws: ClientConnection, number: int) -> None:
    ask(ws, "UNSUBSCRIBE", [DEPTH])


def _silence(exchange: Exchange, ws: ClientConnection, number: int) -> None:
    exchange.fault("silence", streams=[DEPTH])
    time.sleep(0.1)
    exchange.fault("speak", streams=[DEPTH])


def _fault(kind: str, **details: Any) -> Callable[[Exchange, ClientConnection, int], None]:
    def call(exchange: Exchange, ws: ClientConnection, number: int) -> None:
        exchange.fault(kind, connection=number, **details)

    return call


def _cut_while(kind: str, **details: Any) -> Callable[[Exchange, ClientConnection, int], None]:
    def call(exchange: Exchange, ws: ClientConnection, number: int) -> None:
        exchange.fault(kind, connection=number, **details)
        time.sleep(0.3)
        exchange.fault("cut", connection=number, how="rst")

    return call


def _stall(exchange: Exchange, ws: ClientConnection, number: int) -> None:
    exchange.fault("stall", connection=number, seconds=0.2)
    time.sleep(0.1)
    following(ws, lambda frame: frame["data"]["E"] > time.time() * 1_000 - 50)


def _halt(exchange: Exchange, ws: ClientConnection, number: int) -> None:
    exchange.fault("halt", symbols=["BTCUSDT"], seconds=0.1)
    time.sleep(0.2)


def _reroute(exchange: Exchange, ws: ClientConnection, number: int) -> None:
    exchange.fault("reroute", streams=[DEPTH], route="market")
    time.sleep(0.1)
    exchange.fault("reroute", streams=[DEPTH], route=None)


@pytest.mark.parametrize(
    ("befall", "spans"),
    [
        pytest.param(_unsubscribe, 1, id="unsubscribed"),
        pytest.param(_silence, 2, id="silent-for-all"),
        pytest.param(_fault("silence", streams=[DEPTH]), 1, id="silent-for-one"),
        pytest.param(_fault("dead"), 1, id="dead"),
        pytest.param(_fault("cut", how="half_open"), 1, id="half-open"),
        pytest.param(_fault("cut", how="fin"), 1, id="cut"),
        pytest.param(_cut_while("stall", seconds=60), 1, id="stalled-and-cut"),
        pytest.param(_cut_while("latency", seconds=0.2), 1, id="late-and-cut"),
        pytest.param(_stall, 1, id="stalled-and-on"),
        pytest.param(_halt, 2, id="halted"),
        pytest.param(_reroute, 2, id="rerouted"),
    ],
)
def test_spans_hold_exactly_the_frames_that_were_delivered(
    exchange: Exchange, befall: Callable[[Exchange, ClientConnection, int], None], spans: int
) -> None:
    """Whatever happens: a frame went out on as many connections as there are spans around its time of sending."""
    with public(exchange, DEPTH) as ws:
        following(ws)
        number = number_of(exchange)
        befall(exchange, ws, number)
        time.sleep(0.1)
    mine = _ended_spans(exchange, number)
    assert len(mine) == spans
    assert len(mine) == len([one for one in exchange.spans("um", DEPTH) if one.connection == number])
    everything = exchange.spans("um", DEPTH)
    for frame in exchange.sent("um", DEPTH):
        around = [one for one in everything if one.from_ns <= frame.sent_ns < (one.to_ns or frame.sent_ns + 1)]
        assert frame.deliveries == len(around), (frame, around)


def _ended_spans(exchange: Exchange, number: int) -> list[Span]:
    """A connection's spans of DEPTH, when all of them have ended."""
    exchange.wait_for(lambda state: number not in [one["id"] for one in state["connections"]])
    found = [one for one in exchange.spans("um", DEPTH) if one.connection == number]
    assert all(one.to_ns is not None and one.from_ns < one.to_ns for one in found)
    return found


def test_a_market_tells_all_its_spans(exchange: Exchange) -> None:
    """`GET /control/spans` has each stream that anybody was ever served with, and a lasting span has no end."""
    with public(exchange, DEPTH) as ws:
        following(ws)
        number = number_of(exchange)
        told = _get(exchange.http + "/control/spans?market=um")["spans"]
        assert [number, None] in [[span[0], span[2]] for span in told[DEPTH]]
        assert exchange.spans("um", DEPTH)[-1].to_ns is None
        assert exchange.spans("um", "nosuchusdt@aggTrade") == []


def _get(url: str) -> Any:
    with urlopen(url, timeout=5) as response:
        return json.load(response)


def _listed(exchange: Exchange, market: str) -> dict[str, Any]:
    """Symbol to its row in exchangeInfo."""
    path = "/fapi/v1/exchangeInfo" if market == "um" else "/api/v3/exchangeInfo"
    return {row["symbol"]: row for row in _get(exchange.http + path)["symbols"]}
