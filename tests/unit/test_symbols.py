"""The setting `symbols`: names, `all`, patterns and exclusions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.symbols import Wanted, contradiction, fits, problem

SYMBOLS = st.text("AB_测0", min_size=1, max_size=6)


def test_names_patterns_and_exclusions_are_told_apart() -> None:
    """`all` is the pattern `*`; what begins with `!` is left out."""
    wanted = Wanted.read(["all", "BTCUSDT", "*USDC", "!*DOWNUSDT", "!ETHUSDT"])
    assert wanted == Wanted(("BTCUSDT",), ("*", "*USDC"), ("*DOWNUSDT", "ETHUSDT"))


@pytest.mark.parametrize(
    ("entries", "symbol", "takes"),
    [
        (["all"], "测试USDT", True),
        (["*USDT"], "BTCUSDT", True),
        (["*USDT"], "USDT", True),
        (["*USDT"], "BTCUSDT_261225", False),
        (["BTC*"], "BTCUSDT_261225", True),
        (["BTC*"], "WBTCUSDT", False),
        (["1000*USD*"], "1000PEPEUSDC", True),
        (["all", "!*DOWNUSDT"], "BTCDOWNUSDT", False),
        (["all", "!ETHUSDT"], "ETHUSDT", False),
        (["all", "!ETH"], "ETHUSDT", True),
        (["BTCUSDT"], "BTCUSDT", False),  # it is named, no pattern takes it
    ],
)
def test_what_a_pattern_takes(entries: list[str], symbol: str, takes: bool) -> None:
    """A pattern is the whole symbol, `*` any part of it."""
    assert Wanted.read(entries).takes(symbol) is takes


def test_a_contract_with_a_date_is_asked_for() -> None:
    """`all` and `BTC*` leave it out, `BTCUSDT_*` takes it."""
    taken = {
        entry: Wanted.read([entry]).takes("BTCUSDT_261225", is_dated=True) for entry in ("all", "BTC*", "BTCUSDT_*")
    }
    assert taken == {"all": False, "BTC*": False, "BTCUSDT_*": True}


@given(SYMBOLS, st.integers(0, 6), st.integers(0, 6))
def test_a_star_stands_for_any_part(symbol: str, start: int, end: int) -> None:
    """A symbol with any part of it replaced by `*` fits."""
    assert fits(symbol[:start] + "*" + symbol[max(start, end) :], symbol)


@pytest.mark.parametrize("entry", ["all", "BTCUSDT", "测试USDT", "BTCUSDT_261225", "*", "*USDT", "!*DOWNUSDT", "!A"])
def test_good_entries_pass(entry: str) -> None:
    """Upper case, letters of any script, digits, `_`, `*`, a `!` in front."""
    assert problem(entry) is None


@pytest.mark.parametrize(
    "entry", ["", "!", "!all", "All", "btc*", "BTC?", "[A]*", "A/*", "A!", "!!A", "A B", "A:B", "."]
)
def test_bad_entries_are_named(entry: str) -> None:
    """Anything else is told with the entry as it was written."""
    assert repr(entry) in (problem(entry) or "")


def test_entries_may_contradict_one_another() -> None:
    """Nothing to record, a name that is left out, and an exclusion without a pattern are told."""
    assert contradiction(["!A*"]) == "only leaves symbols out; say what to record too, as in all, !A*"
    assert contradiction(["AB", "*", "!AB"]) == "AB is named and left out; remove one of the two"
    assert contradiction(["AB", "!C*"]) == (
        "!C* leaves nothing out: no pattern stands beside it; remove it, or add all"
    )
    assert contradiction(["AB", "all", "!A*"]) is None
