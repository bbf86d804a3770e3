"""A market second by second, with times that the test makes up."""

import msgspec

from common.clock import SECOND_NS
from common.gate import Decision, Sample
from common.settings import GateSettings
from gate.market import CANARY_DEAD_S, FORGET_S, Market
from gate.offset import Measurement
from gate.symbol import SETTLE_S, SOON_S

SETTINGS = GateSettings(window=5, samples=3, dwell_s=5)
EPOCH_NS = 1_780_000_000 * SECOND_NS


class Clockwork:
    """A market and its time."""

    def __init__(self, settings: GateSettings = SETTINGS, *, probed: bool = True) -> None:
        self.now_s = 1000.0
        self.market = Market("um", settings, self.now_s)
        if probed:
            self.probe()

    @property
    def now_ns(self) -> int:
        return EPOCH_NS + int(self.now_s * SECOND_NS)

    def probe(self, offset_ms: float = 0.0, round_trip_ms: float = 40.0) -> bool:
        return self.market.take_probe(Measurement(self.now_s, offset_ms, round_trip_ms))

    def run(self, seconds: int, *, canary_ms: float | None = None, **latencies_ms: float) -> list[Decision]:
        """So many seconds with these samples; gives what was decided."""
        decided = []
        for _ in range(seconds):
            self.now_s += 1
            if latencies_ms:
                self.market.take(Sample("c", self.now_ns, latencies_ms), self.now_s, self.now_ns)
            if canary_ms is not None:
                self.market.take_canary(canary_ms, self.now_s, self.now_ns)
            decided += self.market.judge(self.now_s, self.now_ns)
        return decided


def kinds(decisions: list[Decision]) -> list[tuple[str, str]]:
    return [(decision.symbol, decision.kind) for decision in decisions]


def test_closes_and_opens_once() -> None:
    """A slow network closes, a fast one opens: three decisions in all, each with its numbers and its reason."""
    clock = Clockwork()
    valid = clock.run(10, canary_ms=100, BTCUSDT=100)
    assert kinds(valid) == [("BTCUSDT", "latency valid")]
    closed = clock.run(10, canary_ms=3000, BTCUSDT=3000)
    assert kinds(closed) == [("BTCUSDT", "closed")]
    (decision,) = closed
    assert (decision.median_ms, decision.samples, decision.source) == (3000, 5, "own")
    assert decision.since_ns == decision.time_ns
    assert decision.reason == "the median of 5 samples is 3,000 ms, above 2000"
    assert decision.uncertainty_ms is not None
    opened = clock.run(10, canary_ms=100)
    assert kinds(opened) == [("BTCUSDT", "opened")]
    assert opened[0].source == "canary"
    assert clock.run(20, canary_ms=100, BTCUSDT=100) == []


def test_a_paused_symbol_is_judged_by_the_canary() -> None:
    """While it is closed in pause mode its samples stop, and the canary decides; in flag mode its own go on, and do."""
    paused, flagged = (Clockwork(msgspec.structs.replace(SETTINGS, mode=mode)) for mode in ("pause", "flag"))
    for clock in (paused, flagged):
        clock.run(10, canary_ms=3000, BTCUSDT=3000)
    assert kinds(paused.run(10, canary_ms=100)) == [("BTCUSDT", "opened")]
    assert flagged.run(10, canary_ms=100, BTCUSDT=3000) == []
    assert [(each.kind, each.source) for each in flagged.run(10, canary_ms=3000, BTCUSDT=100)] == [("opened", "own")]


def test_without_a_canary_the_other_symbols_decide() -> None:
    """A dead canary is waited for; then the median of the open symbols opens what is closed."""
    clock = Clockwork()
    clock.run(10, BTCUSDT=3000, ETHUSDT=100)
    assert clock.market.is_any_closed
    opened = clock.run(int(CANARY_DEAD_S), ETHUSDT=100)
    assert kinds(opened) == [("BTCUSDT", "opened")]
    assert opened[0].source == "market"


def test_without_anything_else_the_round_trip_decides() -> None:
    """With all closed and no canary, half the round trip of the last probe opens; an old probe opens nothing."""
    clock = Clockwork()
    clock.run(int(SETTINGS.fresh_s) + 1, BTCUSDT=100)
    clock.run(10, BTCUSDT=3000)
    clock.run(60)
    assert clock.market.is_any_closed
    clock.probe(round_trip_ms=60)
    opened = clock.run(1)
    assert kinds(opened) == [("BTCUSDT", "opened")]
    assert (opened[0].median_ms, opened[0].source) == (30, "round trip")


def test_a_gate_that_sees_nothing_stays_as_it_is() -> None:
    """Without samples, canary and probes an open symbol stays open and a closed one closed; neither is valid."""
    clock = Clockwork()
    clock.run(10, BTCUSDT=3000, ETHUSDT=100)
    decided = clock.run(120)
    assert clock.market.symbols_now()["ETHUSDT"][1].stream_enable
    assert ("ETHUSDT", "latency not valid") in kinds(decided)


def test_after_opening_its_own_samples_are_waited_for() -> None:
    """What came before it was closed does not close it again, and the wait for its first samples is no decision."""
    clock = Clockwork()
    clock.run(10, canary_ms=3000, BTCUSDT=3000)
    assert kinds(clock.run(10, canary_ms=100)) == [("BTCUSDT", "opened")]
    assert clock.run(int(SETTLE_S) - 10, canary_ms=100) == []
    assert clock.run(10, canary_ms=100, BTCUSDT=100) == []


