"""The simulated exchange over real sockets: each behaviour of the protocol, each fault, and the sent record."""

import base64
import itertools
import json
import os
import signal
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import trustme
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.exchange_socket import ask, close_code, following, is_silent, opened, reply, touch
from tests.sims.exchange.client import Exchange, ExchangeError
from tests.sims.exchange.sent import ALTERED, INJECTED, REORDERED, REPEATED, SKIPPED

DATA = Path(__file__).parents[2] / "../shared/data"
DEPTH = "btcusdt@depth20@100ms"


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    """One exchange at ten times the real pace, for the tests that leave it as it was."""
    with Exchange.started(
        "--rate", "10", "--acks", "early", "--ban-s", "0.3", "--symbols", "BTCUSDT,ETHUSDT,测试USDT"
    ) as it:
        yield it
        assert "Traceback" not in it.log()


# -- routes and subscriptions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "name", "flows"),
    [
        ("/public", DEPTH, True),
        ("/market", DEPTH, False),
        ("/market", "btcusdt@aggTrade", True),
        ("/public", "btcusdt@aggTrade", False),
        ("/private", DEPTH, False),
        ("", DEPTH, True),
        ("", "btcusdt@aggTrade", False),
        ("/public", "nosuchusdt@depth20@100ms", False),
        ("/public", "测试usdt@depth20@100ms", True),
    ],
)
def test_a_stream_flows_only_on_its_route(exchange: Exchange, route: str, name: str, flows: bool) -> None:
    """Every possible name is acknowledged and listed; only what the route serves delivers."""
    with opened(exchange.um_ws + route + "/stream") as ws:
        assert ask(ws, "SUBSCRIBE", [name]) == {"result": None, "id": 1}
        assert ask(ws, "LIST_SUBSCRIPTIONS", request_id=2) == {"result": [name], "id": 2}
        if flows:
            frame = following(ws)
            assert frame["stream"] == name
            assert frame["data"]["s"] == name.partition("@")[0].upper()
        else:
            assert is_silent(ws)


def test_streams_in_the_url_and_raw_frames(exchange: Exchange) -> None:
    """`/ws/a/b` gives bare payloads, `?streams=a/b` wrapped ones, without a control message."""
    with opened(f"{exchange.um_ws}/public/ws/{DEPTH}/ethusdt@bookTicker") as ws:
        assert {following(ws)["e"] for _ in range(40)} == {"depthUpdate", "bookTicker"}
    with opened(f"{exchange.spot_ws}/stream?streams=btcusdt@aggTrade/{DEPTH}") as ws:
        assert "lastUpdateId" in following(ws, lambda frame: frame["stream"] == DEPTH)["data"]
        assert following(ws, lambda frame: frame["stream"] == "btcusdt@aggTrade")["data"]["M"] is True


def test_the_combined_property_can_be_read_and_changed(exchange: Exchange) -> None:
    """On `/ws` frames are bare until `combined` is set."""
    with opened(f"{exchange.um_ws}/public/ws/{DEPTH}") as ws:
        assert ask(ws, "GET_PROPERTY", ["combined"], 2) == {"result": False, "id": 2}
        assert ask(ws, "SET_PROPERTY", ["combined", True], 3) == {"result": None, "id": 3}
        assert following(ws)["stream"] == DEPTH
        assert ask(ws, "GET_PROPERTY", ["combined"], 4) == {"result": True, "id": 4}


def test_unsubscribed_streams_stop_and_go_on_unseen(exchange: Exchange) -> None:
    """After UNSUBSCRIBE nothing comes, while the exchange's record grows with frames that nobody got."""
    name = "ethusdt@depth5@100ms"
    with opened(exchange.um_ws + "/public/stream") as ws:
        ask(ws, "SUBSCRIBE", [name])
        following(ws)
        assert ask(ws, "UNSUBSCRIBE", [name], 2) == {"result": None, "id": 2}
        assert is_silent(ws)
        last = exchange.sent("um", name)[-1]
        assert last.deliveries == 0
        assert exchange.sent("um", name)[0].deliveries == 1


def test_all_market_streams_are_arrays_of_both_kinds_of_futures(exchange: Exchange) -> None:
    """`!markPrice@arr@1s` carries a list with USD-M and COIN-M rows."""
    with opened(exchange.um_ws + "/market/stream?streams=!markPrice@arr@1s") as ws:
        rows = following(ws)["data"]
        assert {row["st"] for row in rows} == {1, 2}
        assert len(rows) == 4


