"""Who joins and leaves when the exchange lists something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.symbols import Wanted
from ingest.exchange_info import GONE, Listed, Listing
from ingest.roster import DOUBTS, FEW, SOON_S, Changes, Roster

HOUR_MS = 3_600_000
NOW_MS = 1_795_000_000_000


def listing(**status: str) -> Listing:
    """`listing(AB="TRADING")`: symbols and their status."""
    return Listing.of(Listed(symbol, status, "PERPETUAL") for symbol, status in status.items())


def trading(*symbols: str) -> Listing:
    return listing(**dict.fromkeys(symbols, "TRADING"))


def roster(*entries: str) -> Roster:
    return Roster("um", Wanted.read(entries))


def take(it: Roster, *lists: Listing) -> list[Changes]:
    return [it.take(each, NOW_MS) for each in lists]


def test_the_first_list_makes_the_roster() -> None:
    """What is named comes first, in the settings' order, then what patterns take, in the exchange's."""
    it = roster("C", "A*", "B", "D")
    [changes] = take(it, listing(A1="TRADING", B="TRADING", C="TRADING", A2="BREAK", A3="TRADING", X="TRADING"))
    assert changes == Changes("um", ("C", "B", "A1", "A3"))
    assert list(it.recorded) == ["C", "B", "A1", "A3"]


def test_a_new_listing_joins() -> None:
    """What patterns take, and nothing else; an equal list changes nothing."""
    it = roster("*USDT")
    first, second, third = take(it, trading("AUSDT"), *[trading("AUSDT", "BUSDT", "BUSDC")] * 2)
    assert (first.joined, second, bool(third)) == (("AUSDT",), Changes("um", ("BUSDT",)), False)


def test_a_status_is_believed_at_once() -> None:
    """Halted it leaves, and comes back when it trades again."""
    it = roster("all")
    _, left, _, back = take(it, trading("A", "B"), *[listing(A="TRADING", B="TRADING_HALT")] * 2, trading("A", "B"))
    assert left == Changes("um", (), {"B": "status TRADING_HALT"})
    assert back == Changes("um", ("B",))


def test_what_is_missing_leaves_with_the_second_list() -> None:
    """Missing once is nothing, missing again is gone; back between the two it begins anew."""
    it = roster("all")
    both, one = trading("A", "B"), trading("A")
    changes = take(it, both, one, both, one, one, one)
    assert [dict(each.left) for each in changes] == [{}, {}, {}, {}, {"B": "not listed"}, {}]


def test_half_of_a_list_gone_at_once_is_not_believed() -> None:
    """Not the first nor the second time; the third list in a row is, and the roster shrinks."""
    it = roster("all")
    many = trading(*(f"S{n}" for n in range(FEW)))
    few = listing(**{f"S{n}": "TRADING" if n < 4 else "BREAK" for n in range(FEW)})
    half = trading(*(f"S{n}" for n in range(FEW // 2)))
    take(it, many)
    assert [(bool(each), it.doubts) for each in take(it, *[few] * DOUBTS)] == [(False, DOUBTS)] * DOUBTS
    assert (it.listing, len(it.recorded)) == (many, FEW)
    [believed] = take(it, few)
    assert (len(believed.left), it.doubts) == (6, 0)
    again = roster("all")
    take(again, many, half)
    assert again.doubts == 0


def test_a_doubt_ends_with_a_good_list() -> None:
    """Two bad lists, a good one, two bad ones: nobody left."""
    it = roster("all")
    many, few = trading(*(f"S{n}" for n in range(40))), trading("S1", "S2")
    assert not any(each.left for each in take(it, many, few, few, many, few, few))
    assert len(it.recorded) == 40


def test_a_contract_with_a_date_is_taken_when_it_is_asked_for() -> None:
    """By its name or by a pattern with `_`, not by `all`."""
    rows = Listing.of([Listed("A", "TRADING", "PERPETUAL"), Listed("A_261225", "TRADING", "CURRENT_QUARTER")])
    taken = {}
    for entry in ("all", "A_261225", "A_*"):
        it = roster(entry)
        take(it, rows)
        taken[entry] = list(it.recorded)
    assert taken == {"all": ["A"], "A_261225": ["A_261225"], "A_*": ["A_261225"]}


def test_what_is_recorded_stays_while_it_trades() -> None:
    """Whatever a pattern says of it later: a perpetual contract that is told to be delivered still has data."""
    it = roster("all")
    delivering = Listing.of([Listed("A", "TRADING", "CURRENT_QUARTER DELIVERING")])
    assert not any(each.left for each in take(it, trading("A"), delivering, delivering))


def test_without_any_list_names_are_assumed() -> None:
    """They stand as they are named; what the exchange then does not list leaves after two lists."""
    it = roster("B", "A", "X*")
    it.assume(None)
    assert list(it.recorded) == ["B", "A"]
    first, second = take(it, *[trading("A", "X1")] * 2)
    assert (first, second) == (Changes("um", ("X1",)), Changes("um", (), {"B": "not listed"}))


def test_an_older_list_serves() -> None:
    """Patterns take what traded then, names stand unless they are gone or live on another market."""
    it = roster("NEW", "HALTED", "GONE", "SPOTONLY", "P*")
    it.assume(listing(P1="TRADING", P2="BREAK", HALTED="BREAK", GONE=GONE, Q="TRADING"), {"SPOTONLY", "HALTED", "GONE"})
    assert list(it.recorded) == ["NEW", "HALTED", "P1"]
    assert it.listing is None


def test_the_exchange_is_asked_sooner_when_something_is_about_to_trade() -> None:
    """At the moment when a symbol opens, then each 15 s while it does not, for an hour; others change nothing."""
    it = roster("*USDT")
    opens = NOW_MS + 100_000
    rows = [
        Listed("AUSDT", "PENDING_TRADING", "", "USDT", opens),
        Listed("BUSDC", "PENDING_TRADING", "", "USDC", opens),
    ]
    take(it, Listing.of(rows))
    waits = [it.next_s(300.0, at) for at in (opens - 400_000, NOW_MS, opens - 1, opens, opens + HOUR_MS)]
    assert waits == [300.0, 101.0, pytest.approx(1.001), SOON_S, 300.0]
    assert it.next_s(5.0, opens) == 5.0


def test_the_exchange_is_asked_sooner_while_a_symbol_is_halted() -> None:
    """Each 15 s for an hour, or until it trades; a name that never traded meanwhile is asked for at the usual pace."""
    it = roster("A", "B")
    take(it, listing(A="TRADING", B="BREAK"))
    assert it.next_s(300.0, NOW_MS) == 300.0
    take(it, listing(A="BREAK", B="BREAK"))
    assert [it.next_s(300.0, NOW_MS + after) for after in (0, HOUR_MS - 1, HOUR_MS)] == [SOON_S, SOON_S, 300.0]


STATUS = st.sampled_from(["TRADING", "TRADING", "TRADING", "BREAK", None])
LISTS = st.lists(
    st.lists(STATUS, min_size=15, max_size=15).map(
        lambda row: listing(**{f"{'AB'[n % 2]}{n}": status for n, status in enumerate(row) if status})
    ),
    min_size=1,
    max_size=8,
)


@given(LISTS, st.sampled_from([["all"], ["A*"], ["A0", "B1", "NONE"], ["*1*", "B2", "!A*"]]))
def test_changes_are_what_changed(lists: list[Listing], entries: list[str]) -> None:
    """They add up; who joins trades, is wanted and was not there; who leaves does not trade, or is missing twice."""
    it = roster(*entries)
    there: set[str] = set()
    before = None
    for each in lists:
        changes = it.take(each, NOW_MS)
        assert not set(changes.joined) & there
        assert all(each.symbols[symbol].is_trading and it.is_wanted(each.symbols[symbol]) for symbol in changes.joined)
        assert set(changes.left) <= there
        for symbol in changes.left:
            assert symbol not in each.symbols or not each.symbols[symbol].is_trading
            assert symbol in each.symbols or (before is not None and symbol not in before.symbols)
        there = (there | set(changes.joined)) - set(changes.left)
        assert there == set(it.recorded)
        before = each


@given(LISTS, st.sampled_from([["all"], ["A*"], ["A0", "B1", "NONE"]]))
def test_in_the_end_the_list_wins(lists: list[Listing], entries: list[str]) -> None:
    """After whatever came, a list that stays is what is recorded."""
    it = roster(*entries)
    last = lists[-1]
    take(it, *lists, *[last] * (DOUBTS + 2))
    assert set(it.recorded) == {row.symbol for row in last.symbols.values() if row.is_trading and it.is_wanted(row)}
    assert it.listing == last
