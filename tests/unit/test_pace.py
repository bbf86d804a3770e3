"""How long a stream may be silent, and which silence proves what."""

import random

from hypothesis import given
from hypothesis import strategies as st

from common.channels import CHANNELS
from ingest.freshness import FIRST_S, KIN_S, is_due, limit_s
from ingest.pace import CEILING_S, FLOOR_S, GUESSED, LEARNED, Pace


def paced(*pauses_s: float) -> Pace:
    pace = Pace()
    for pause_s in pauses_s:
        pace.add(pause_s)
    return pace


def test_a_beat_has_the_floor() -> None:
    """A stream of ten frames a second may still be silent for five seconds."""
    assert paced(*[0.1] * 1000).limit_s == FLOOR_S


def test_a_quiet_stream_is_given_its_time() -> None:
    """Trades come at random: in a day of them no silence exceeds the limit that the first hundreds taught."""
    dice = random.Random(7)
    pauses = [dice.expovariate(1 / 5) for _ in range(20_000)]
    limit = paced(*pauses[:500]).limit_s
    assert limit is not None
    assert max(pauses) < limit < 600


def test_a_stream_that_is_nearly_always_silent_proves_nothing() -> None:
    """A usual pause of minutes has no limit."""
    assert paced(*[200.0] * 100).limit_s is None
    assert paced(*[200.0] * 100).is_learned


def test_few_pauses_are_no_pace() -> None:
    """Before enough is known there is no usual pause, and a limit with more room, or none."""
    pace = paced(*[1.0] * (LEARNED - 1))
    assert (pace.is_learned, pace.usual_s) == (False, None)
    assert (pace.limit_s or 0) > (paced(*[1.0] * LEARNED).limit_s or 0)
    assert paced(*[1.0] * (GUESSED - 1)).limit_s is None


def test_what_was_long_ago_is_forgotten() -> None:
    """A stream that became quiet is judged by what it does now."""
    pace = paced(*[0.01] * 20_000)
    before = pace.usual_s
    for _ in range(20_000):
        pace.add(3.0)
    assert before is not None
    assert pace.usual_s is not None
    assert pace.usual_s > 100 * before


@given(st.lists(st.floats(0, 8_000), min_size=LEARNED, max_size=200))
def test_the_usual_pause_bounds_all_but_a_thousandth(pauses: list[float]) -> None:
    """At most one pause in a thousand is longer than the usual, and the limit is within floor and ceiling."""
    pace = paced(*pauses)
    assert pace.usual_s is not None
    assert sum(pause > pace.usual_s + 0.001 for pause in pauses) * 1000 <= len(pauses)
    assert pace.limit_s is None or FLOOR_S <= pace.limit_s <= CEILING_S


def test_a_new_stream_is_judged_by_its_kind() -> None:
    """Of a kind with a beat it must deliver; of another only if no kin delivers; forceOrder never."""
    new = Pace()
    assert limit_s(CHANNELS["depth20"], new, kin_deliver=False) == FIRST_S
    assert limit_s(CHANNELS["depth20"], new, kin_deliver=True) == KIN_S < 60
    assert limit_s(CHANNELS["aggTrade"], new, kin_deliver=False) == FIRST_S
    assert limit_s(CHANNELS["aggTrade"], new, kin_deliver=True) == CEILING_S
    assert limit_s(CHANNELS["forceOrder"], new, kin_deliver=False) is None
    assert limit_s(CHANNELS["forceOrder"], paced(*[0.1] * 100), kin_deliver=False) is None


def test_what_must_deliver_is_due() -> None:
    """By the learned pace where there is one, else by the kind's beat."""
    assert is_due(CHANNELS["markPrice"], Pace(), 30)
    assert not is_due(CHANNELS["aggTrade"], Pace(), 30)
    assert is_due(CHANNELS["aggTrade"], paced(*[0.2] * 100), 30)
    assert not is_due(CHANNELS["depth20"], paced(*[60.0] * 100), 30)
    assert not is_due(CHANNELS["forceOrder"], paced(*[0.2] * 100), 30)