def test_an_acknowledgement_can_come_behind_the_first_data() -> None:
    """With late acknowledgements a client gets frames of a stream before the reply to its SUBSCRIBE."""
    with Exchange.started("--acks", "late", "--rate", "20") as late, opened(late.um_ws + "/public/stream") as ws:
        ws.send(json.dumps({"method": "SUBSCRIBE", "params": [DEPTH], "id": 9}))
        assert following(ws)["stream"] == DEPTH
        assert reply(ws) == {"result": None, "id": 9}


# -- errors and limits -------------------------------------------------------------------------------------------------


def test_errors_are_nested_or_flat(exchange: Exchange) -> None:
    """The same mistake is answered in the shape that the test asked for."""
    with opened(exchange.spot_ws + "/ws") as ws:
        error = {"code": 0, "msg": "Unknown property"}
        assert ask(ws, "GET_PROPERTY", ["colour"], "a1") == {"error": error, "id": "a1"}
        exchange.fault("errors", flat=True)
        assert ask(ws, "GET_PROPERTY", ["colour"], "a1") == error | {"id": "a1"}
        exchange.fault("errors", flat=False)


def test_an_impossible_name_ends_the_connection(exchange: Exchange) -> None:
    """The error comes, then the connection is closed, whether asked by message or by URL."""
    with opened(exchange.um_ws + "/public/stream") as ws:
        reply = ask(ws, "SUBSCRIBE", ["@@@x###"])
        assert reply["error"] == {"code": 2, "msg": "Invalid request: invalid stream"}
        assert close_code(ws) == 1008
    with opened(exchange.um_ws + "/public/ws/nonsense") as ws:
        assert following(ws)["error"]["code"] == 2
        assert close_code(ws) == 1008


def test_a_long_message_is_ignored(exchange: Exchange) -> None:
    """A SUBSCRIBE above 4,096 bytes is neither answered nor carried out."""
    with opened(exchange.um_ws + "/market/stream") as ws:
        names = [f"symbol{number:03d}usdt@aggTrade" for number in range(200)]
        ws.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
        assert is_silent(ws)
        assert ask(ws, "LIST_SUBSCRIPTIONS", request_id=2) == {"result": [], "id": 2}


def test_more_than_1024_streams_are_refused(exchange: Exchange) -> None:
    """1,024 streams are taken, the next one is an error, and those before stay."""
    names = [f"s{number}@depth" for number in range(1_025)]
    with opened(exchange.um_ws + "/public/ws/" + "/".join(names[:1_024])) as ws:
        assert ask(ws, "SUBSCRIBE", names[1_024:]) == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 1}
        assert len(ask(ws, "LIST_SUBSCRIPTIONS", request_id=2)["result"]) == 1_024


@pytest.mark.parametrize(("market", "allowed"), [("um", 10), ("spot", 5)])
def test_too_many_messages_end_the_connection_and_ban_the_ip(exchange: Exchange, market: str, allowed: int) -> None:
    """Pings, pongs and messages count together; one too many in a second closes with 1008, and the IP is refused."""
    url = (exchange.um_ws if market == "um" else exchange.spot_ws) + "/ws"
    with opened(url) as ws:
        for number in range(allowed + 1):
            if number % 3 == 0:
                ws.ping()
            elif number % 3 == 1:
                ws.pong()
            else:
                ws.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        assert close_code(ws) == 1008
        assert ws.close_reason == "Too many requests"
    with pytest.raises(InvalidStatus) as refused:
        touch(url)
    assert refused.value.response.status_code == 429
    time.sleep(0.35)
    touch(url)


def test_unknown_paths_are_not_found(exchange: Exchange) -> None:
    """A path that the exchange does not have is answered 404."""
    with pytest.raises(InvalidStatus) as refused:
        touch(exchange.spot_ws + "/public/stream")
    assert refused.value.response.status_code == 404


def _shake_hands(url: str, path: str) -> socket.socket:
    """A client that answers nothing: a bare socket behind a WebSocket handshake."""
    host, _, port = url.removeprefix("ws://").partition(":")
    raw = socket.create_connection((host, int(port)), 5)
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += raw.recv(1)
    return raw


