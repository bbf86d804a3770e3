"""The lists that are kept in the state folder."""

import logging
from pathlib import Path

import pytest

from ingest.exchange_info import GONE, Listed, Listing
from ingest.kept_lists import FILE, KeptLists

BTC = Listed("BTCUSDT", "TRADING", "PERPETUAL", "USDT", 1569398400000)
TEST = Listed("测试USDT", "TRADING", "PERPETUAL", "USDT", 1)
OMG = Listed("OMGUSDT", "SETTLING", "PERPETUAL", "USDT", 2)


def loaded(folder: Path) -> KeptLists:
    lists = KeptLists(folder)
    lists.load()
    return lists


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Both markets, value for value and in order."""
    lists = KeptLists(tmp_path)
    lists.put("um", Listing.of([TEST, BTC]))
    lists.put("spot", Listing.of([Listed("BTCUSDT", "BREAK")]))
    lists.save()
    assert {market: list(each.symbols.items()) for market, each in loaded(tmp_path).lists.items()} == {
        "um": [("测试USDT", TEST), ("BTCUSDT", BTC)],
        "spot": [("BTCUSDT", Listed("BTCUSDT", "BREAK"))],
    }


def test_what_was_listed_once_is_remembered(tmp_path: Path) -> None:
    """A symbol that is missing from a newer list stays as gone, over starts, until it is listed again."""
    lists = KeptLists(tmp_path)
    lists.put("um", Listing.of([BTC, OMG]))
    lists.put("um", Listing.of([BTC]))
    lists.save()
    again = loaded(tmp_path)
    assert again.lists["um"].symbols["OMGUSDT"] == OMG._replace(status=GONE)
    assert (again.was_listed("OMGUSDT"), again.was_listed("XUSDT")) == (True, False)
    again.put("um", Listing.of([BTC, OMG]))
    assert again.lists["um"].symbols["OMGUSDT"] == OMG


def test_nothing_is_written_without_news(tmp_path: Path) -> None:
    """An equal list leaves the file as it is."""
    lists = KeptLists(tmp_path)
    lists.put("um", Listing.of([BTC]))
    lists.save()
    (tmp_path / FILE).unlink()
    lists.put("um", Listing.of([BTC]))
    lists.save()
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"um": [["BTCUSDT"]]}', b'{"um": 1}', b"\xff"])
def test_a_damaged_file_counts_as_missing(tmp_path: Path, damaged: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and the next list replaces it."""
    (tmp_path / FILE).write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        lists = loaded(tmp_path)
    assert lists.lists == {}
    assert f"{tmp_path / FILE}: cannot be read" in caplog.text
    lists.put("um", Listing.of([BTC]))
    lists.save()
    assert loaded(tmp_path).lists["um"].symbols == {"BTCUSDT": BTC}


def test_a_missing_file_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first start says nothing of it."""
    assert loaded(tmp_path / "new").lists == {}
    assert caplog.text == ""