def test_a_symbol_that_is_slow_by_itself_is_tried_less_and_less() -> None:
    """The canary is well and opens it, its own samples close it again: each time it stays closed for twice as long;
    after five minutes without that it begins anew."""
    clock = Clockwork()
    closed_s: list[float] = []
    for _ in range(4):
        while not clock.market.is_any_closed:
            clock.run(1, canary_ms=100, BTCUSDT=3000)
        began_s = clock.now_s
        while clock.market.is_any_closed:
            clock.run(1, canary_ms=100)
        closed_s.append(clock.now_s - began_s)
    assert closed_s == [5, 10, 20, 40]
    clock.run(int(SOON_S), canary_ms=100, BTCUSDT=100)
    closed = clock.run(10, canary_ms=3000, BTCUSDT=3000)
    assert [(each.kind, each.dwell_s) for each in closed] == [("closed", 5)]


def test_a_wrong_clock_is_told_and_closes_nothing() -> None:
    """Negative latencies are counted and told once; the gate stays open."""
    clock = Clockwork()
    clock.run(10, BTCUSDT=100)
    decided = clock.run(10, BTCUSDT=-5000)
    assert kinds(decided) == [("BTCUSDT", "clock error")]
    assert clock.market.negative_samples == 10
    assert not clock.market.is_any_closed
    assert kinds(clock.run(10, BTCUSDT=100)) == [("BTCUSDT", "latency valid")]


def test_a_step_of_our_clock_closes_nothing() -> None:
    """Our clock is set 5 s ahead: what was measured is forgotten, nothing is judged until the next probe, and then all
    is as before, without a decision."""
    clock = Clockwork()
    clock.run(10, BTCUSDT=100)
    clock.market.clock_stepped(clock.now_s)
    assert clock.run(10, BTCUSDT=5100) == []
    clock.probe(offset_ms=-5000)
    assert clock.run(20, BTCUSDT=5100) == []
    numbers, flags = clock.market.symbols_now()["BTCUSDT"]
    assert (numbers.median_ms, flags.latency_valid) == (100, True)


def test_a_probe_that_contradicts_begins_anew() -> None:
    """The exchange's clock is set: the samples that were measured against the old one do not count."""
    clock = Clockwork()
    clock.run(10, BTCUSDT=100)
    assert not clock.probe(offset_ms=5000)
    assert clock.run(1) == []
    assert clock.run(20, BTCUSDT=-4900) == []


def test_nothing_is_judged_before_the_first_probe() -> None:
    """Without a clock there is no latency; a probe that failed is an answer too."""
    clock = Clockwork(probed=False)
    assert clock.run(10, BTCUSDT=9000) == []
    clock.market.take_failure()
    assert clock.run(1, BTCUSDT=9000) == []
    assert clock.market.symbols_now()["BTCUSDT"][0].median_ms is None


def test_old_samples_and_those_of_the_future_do_not_count() -> None:
    """What was spilled and comes late says nothing of now."""
    clock = Clockwork()
    for age_s in (SETTINGS.fresh_s + 1, -6):
        sample = Sample("c", clock.now_ns - int(age_s * SECOND_NS), {"BTCUSDT": 9000})
        assert not clock.market.take(sample, clock.now_s, clock.now_ns)
    assert clock.market.symbols_now() == {}


def test_a_successor_goes_on() -> None:
    """A gate that takes over soon keeps what was decided, with its dwell, and decides nothing by that."""
    second = Clockwork(probed=False)
    second.now_s = 1012.0
    assert second.market.restore(closing(), away=False, now_s=second.now_s, now_ns=second.now_ns) is None
    assert second.market.is_any_closed
    second.probe()
    assert second.run(10, canary_ms=3000) == []
    assert kinds(second.run(10, canary_ms=100)) == [("BTCUSDT", "opened")]


def closing() -> Decision:
    """A decision that closed BTCUSDT."""
    return next(each for each in Clockwork().run(10, canary_ms=3000, BTCUSDT=3000) if each.kind == "closed")


def test_a_successor_after_a_long_time_begins_open() -> None:
    """When the gate was away for so long that the collectors have opened, that is what it decides first."""
    clock = Clockwork()
    opened = clock.market.restore(closing(), away=True, now_s=clock.now_s, now_ns=clock.now_ns)
    assert opened is not None
    assert (opened.kind, opened.reason) == ("opened", "the gate was away, and the collectors have opened meanwhile")
    assert not clock.market.is_any_closed


def test_another_mode_is_a_decision() -> None:
    """A gate that starts in another mode says so for what it takes over."""
    clock = Clockwork(msgspec.structs.replace(SETTINGS, mode="flag"))
    told = clock.market.restore(closing(), away=False, now_s=clock.now_s, now_ns=clock.now_ns)
    assert told is not None
    assert (told.mode, told.stream_enable, told.reason) == ("flag", False, "the mode is flag now, it was pause")


def test_what_is_no_longer_recorded_is_forgotten() -> None:
    """An open symbol that no setting names goes after an hour of silence; a named one stays."""
    clock = Clockwork()
    clock.market.watch(["ETHUSDT"], clock.now_s)
    clock.run(10, BTCUSDT=100)
    assert clock.market.forget(clock.now_s + FORGET_S - 1) == []
    assert clock.market.forget(clock.now_s + FORGET_S + 1) == ["BTCUSDT"]
    assert list(clock.market.symbols_now()) == ["ETHUSDT"]