def _received(raw: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    content = b""
    while chunk := raw.recv(65_536):
        content += chunk
    return content


def test_who_does_not_answer_pings_is_cut() -> None:
    """The server pings with its time as text, and closes when no pong comes; who answers stays."""
    with Exchange.started("--ping-s", "0.1", "--pong-s", "0.4") as strict, opened(strict.um_ws + "/ws") as answering:
        with _shake_hands(strict.um_ws, "/ws") as raw:
            content = _received(raw)
        assert content[:2] == b"\x89\x0d"
        assert content[2:15].isdigit()
        assert content.endswith(b"\x88\x0e" + struct.pack(">H", 1008) + b"Pong timeout")
        assert ask(answering, "LIST_SUBSCRIPTIONS")["result"] == []


def test_a_pong_with_other_content_may_not_count() -> None:
    """With `--same-pong` an unsolicited or different pong does not keep a connection alive."""
    arguments = ("--ping-s", "0.1", "--pong-s", "0.3", "--same-pong")
    with Exchange.started(*arguments) as strict, _shake_hands(strict.um_ws, "/ws") as raw:
        raw.sendall(b"\x8a\x81\0\0\0\0x")
        assert b"Pong timeout" in _received(raw)


def test_an_old_connection_is_cut() -> None:
    """At its greatest age a connection is closed with 1001."""
    with Exchange.started("--max-age-s", "0.2") as short, opened(short.spot_ws + "/ws") as ws:
        assert close_code(ws) == 1001


def test_a_slow_reader_is_cut() -> None:
    """Who does not read is cut when more than the allowed bytes wait for it."""
    with Exchange.started("--rate", "60", "--max-buffer-mb", "0.2", "--symbol-count", "20") as busy:
        names = "/".join(
            f"{symbol}@depth20@100ms" for symbol in ("btcusdt", "ethusdt", "solusdt", "bnbusdt", "xrpusdt")
        )
        with _shake_hands(busy.um_ws, f"/public/ws/{names}"):
            busy.wait_for(lambda state: state["connections"])
            busy.wait_for(lambda state: not state["connections"], 20)
        assert "reads too slowly" in busy.log()


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "code"), [("fin", 1006), ("rst", 1006), ("close", 1001)])
def test_connections_are_cut(exchange: Exchange, how: str, code: int) -> None:
    """A cut ends exactly the connections that it names, in the way that it names."""
    with opened(exchange.um_ws + "/public/stream") as ws, opened(exchange.um_ws + "/market/stream") as other:
        ask(ws, "SUBSCRIBE", [DEPTH])
        assert len(exchange.fault("cut", how=how, market="um", route="public")["connections"]) == 1
        assert close_code(ws) == code
        assert ask(other, "LIST_SUBSCRIPTIONS")["result"] == []


def test_a_half_open_connection_is_dead_without_a_sign(exchange: Exchange) -> None:
    """Nothing comes any more, not even a reply, and the socket stays; the frames are not counted as delivered."""
    with _shake_hands(exchange.um_ws, f"/public/ws/{DEPTH}") as raw:
        assert raw.recv(10)
        exchange.fault("cut", how="half_open", stream=DEPTH)
        raw.settimeout(0.3)
        with pytest.raises(TimeoutError):
            _received(raw)
        state = exchange.state()["connections"]
        assert [connection["half_open"] for connection in state] == [True]
        assert exchange.sent("um", DEPTH)[-1].deliveries == 0


@pytest.mark.parametrize(
    ("status", "kind", "part"),
    [
        (429, "application/json", ""),
        (403, "text/html", "<HTML>"),
        (451, "application/json", '"code":0'),
        (503, "text/html", "503"),
    ],
)
def test_handshakes_are_refused(exchange: Exchange, status: int, kind: str, part: str) -> None:
    """The next handshakes are answered with a status and its body, and then no more."""
    exchange.fault("handshake", status=status, n=2, retry_after=7)
    for _ in range(2):
        with pytest.raises(InvalidStatus) as refused:
            touch(exchange.um_ws + "/public/stream")
        response = refused.value.response
        assert (response.status_code, response.headers["Content-Type"], response.headers["Retry-After"]) == (
            status,
            kind,
            "7",
        )
        assert part in (response.body or b"").decode()
    touch(exchange.um_ws + "/public/stream")


