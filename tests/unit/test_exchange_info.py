"""What exchangeInfo says, in bodies as the exchange sent them and in bodies that are none."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ingest.exchange_info import Listed, Listing, NotExchangeInfo, read

REST = Path(__file__).parents[2] / "../shared/data/rest"


def body(*rows: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"timezone": "UTC", "symbols": list(rows), **more}).encode()


def recorded(name: str) -> Listing:
    """The listing of a recorded body: `URL -> time: body`, zipped, or the body alone."""
    if name.endswith(".gz"):
        line = gzip.decompress((REST / name).read_bytes()).splitlines()[0]
        return read(line[line.index(b"{") :])
    return read((REST / name).read_bytes())


def test_a_symbol_is_read_with_what_decides() -> None:
    """Symbol, status, contract type, quote asset and opening; other keys are passed over."""
    row = {
        "symbol": "XAUUSDT", "status": "TRADING", "contractType": "TRADIFI_PERPETUAL", "quoteAsset": "USDT",
        "onboardDate": 1765430400000, "filters": [{"filterType": "PRICE_FILTER"}], "new": {"key": [1]},
    }  # fmt: skip
    assert read(body(row)).symbols == {
        "XAUUSDT": Listed("XAUUSDT", "TRADING", "TRADIFI_PERPETUAL", "USDT", 1765430400000)
    }


@pytest.mark.parametrize(
    ("contract_type", "is_dated"),
    [
        ("PERPETUAL", False),
        ("TRADIFI_PERPETUAL", False),
        ("PERPETUAL_DELIVERING", False),
        ("", False),  # spot, and um before the first trade
        ("CURRENT_QUARTER", True),
        ("NEXT_QUARTER", True),
        ("CURRENT_MONTH", True),
        ("CURRENT_QUARTER DELIVERING", True),
    ],
)
def test_a_contract_that_ends_has_a_date(contract_type: str, is_dated: bool) -> None:
    """What is called perpetual, and spot, has no end."""
    assert Listed("A", "TRADING", contract_type).is_dated is is_dated


@pytest.mark.parametrize(
    "status", ["SETTLING", "PENDING_TRADING", "TRADING_HALT", "BREAK", "CANCEL_ONLY", "NEW_WORD", ""]
)
def test_a_status_that_is_unknown_is_not_trading(status: str) -> None:
    """Only `TRADING` trades; any other word is read and kept."""
    listing = read(body({"symbol": "AUSDT", "status": status}, {"symbol": "BUSDT", "status": "TRADING"}))
    assert (listing.symbols["AUSDT"].status, listing.symbols["AUSDT"].is_trading, listing.trading) == (status, False, 1)


def test_odd_values_are_passed_over() -> None:
    """A null, a text for a number and a missing key stop nothing."""
    row = {"symbol": "AUSDT", "status": "TRADING", "contractType": None, "quoteAsset": 1, "onboardDate": "soon"}
    assert read(body(row)).symbols["AUSDT"] == Listed("AUSDT", "TRADING")


def test_a_name_that_is_no_folder_is_left_out() -> None:
    """Letters of any script pass; a path, a wildcard and lower case are told as odd."""
    names = ["测试USDT", "BTCUSDT_261225", "../X", "A*", "a", "A:B", ""]
    listing = read(body(*({"symbol": name, "status": "TRADING"} for name in names)))
    assert list(listing.symbols) == ["测试USDT", "BTCUSDT_261225"]
    assert sorted(listing.odd) == sorted(names[2:])


WHOLE = body({"symbol": "BTCUSDT", "status": "TRADING"})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (b"", "it is empty"),
        (b"<html><body>Request blocked</body></html>", "41 bytes that begin with '<html><body>Request blocked"),
        (b'{"code":0,"msg":"Service unavailable from a restricted location"}', "missing required field `symbols`"),
        (b"[]", "Expected `object`, got `array`"),
        (body(), "without any symbol"),
        (body({"symbol": "BTCUSDT"}), "without any status"),
        (body({"status": "TRADING"}), "missing required field `symbol`"),
        (b'{"symbols":[{"symbol":"\xff\xfe","status":"TRADING"}]}', "no exchangeInfo"),
        (b"\x00" * 10, "no exchangeInfo"),
    ],
)
def test_a_body_that_is_no_list_is_told(wrong: bytes, told: str) -> None:
    """HTML, an error's JSON, an empty list and other bytes are refused, with how they begin."""
    with pytest.raises(NotExchangeInfo, match=r"exchangeInfo") as refused:
        read(wrong)
    assert told in str(refused.value)


@pytest.mark.parametrize("length", range(0, len(WHOLE), 7))
def test_a_body_that_is_cut_short_is_no_list(length: int) -> None:
    """However much of it is missing: it must not look like a list from which symbols are gone."""
    with pytest.raises(NotExchangeInfo):
        read(WHOLE[:length])


@pytest.mark.real_data
@pytest.mark.skipif(not REST.exists(), reason="the recordings are not beside the repository")
def test_recorded_bodies_are_read() -> None:
    """Whole bodies of 2021 and parts of 2026, of both markets: every symbol, and what trades without an end."""
    um = recorded("um/exchangeInfo_20210722_full_cryptofeed.txt.gz")
    assert Counter((row.contract_type, row.is_dated, row.status) for row in um.symbols.values()) == {
        ("PERPETUAL", False, "TRADING"): 119,
        ("CURRENT_QUARTER", True, "TRADING"): 2,
        ("", False, "PENDING_TRADING"): 1,
    }
    spot = recorded("spot/exchangeInfo_20211011_full_cryptofeed.txt.gz")
    assert (Counter(row.status for row in spot.symbols.values()), spot.odd) == ({"TRADING": 1262, "BREAK": 433}, ())
    newest = recorded("um/exchangeInfo_subset3_20260822.TRANSCRIBED.json").symbols
    assert [(row.symbol, row.is_trading, row.is_dated) for row in newest.values()] == [
        ("BTCUSDT", True, False), ("OMGUSDT", False, False), ("XAUUSDT", True, False)
    ]  # fmt: skip
    assert recorded("um/exchangeInfo_gct_25symbols.json").trading == 25
