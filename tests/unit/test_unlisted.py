"""What the settings ask for and no market lists."""

import pytest

from common.symbols import Wanted
from ingest.exchange_info import GONE, Listed, Listing
from ingest.unlisted import unlisted

UM = Listing.of(
    [
        Listed("BTCUSDT", "TRADING", "PERPETUAL"),
        Listed("ETHUSDT", "TRADING", "PERPETUAL"),
        Listed("OMGUSDT", "SETTLING", "PERPETUAL"),
        Listed("FTTUSDT", GONE, "PERPETUAL"),
        Listed("BTCUSDT_261225", "TRADING", "CURRENT_QUARTER"),
        Listed("测试USDT", "TRADING", "PERPETUAL"),
    ]
)
SPOT = Listing.of([Listed("BTCUSDT", "TRADING"), Listed("BTCUSDC", "TRADING"), Listed("BTCDOWNUSDT", "BREAK")])


@pytest.mark.parametrize(
    "entries",
    [
        ["BTCUSDT"],
        ["BTCUSDC", "测试USDT", "BTCUSDT_261225"],  # on one of the markets
        ["OMGUSDT", "FTTUSDT", "BTCDOWNUSDT"],  # not trading, or not any more
        ["all"],
        ["*DOWNUSDT", "FTT*"],
        ["BTCUSDT_*", "!*DOWN*"],
    ],
)
def test_what_is_listed_or_was_is_no_error(entries: list[str]) -> None:
    """On any of the markets, in any status."""
    assert list(unlisted(Wanted.read(entries), {"um": UM, "spot": SPOT})) == []


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (["BTCUSTD"], ["symbols: BTCUSTD is not listed on um; did you mean BTCUSDT?"]),
        (["BTCUSDC"], ["symbols: BTCUSDC is not listed on um; did you mean BTCUSDT?"]),
        (["ETHUSD", "ZZZ"], [
            "symbols: ETHUSD is not listed on um; did you mean ETHUSDT?", "symbols: ZZZ is not listed on um"
        ]),
        (["*USDC"], ["symbols: nothing on um fits *USDC"]),
        (["*_261225"], []),
        (["*1225"], [
            "symbols: nothing on um fits *1225 but contracts with a date; to record those, write a pattern with _"
        ]),
        (["ETH*", "!*USDT"], ["symbols: nothing on um fits ETH* that is not left out again"]),
    ],
)  # fmt: skip
def test_what_is_not_listed_is_told(entries: list[str], told: list[str]) -> None:
    """Each with the nearest that trades, or with why a pattern takes nothing."""
    assert list(unlisted(Wanted.read(entries), {"um": UM})) == told


def test_all_markets_are_named() -> None:
    """A name that none of several markets lists."""
    assert list(unlisted(Wanted.read(["BTCUSTD"]), {"um": UM, "spot": SPOT})) == [
        "symbols: BTCUSTD is not listed on um or spot; did you mean BTCUSDT?"
    ]