def test_a_handshake_answer_may_claim_a_body_that_never_comes(exchange: Exchange) -> None:
    """With a false Content-Length the connection stays open, and the client waits in vain."""
    exchange.fault("handshake", status=403, body="<html>", content_length=10_000)
    with _shake_hands(exchange.um_ws, "/ws") as raw:
        raw.settimeout(0.2)
        assert raw.recv(100) == b"<html>"
        with pytest.raises(TimeoutError):
            raw.recv(100)


def test_connections_are_refused(exchange: Exchange) -> None:
    """`refuse` resets the next handshakes; with `seconds` nobody listens for so long."""
    exchange.fault("handshake", refuse=True)
    with pytest.raises((ConnectionResetError, InvalidMessage)):
        touch(exchange.um_ws + "/ws")
    exchange.fault("handshake", refuse=True, seconds=0.3, market="um")
    with pytest.raises(ConnectionRefusedError):
        touch(exchange.um_ws + "/ws")
    touch(exchange.spot_ws + "/ws")
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        try:
            touch(exchange.um_ws + "/ws")
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    pytest.fail("the port did not open again")


def test_a_stall_ends_in_a_burst(exchange: Exchange) -> None:
    """During a stall nothing comes, and then everything, in order."""
    with opened(f"{exchange.um_ws}/public/stream?streams={DEPTH}") as ws:
        before = following(ws)["data"]["u"]
        exchange.fault("stall", seconds=0.5)
        while not is_silent(ws, 0.2):
            pass
        frames = [following(ws) for _ in range(30)]
        ids = [(frame["data"]["pu"], frame["data"]["u"]) for frame in frames]
        assert all(after[0] == previous[1] for previous, after in itertools.pairwise(ids))
        assert ids[0][0] >= before


def test_a_silent_stream_lives_on_without_data(exchange: Exchange) -> None:
    """Silence stops the data of the named streams alone; the ids go on, so that the loss shows afterwards."""
    quiet = "ethusdt@depth20@100ms"
    with opened(f"{exchange.um_ws}/public/stream?streams={DEPTH}/{quiet}") as ws:
        last = following(ws, lambda frame: frame["stream"] == quiet)["data"]["u"]
        exchange.fault("silence", market="um", streams=[quiet])
        assert ask(ws, "LIST_SUBSCRIPTIONS")["result"] == [DEPTH, quiet]
        last = max([last, *_ids_until_silent(ws, quiet)])
        exchange.fault("speak", market="um", streams=[quiet])
        assert following(ws, lambda frame: frame["stream"] == quiet)["data"]["pu"] > last


def _ids_until_silent(ws: ClientConnection, name: str) -> list[int]:
    """The ids of the frames that were still on their way, until 20 frames of other streams went by."""
    ids, others = [], 0
    while others < 20:
        frame = following(ws)
        if frame["stream"] == name:
            ids.append(frame["data"]["u"])
            others = 0
        else:
            others += 1
    return ids


def test_injected_frames_come_as_they_are(exchange: Exchange) -> None:
    """Wrapped ones are recorded under their stream; raw ones are whatever bytes the test sends."""
    with opened(exchange.um_ws + "/market/stream?streams=btcusdt@forceOrder") as ws:
        exchange.fault("inject", stream="btcusdt@forceOrder", payload='{"e":"forceOrder"')
        assert ws.recv(timeout=5) == '{"stream":"btcusdt@forceOrder","data":{"e":"forceOrder"}'
        record = exchange.sent("um", "btcusdt@forceOrder")[-1]
        assert (record.flags, record.deliveries, record.digest) == (INJECTED, 1, Exchange.digest(b'{"e":"forceOrder"'))
        exchange.fault(
            "inject", wrap=False, payload_b64=base64.b64encode(b"\xff\x00").decode(), binary=True, route="market"
        )
        assert ws.recv(timeout=5) == b"\xff\x00"
        exchange.fault("inject", stream="newusdt@newKind", payload='{"a":\n1}')
        assert ws.recv(timeout=5) == '{"stream":"newusdt@newKind","data":{"a":\n1}}'
        exchange.fault("inject", stream="btcusdt@forceOrder", payload="x" * 10_000_000)
        assert len(ws.recv(timeout=10)) > 10_000_000


