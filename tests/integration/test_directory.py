"""Symbols resolved and followed over real HTTP: against the simulated exchange, and against answers that are none."""

import asyncio
import gzip
import json
import logging
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from common.config import ConfigError
from common.settings import IngestSettings, Settings
from ingest import directory as directory_module
from ingest import market_list
from ingest.directory import Directory
from ingest.market_list import MarketList, Unavailable
from ingest.roster import Changes
from tests.sims.exchange.client import Exchange

WITHIN_S = 20.0


class Desk:
    """Answers each request with the next of its answers, the last one again and again, as raw bytes over TCP.

    Attributes:
        asked: The request lines that came.
        answers: What is said next.
    """

    HANG = b"hang"
    RESET = b"reset"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.asked: list[str] = []
        self.answers: list[bytes] = []
        self.port = 0
        self.has_asked = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Desk"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._open:
                writer.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.split(b"\r\n")[0].decode())
            self.has_asked.set()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer == self.HANG:
                await reader.read()
            elif answer == self.RESET:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()


def http(body: bytes, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """An answer, with a `Content-Length` that may lie."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def rows(**status: str) -> bytes:
    """The body of a um list: symbol to its status."""
    listed = [{"symbol": name, "status": word, "contractType": "PERPETUAL"} for name, word in status.items()]
    return json.dumps({"symbols": listed}, ensure_ascii=False).encode()


def listing(**status: str) -> bytes:
    return http(rows(**status))


def trading(*symbols: str) -> bytes:
    return listing(**dict.fromkeys(symbols, "TRADING"))


DOWN = http(b"<html><title>503</title><body>down</body></html>", "503 Service Unavailable")


def settings(url: str, state: Path, *symbols: str, **more: Any) -> Settings:
    defaults = {
        "symbols": list(symbols),
        "state_dir": state,
        "um_rest_url": url,
        "spot_rest_url": url,
        "ingest": IngestSettings(symbols_refresh_s=0.5),
    }
    return msgspec.structs.replace(Settings(), **(defaults | more))


class Following:
    """A directory that is followed, and what it tells."""

    def __init__(self, directory: Directory) -> None:
        self.changes: asyncio.Queue[Changes] = asyncio.Queue()
        self.task = asyncio.create_task(directory.follow(self.changes.put_nowait))

    async def next(self) -> Changes:
        getting = asyncio.create_task(self.changes.get())
        await asyncio.wait((getting, self.task), timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        assert getting.done(), "nothing changed"
        return getting.result()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))


@asynccontextmanager
async def followed(directory: Directory) -> AsyncIterator[Following]:
    following = Following(directory)
    try:
        yield following
    finally:
        await following.stop()


def at_a_desk(scenario: Callable[[Desk], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Desk().open() as desk:
            await scenario(desk)

    asyncio.run(run())


# -- against the simulated exchange ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    with Exchange.started("--symbols", "BTCUSDT,ETHUSDT,SOLUSDT,测试USDT") as it:
        yield it


def resolved(exchange: Exchange, state: Path, *symbols: str, **more: Any) -> dict[str, tuple[str, ...]]:
    return asyncio.run(Directory(settings(exchange.http, state, *symbols, **more)).resolve())


@pytest.mark.parametrize(
    ("entries", "symbols"),
    [
        (["ETHUSDT", "BTCUSDT"], ("ETHUSDT", "BTCUSDT")),
        (["all"], ("BTCUSDT", "ETHUSDT", "SOLUSDT", "测试USDT")),
        (["测试*", "SOLUSDT"], ("SOLUSDT", "测试USDT")),
        (["*USDT", "!*T*H*", "!测试USDT"], ("BTCUSDT", "SOLUSDT")),
    ],
)
def test_what_is_asked_for_is_resolved(
    exchange: Exchange, tmp_path: Path, entries: list[str], symbols: tuple[str, ...]
) -> None:
    """Names, `all`, patterns and exclusions, on both markets."""
    found = resolved(exchange, tmp_path, *entries, markets=["um", "spot"])
    assert found == {"um": symbols, "spot": symbols}


def test_an_unknown_symbol_is_an_error_at_the_start(exchange: Exchange, tmp_path: Path) -> None:
    """It names what is wrong, all of it, and the nearest that trades."""
    with pytest.raises(ConfigError) as refused:
        resolved(exchange, tmp_path, "BTCUSTD", "ETHUSDT", "*USDC")
    assert str(refused.value).splitlines() == [
        "symbols: BTCUSTD is not listed on um; did you mean BTCUSDT?",
        "symbols: nothing on um fits *USDC",
    ]


def test_too_many_requests_are_waited_out(exchange: Exchange, tmp_path: Path) -> None:
    """A 429 at the start: names are recorded at once, and proven when the exchange may be asked again."""

    async def scenario() -> None:
        directory = Directory(settings(exchange.http, tmp_path, "BTCUSDT", "测试*"))
        exchange.fault("rest", status=429, n=1, retry_after=1)
        assert await directory.resolve() == {"um": ("BTCUSDT",)}
        assert (directory.failures, directory.refreshed_ns) == ({"um": 1}, {"um": 0})
        async with followed(directory) as following:
            assert await following.next() == Changes("um", ("测试USDT",))
        assert directory.failures == {"um": 1}

    asyncio.run(scenario())


def test_the_exchange_is_followed(tmp_path: Path) -> None:
    """On both markets: listed, halted, delisted, taken off the list, and back; contracts with a date stay out."""

    async def scenario(exchange: Exchange) -> None:
        directory = Directory(settings(exchange.http, tmp_path, "all", markets=["um", "spot"]))
        assert await directory.resolve() == {"um": ("BTCUSDT", "ETHUSDT"), "spot": ("BTCUSDT", "ETHUSDT")}
        async with followed(directory) as following:
            exchange.fault("list", market="um", symbols=["BTCUSDT_261225"], contract_type="CURRENT_QUARTER")
            exchange.fault("list", market="um", symbols=["NEWUSDT"], status="PENDING_TRADING")
            exchange.fault("list", market="um", symbols=["XAUUSDT"], contract_type="TRADIFI_PERPETUAL")
            assert await following.next() == Changes("um", ("XAUUSDT",))
            exchange.fault("list", market="um", symbols=["NEWUSDT"])
            assert await following.next() == Changes("um", ("NEWUSDT",))
            exchange.fault("list", market="spot", symbols=["ETHUSDT"], status="HALT")
            assert await following.next() == Changes("spot", (), {"ETHUSDT": "status HALT"})
            exchange.fault("list", market="spot", symbols=["ETHUSDT"])
            assert await following.next() == Changes("spot", ("ETHUSDT",))
            exchange.fault("delist", market="um", symbols=["ETHUSDT"])
            assert await following.next() == Changes("um", (), {"ETHUSDT": "status SETTLING"})
            exchange.fault("delist", market="um", symbols=["NEWUSDT"], gone=True)
            assert await following.next() == Changes("um", (), {"NEWUSDT": "not listed"})
        assert (directory.recorded, directory.failures) == ({"um": 2, "spot": 2}, {"um": 0, "spot": 0})

    with Exchange.started() as exchange:
        asyncio.run(scenario(exchange))


def test_the_exchange_is_asked_for_names_only(tmp_path: Path) -> None:
    """The simulated exchange takes the setting `symbols` as it is: patterns do not name what it lists."""
    with Exchange.started("--symbols", "all,SOLUSDT,!*DOWNUSDT") as exchange:
        assert resolved(exchange, tmp_path, "all") == {"um": ("SOLUSDT",)}


# -- answers that are none ---------------------------------------------------------------------------------------------

BODY = rows(BTCUSDT="TRADING", ETHUSDT="TRADING")
BAD: dict[str, tuple[bytes, float, str]] = {
    "html": (http(b"<!DOCTYPE html><html>maintenance</html>"), 0, "begin with '<!DOCTYPE html>"),
    "empty": (http(b""), 0, "it is empty"),
    "truncated": (http(BODY[:-20]), 0, "Input data was truncated"),
    "length too long": (http(BODY, length=10_000), 0, "ended early"),
    "length too short": (http(BODY, length=40), 0, "Input data was truncated"),
    "length is no number": (http(BODY).replace(b"Content-Length: ", b"Content-Length: x"), 0, "Content-Length"),
    "half a gzip": (http(gzip.compress(BODY)[:-20], Content_Encoding="gzip"), 0, "ended early"),
    "bad gzip": (http(BODY, Content_Encoding="gzip"), 0, "ended early"),
    "no http": (b"SSH-2.0-OpenSSH\r\n\r\n", 0, ""),
    "nothing": (b"", 0, "closed connection without response"),
    "reset": (Desk.RESET, 0, ""),
    "403": (http(b"<html><h1>Request blocked</h1></html>", "403 Forbidden"), 300, "(403): Request blocked"),
    "451": (http(b'{"code":0,"msg":"x"}', "451 Unavailable"), 600, "does not serve this location (451)"),
    "429": (http(b"{}", "429 Too Many", Retry_After="17"), 17, "too many requests from this address; waiting 17 s"),
    "418": (http(b"{}", "418 Teapot", Retry_After="1000"), 1000, "banned for 1000 s"),
    "418 until far": (http(b"IP banned until 9999999999999.", "418 Teapot"), 3 * 86_400, "banned for 259200 s"),
    "418 until": (http(b"IP banned until 1000000000000.", "418 Teapot", Retry_After="5"), 5, "banned for 5 s"),
    "503": (DOWN, 0, "status 503: 503 down"),
    "404": (http(b"", "404 Not Found"), 0, "status 404: without a word"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_list_is_told(name: str) -> None:
    """Every refusal and damage is a sentence, with how long the exchange wants no call; never another exception."""
    answer, wait_s, told = BAD[name]

    async def scenario(desk: Desk) -> None:
        desk.answers = [answer, listing(BTCUSDT="TRADING")]
        source = MarketList("um", desk.url)
        with pytest.raises(Unavailable) as refused:
            await source.fetch()
        assert (refused.value.wait_s, told in str(refused.value)) == (wait_s, True), str(refused.value)
        assert "\n" not in str(refused.value)
        if wait_s:
            with pytest.raises(Unavailable, match="wants no call for"):
                await source.fetch()
            assert len(desk.asked) == 1
        else:
            assert (await source.fetch()).trading == 1

    at_a_desk(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        http(gzip.compress(BODY), Content_Encoding="gzip"),
        http(BODY).replace(b"Content-Length", b"X"),
        http(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), Transfer_Encoding="chunked").replace(
            b"Content-Length", b"X"
        ),
    ],
    ids=["gzip", "until it ends", "in chunks"],
)
def test_a_list_comes_in_many_ways(answer: bytes) -> None:
    """What is whole is taken, however it was sent."""

    async def scenario(desk: Desk) -> None:
        desk.answers = [answer]
        assert (await MarketList("um", desk.url).fetch()).trading == 2

    at_a_desk(scenario)


@pytest.mark.parametrize("is_known", [True, False])
def test_over_tls(is_known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody vouches for is told, and nothing is taken from who has it."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if is_known:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def scenario() -> None:
        async with Desk(context).open() as desk:
            desk.answers = [trading("BTCUSDT")]
            source = MarketList("um", desk.url)
            if is_known:
                assert (await source.fetch()).trading == 1
            else:
                with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                    await source.fetch()

    asyncio.run(scenario())


def test_a_call_can_be_given_up() -> None:
    """Who stops does not wait for an exchange that is silent."""

    async def scenario(desk: Desk) -> None:
        desk.answers = [Desk.HANG]
        asking = asyncio.create_task(MarketList("um", desk.url).fetch())
        await desk.has_asked.wait()
        asking.cancel()
        await asyncio.wait((asking,))
        assert asking.cancelled()

    began_s = time.monotonic()
    at_a_desk(scenario)
    assert time.monotonic() - began_s < market_list.SILENT_S / 2  # the loop's end waits for its threads


def test_the_minute_is_waited_out_where_nothing_else_is_said() -> None:
    """A 429 without Retry-After ends with the minute; a 418 without a time takes two minutes."""

    async def scenario(desk: Desk) -> None:
        for status, least_s, most_s in (("429 Too Many", 0, 60), ("418 Teapot", 120, 120)):
            desk.answers = [http(b"", status)]
            with pytest.raises(Unavailable) as refused:
                await MarketList("um", desk.url).fetch()
            assert least_s <= refused.value.wait_s <= most_s

    at_a_desk(scenario)


def test_each_market_is_asked_where_its_list_is() -> None:
    """um without a query, spot without its permission sets."""

    async def scenario(desk: Desk) -> None:
        desk.answers = [trading("BTCUSDT")]
        await MarketList("um", desk.url).fetch()
        await MarketList("spot", desk.url).fetch()
        assert desk.asked == [
            "GET /fapi/v1/exchangeInfo HTTP/1.1",
            "GET /api/v3/exchangeInfo?showPermissionSets=false HTTP/1.1",
        ]

    at_a_desk(scenario)


def test_a_body_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than any list is not read to its end."""
    monkeypatch.setattr(market_list, "BODY_BYTES", 100_000)

    async def scenario(desk: Desk) -> None:
        desk.answers = [http(b" " * 1_000_000, length=1 << 40)]
        with pytest.raises(Unavailable, match="more than 100000 bytes"):
            await MarketList("um", desk.url).fetch()

    at_a_desk(scenario)


@pytest.mark.parametrize("is_open", [True, False], ids=["silent", "refused"])
def test_nobody_who_answers_is_told(is_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that says nothing, and one on which nobody listens."""
    monkeypatch.setattr(market_list, "SILENT_S", 0.2)

    async def scenario(desk: Desk) -> None:
        desk.answers = [Desk.HANG]
        url = desk.url if is_open else "http://127.0.0.1:1"
        with pytest.raises(Unavailable, match=r"no answer in time|Connection refused"):
            await MarketList("um", url).fetch()

    at_a_desk(scenario)


# -- the start ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [DOWN, Desk.HANG, http(BODY, length=10_000)], ids=["503", "silent", "cut"])
def test_names_are_recorded_when_the_exchange_does_not_answer(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At once and as they stand; proven later: an unknown one is an error in the log, is counted, and leaves."""
    monkeypatch.setattr(directory_module, "START_S", 0.5)

    async def scenario(desk: Desk) -> None:
        desk.answers = [answer]
        directory = Directory(settings(desk.url, tmp_path, "BTCUSDT", "ETHUSTD"))
        assert await directory.resolve() == {"um": ("BTCUSDT", "ETHUSTD")}
        assert "what is named is recorded unproven" in caplog.text
        desk.answers = [trading("BTCUSDT", "ETHUSDT")]
        async with followed(directory) as following:
            assert await following.next() == Changes("um", (), {"ETHUSTD": "not listed"})
        assert "symbols: ETHUSTD is not listed on um; did you mean ETHUSDT?" in caplog.text
        assert (directory.unknown, directory.recorded, directory.failures) == (1, {"um": 1}, {"um": 1})
        assert directory.refreshed_ns["um"] > 0

    at_a_desk(scenario)


def test_patterns_wait_for_a_first_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any list there is nothing to record: it is asked for until it comes."""
    monkeypatch.setattr(directory_module, "BACKOFF_FIRST_S", 0.05)

    async def scenario(desk: Desk) -> None:
        desk.answers = [DOWN, http(b"<html>"), http(b""), trading("BTCUSDT", "ETHUSDC")]
        directory = Directory(settings(desk.url, tmp_path, "*USDT"))
        assert await directory.resolve() == {"um": ("BTCUSDT",)}
        assert (len(desk.asked), directory.failures) == (4, {"um": 3})

    at_a_desk(scenario)


def test_a_start_that_waits_can_be_cancelled(tmp_path: Path) -> None:
    """A stop does not wait for the exchange."""

    async def scenario(desk: Desk) -> None:
        desk.answers = [DOWN]
        directory = Directory(settings(desk.url, tmp_path, "all"))
        resolving = asyncio.create_task(directory.resolve())
        async with asyncio.timeout(WITHIN_S):
            await desk.has_asked.wait()
        resolving.cancel()
        await asyncio.wait((resolving,), timeout=WITHIN_S)
        assert resolving.cancelled()

    at_a_desk(scenario)


def test_the_last_list_serves_when_the_exchange_does_not_answer(tmp_path: Path) -> None:
    """`all` starts from the list that an earlier run kept, and follows when the exchange is back."""

    async def scenario(desk: Desk) -> None:
        desk.answers = [listing(BTCUSDT="TRADING", ETHUSDT="BREAK")]
        assert await Directory(settings(desk.url, tmp_path, "all")).resolve() == {"um": ("BTCUSDT",)}
        desk.answers = [DOWN]
        directory = Directory(settings(desk.url, tmp_path, "all", "!SOL*"))
        assert await directory.resolve() == {"um": ("BTCUSDT",)}
        desk.answers = [trading("BTCUSDT", "ETHUSDT", "SOLUSDT")]
        async with followed(directory) as following:
            assert await following.next() == Changes("um", ("ETHUSDT",))

    at_a_desk(scenario)


def test_one_market_does_not_wait_for_the_other(tmp_path: Path) -> None:
    """Spot is away: um is recorded, spot's patterns join when it answers, and nothing is judged before."""

    async def scenario(um: Desk) -> None:
        async with Desk().open() as spot:
            um.answers, spot.answers = [trading("BTCUSDT")], [DOWN]
            asked = settings(um.url, tmp_path, "*USDT", "BTCUSDC", markets=["um", "spot"], spot_rest_url=spot.url)
            directory = Directory(asked)
            assert await directory.resolve() == {"um": ("BTCUSDT",), "spot": ("BTCUSDC",)}
            spot.answers = [trading("ETHUSDT", "BTCUSDC")]
            async with followed(directory) as following:
                assert await following.next() == Changes("spot", ("ETHUSDT",))
            assert directory.unknown == 0

    at_a_desk(scenario)


def test_a_symbol_of_one_market_is_recorded_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is no error that the other market lacks it; the log says so."""
    caplog.set_level(logging.INFO)

    async def scenario(um: Desk) -> None:
        async with Desk().open() as spot:
            um.answers, spot.answers = [trading("BTCUSDT", "XAUUSDT")], [trading("BTCUSDT", "BTCEUR")]
            asked = settings(um.url, tmp_path, "BTCEUR", "XAUUSDT", markets=["um", "spot"], spot_rest_url=spot.url)
            assert await Directory(asked).resolve() == {"um": ("XAUUSDT",), "spot": ("BTCEUR",)}
        assert "um: not listed here, and recorded elsewhere only: BTCEUR" in caplog.text

    at_a_desk(scenario)


def test_a_named_symbol_that_does_not_trade_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is accepted, said, and joins when it trades; also where nothing else is recorded."""

    async def scenario(desk: Desk) -> None:
        desk.answers = [listing(NEWUSDT="PENDING_TRADING"), trading("NEWUSDT")]
        directory = Directory(settings(desk.url, tmp_path, "NEWUSDT"))
        assert await directory.resolve() == {"um": ()}
        assert "um: waiting until they trade: NEWUSDT (PENDING_TRADING)" in caplog.text
        async with followed(directory) as following:
            assert await following.next() == Changes("um", ("NEWUSDT",))

    at_a_desk(scenario)


def test_a_name_that_was_delisted_stops_no_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was listed when an earlier run asked, so it is no mistake: the others are recorded."""

    async def scenario(desk: Desk) -> None:
        desk.answers = [trading("BTCUSDT", "OMGUSDT")]
        await Directory(settings(desk.url, tmp_path, "all")).resolve()
        desk.answers = [trading("BTCUSDT")]
        directory = Directory(settings(desk.url, tmp_path, "BTCUSDT", "OMGUSDT"))
        assert await directory.resolve() == {"um": ("BTCUSDT",)}
        assert "um: waiting until they trade: OMGUSDT (GONE)" in caplog.text

    at_a_desk(scenario)


# -- following ---------------------------------------------------------------------------------------------------------


def test_listings_and_delistings_are_followed(tmp_path: Path) -> None:
    """A new one joins, a halted one leaves at once and comes back, one that is missing leaves with the second list."""

    async def scenario(desk: Desk) -> None:
        both = trading("AUSDT", "BUSDT")
        desk.answers = [
            trading("AUSDT"),
            both,
            listing(AUSDT="TRADING", BUSDT="SETTLING"),
            both,
            trading("AUSDT"),
            both,
        ]
        desk.answers += [trading("AUSDT")]
        directory = Directory(settings(desk.url, tmp_path, "all"))
        assert await directory.resolve() == {"um": ("AUSDT",)}
        async with followed(directory) as following:
            assert await following.next() == Changes("um", ("BUSDT",))
            assert await following.next() == Changes("um", (), {"BUSDT": "status SETTLING"})
            assert await following.next() == Changes("um", ("BUSDT",))
            assert await following.next() == Changes("um", (), {"BUSDT": "not listed"})
        assert (len(desk.asked), directory.recorded) == (8, {"um": 1})

    at_a_desk(scenario)


def test_a_list_that_shrinks_at_once_is_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody leaves for two lists in which most are gone; it is an error in the log and counted."""

    async def scenario(desk: Desk) -> None:
        many = [f"S{number}USDT" for number in range(20)]
        desk.answers = [trading(*many), trading("S1USDT"), trading("S1USDT"), trading(*many, "NEWUSDT")]
        directory = Directory(settings(desk.url, tmp_path, "all"))
        await directory.resolve()
        async with followed(directory) as following:
            assert await following.next() == Changes("um", ("NEWUSDT",))
        assert (directory.doubted, directory.recorded) == ({"um": 2}, {"um": 21})
        assert "um: not believed, for more than half is gone: 1 symbols trade" in caplog.text

    at_a_desk(scenario)


def test_a_refresh_that_fails_changes_nothing(tmp_path: Path) -> None:
    """HTML, a cut body, an empty list, a refusal: nobody leaves, it is counted, and asked again."""

    async def scenario(desk: Desk) -> None:
        bad = [http(b"<html>"), http(BODY[:-9]), http(b'{"symbols":[]}'), DOWN]
        desk.answers = [trading("AUSDT", "BUSDT"), *bad, trading("AUSDT", "BUSDT", "CUSDT")]
        directory = Directory(settings(desk.url, tmp_path, "all"))
        await directory.resolve()
        async with followed(directory) as following:
            assert await following.next() == Changes("um", ("CUSDT",))
        assert directory.failures == {"um": 4}

    at_a_desk(scenario)


def test_a_list_that_cannot_be_kept_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state folder that cannot be written is told and counted, and recording goes on."""
    (tmp_path / "state").write_text("a file where the folder should be")

    async def scenario(desk: Desk) -> None:
        desk.answers = [trading("BTCUSDT")]
        directory = Directory(settings(desk.url, tmp_path / "state", "all"))
        assert await directory.resolve() == {"um": ("BTCUSDT",)}
        assert directory.unsaved == 1
        assert "the list of symbols cannot be kept" in caplog.text

    at_a_desk(scenario)