def test_single_frames_are_skipped_repeated_reordered_and_altered(exchange: Exchange) -> None:
    """Each fault befalls as many frames as asked, and the record tells which."""
    name = "ethusdt@depth10@100ms"
    with opened(f"{exchange.um_ws}/public/stream?streams={name}") as ws:
        for kind in ("skip", "repeat", "reorder"):
            exchange.fault(kind, market="um", stream=name, n=2)
        exchange.fault("alter", market="um", stream=name, how="unknown_key", n=1)
        following(ws, lambda frame: "zz" in frame["data"])
        following(ws)
        flags = [record.flags for record in exchange.sent("um", name)]
    for flag, count in ((SKIPPED, 2), (REPEATED, 2), (REORDERED, 2), (ALTERED, 1)):
        assert flags.count(flag) == count


@pytest.mark.parametrize("market", ["um", "spot"])
def test_a_market_says_that_it_shuts_down(exchange: Exchange, market: str) -> None:
    """serverShutdown comes without a subscription, raw on `/ws` and wrapped on `/stream`, to the market meant."""
    url, other_url = (exchange.um_ws, exchange.spot_ws) if market == "um" else (exchange.spot_ws, exchange.um_ws)
    with opened(url + "/ws") as raw, opened(url + "/stream") as wrapped, opened(other_url + "/ws") as other:
        assert len(exchange.fault("server_shutdown", market=market, cut_after_s=0.05)["connections"]) == 2
        assert following(raw)["e"] == "serverShutdown"
        frame = following(wrapped)
        assert (frame["stream"], frame["data"]["e"]) == ("!serverShutdown", "serverShutdown")
        assert close_code(raw) == 1006
        assert is_silent(other)
        assert exchange.fault("server_shutdown")["connections"]
        assert following(other)["e"] == "serverShutdown"


def test_wrong_faults_are_refused_and_named(exchange: Exchange) -> None:
    """An unknown kind, a misspelt detail or a wrong type is an error that says so, and does nothing."""
    for kind, details, part in (
        ("explode", {}, "explode"),
        ("cut", {"hwo": "rst"}, "hwo"),
        ("stall", {"seconds": "1"}, "seconds"),
        ("stall", {}, "seconds is missing"),
        ("alter", {"stream": DEPTH, "how": "upside_down"}, "upside_down"),
        ("skip", {"stream": "nosuch@depth"}, "nosuch@depth"),
    ):
        with pytest.raises(ExchangeError, match=part):
            exchange.fault(kind, **details)


# -- the record --------------------------------------------------------------------------------------------------------


def test_what_was_delivered_is_in_the_record_byte_for_byte(exchange: Exchange) -> None:
    """Every payload that a client got stands in the record, in order, and as often as it went out."""
    name = "btcusdt@depth5@100ms"
    with (
        opened(f"{exchange.um_ws}/public/ws/{name}") as one,
        opened(f"{exchange.um_ws}/public/stream?streams={name}") as two,
    ):
        bare = [str(one.recv(timeout=5)).encode() for _ in range(20)]
        wrapped = [str(two.recv(timeout=5)).encode() for _ in range(20)]
        records = exchange.sent("um", name)
    prefix = f'{{"stream":"{name}","data":'.encode()
    digests = [record.digest for record in records]
    for payloads in (bare, [frame.removeprefix(prefix)[:-1] for frame in wrapped]):
        at = digests.index(Exchange.digest(payloads[0]))
        assert digests[at : at + 20] == [Exchange.digest(payload) for payload in payloads]
    assert max(record.deliveries for record in records) == 2
    assert all(before.sent_ns <= after.sent_ns for before, after in itertools.pairwise(records))
    assert Exchange.attached(exchange.http).streams("um")[name]["frames"] >= len(records)


# -- REST --------------------------------------------------------------------------------------------------------------


def _get(url: str) -> tuple[int, Any, Any]:
    try:
        with urlopen(Request(url), timeout=5) as response:
            return response.status, response.headers, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


@pytest.mark.parametrize(("base", "limit"), [("/fapi/v1", 2_400), ("/api/v3", 6_000)])
def test_rest_answers_with_the_weight_used(exchange: Exchange, base: str, limit: int) -> None:
    """Ping, time and exchangeInfo answer as documented, and the header counts."""
    status, headers, body = _get(exchange.http + base + "/ping")
    assert (status, body) == (200, "{}")
    used = int(headers["X-MBX-USED-WEIGHT-1M"])
    status, headers, body = _get(exchange.http + base + "/time")
    assert abs(json.loads(body)["serverTime"] - time.time() * 1_000) < 60_000
    assert int(headers["X-MBX-USED-WEIGHT-1M"]) in (used + 1, 1)
    info = json.loads(_get(exchange.http + base + "/exchangeInfo")[2])
    assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "ETHUSDT", "测试USDT"]
    assert info["rateLimits"][0]["limit"] == limit


def test_a_book_by_rest_joins_the_changes_of_the_stream(exchange: Exchange) -> None:
    """The snapshot's id lies in a change that comes, or is where one begins, and its levels are sorted."""
    url = exchange.http + "/fapi/v1/depth?symbol=BTCUSDT"
    with opened(exchange.um_ws + "/public/stream?streams=btcusdt@depth@100ms") as ws:
        changes = [following(ws)["data"] for _ in range(3)]
        book = json.loads(_get(url + "&limit=20")[2])
        while changes[-1]["u"] < book["lastUpdateId"]:
            changes.append(following(ws)["data"])
    assert any(book["lastUpdateId"] in (change["pu"], change["u"]) for change in changes)
    bids, asks = ([float(price) for price, _ in book[side]] for side in ("bids", "asks"))
    assert (bids, asks) == (sorted(bids, reverse=True), sorted(asks))
    assert bids[0] < asks[0]
    assert (len(bids), len(asks)) == (20, 20)
    assert json.loads(_get(url + "&limit=7")[2])["code"] == -4021
    assert json.loads(_get(exchange.http + "/fapi/v1/depth?symbol=NOSUCH")[2])["code"] == -1121


def test_rest_errors_are_those_of_the_exchange(exchange: Exchange) -> None:
    """Unknown paths, parameters and symbols have their codes; a test can order a limit or a ban."""
    assert _get(exchange.http + "/fapi/v1/nothing")[0] == 404
    assert json.loads(_get(exchange.http + "/fapi/v1/nothing")[2])["code"] == -5000
    assert _get(exchange.http + "/api/v3/nothing")[0] == 404
    assert json.loads(_get(exchange.http + "/api/v3/ping?x=1")[2])["code"] == -1101
    assert json.loads(_get(exchange.http + "/api/v3/exchangeInfo?symbol=NOSUCH")[2]) == {
        "code": -1121,
        "msg": "Invalid symbol.",
    }
    exchange.fault("rest", status=429, retry_after=3)
    exchange.fault("rest", status=418, ban_ms=5_000, n=2)
    status, headers, body = _get(exchange.http + "/fapi/v1/time")
    assert (status, headers["Retry-After"], json.loads(body)["code"]) == (429, "3", -1003)
    for _ in range(2):
        status, headers, body = _get(exchange.http + "/fapi/v1/time")
        assert (status, headers["Retry-After"]) == (418, None)
        assert "banned until " in json.loads(body)["msg"]
    assert _get(exchange.http + "/fapi/v1/time")[0] == 200


# -- the process -------------------------------------------------------------------------------------------------------


def test_it_speaks_tls(tmp_path: Path) -> None:
    """With a certificate both WebSocket ports are wss."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    with Exchange.started(*files) as secure:
        assert secure.um_ws.startswith("wss://")
        with opened(f"{secure.um_ws}/public/stream?streams={DEPTH}", ssl=trusting) as ws:
            assert following(ws)["stream"] == DEPTH
            secure.fault("cut", how="rst")
            assert close_code(ws) == 1006


def test_a_flood_waits_for_its_reader() -> None:
    """In a flood frames come without a pause and without a hole, also when the reader stops for a while."""
    with (
        Exchange.started("--flood") as flood,
        opened(f"{flood.um_ws}/public/stream?streams={DEPTH}") as ws,
    ):
        ids = []
        for number in range(3_000):
            data = json.loads(ws.recv(timeout=5))["data"]
            ids.append((data["pu"], data["u"]))
            if number == 100:
                time.sleep(0.2)
        assert all(after[0] == before[1] for before, after in itertools.pairwise(ids))
        flood.fault("cut", how="rst")


def test_it_ends_in_order_on_a_signal() -> None:
    """SIGTERM closes the connections with 1001, and the exit code is 0."""
    with Exchange.started() as ending, opened(ending.um_ws + "/ws") as ws:
        assert ending.process is not None
        ending.process.send_signal(signal.SIGTERM)
        assert close_code(ws) == 1001
        assert ending.stop() == 0


def test_its_clock_can_be_moved() -> None:
    """`MASERVER_CLOCK_OFFSET_S` moves event times and the server's time alike."""
    with Exchange.started(env={"MASERVER_CLOCK_OFFSET_S": "86400"}) as moved:
        ahead_ms = json.loads(_get(moved.http + "/fapi/v1/time")[2])["serverTime"] - time.time() * 1_000
        assert 86_340_000 < ahead_ms < 86_460_000
        with opened(f"{moved.um_ws}/public/ws/{DEPTH}") as ws:
            assert following(ws)["E"] - time.time() * 1_000 > 86_340_000


def test_why_it_does_not_start_is_told(tmp_path: Path) -> None:
    """A wrong option or a recording without frames is an error with the text of stderr, and exit code 2."""
    (tmp_path / "um_x.txt").write_text("nothing\n")
    with pytest.raises(ExchangeError, match=r"(?s)exit code 2.*no line of it is a frame"):
        Exchange.started("--replay", str(tmp_path / "um_x.txt"))
    with pytest.raises(ExchangeError, match=r"(?s)exit code 2.*--tls-key"):
        Exchange.started("--tls-cert", "x.pem")


# -- replay ------------------------------------------------------------------------------------------------------------


def test_a_recording_is_replayed_with_its_ids_at_the_present() -> None:
    """It waits for its streams; then every frame comes with the recorded ids and books, and times of now."""
    file = DATA / "derived/um_BTCUSDT_20240808T235416Z_216s_depth20_100ms_DERIVED.txt.gz"
    if not file.exists():
        pytest.skip("the shared recordings are not here")
    with Exchange.started("--replay", str(file), "--replay-window", "0:1.5") as replaying:
        assert replaying.state()["replay"]["state"] == "waiting"
        with opened(f"{replaying.um_ws}/public/stream?streams={DEPTH}") as ws:
            frames = [following(ws)["data"] for _ in range(replaying.state()["replay"]["frames"])]
        replay = replaying.wait_for(lambda state: state["replay"]["state"] == "done")["replay"]
        records = replaying.sent("um", DEPTH)
    assert [frame["u"] for frame in frames][:2] == [5_123_107_856_210, 5_123_107_860_939]
    assert frames[0]["E"] == 1_723_161_256_560 + replay["shift_ms"]
    assert abs(frames[0]["E"] - time.time() * 1_000) < 60_000
    assert len(records) == len(frames) == replay["played"] == replay["frames"]
    assert all(record.deliveries == 1 for record in records)


def test_a_replay_can_wait_for_more_streams_and_be_begun_by_hand(tmp_path: Path) -> None:
    """With fewer subscriptions than asked for it waits, until it is told to begin."""
    lines = [
        f'{{"stream":"btcusdt@{kind}","data":'
        f'{{"e":"{kind}","E":{1_790_526_539_120 + 50 * number},"s":"BTCUSDT","a":{number}}}}}'
        for number in range(4)
        for kind in ("aggTrade", "trade")
    ]
    (tmp_path / "um_small.jsonl").write_text("\n".join(lines))
    with Exchange.started("--replay", str(tmp_path / "um_small.jsonl"), "--replay-wait", "2") as replaying:
        with opened(replaying.um_ws + "/market/stream?streams=btcusdt@aggTrade") as ws:
            assert is_silent(ws)
            state = replaying.state()["replay"]
            assert (state["state"], state["subscribed"], state["wait_streams"]) == ("waiting", 1, 2)
            replaying.start_replay()
            assert [following(ws)["data"]["a"] for _ in range(4)] == [0, 1, 2, 3]
        replaying.wait_for(lambda state: state["replay"]["state"] == "done")
        assert [record.deliveries for record in replaying.sent("um", "btcusdt@trade")] == [0, 0, 0, 0]
