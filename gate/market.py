"""One market: its clock, its canary, and its symbols. Pure: time comes in with each call.

By what a symbol is judged:

- open, or in `flag` mode: by its own samples;
- closed in `pause` mode it has none, since nobody is subscribed: by the canary's; when that is silent by the other
  symbols' of the market; when there are none either by half the REST round trip. When nothing answers at all it stays
  closed.

Nothing is judged until the first probe has ended: without the exchange's clock there is no latency.
"""

from collections.abc import Iterable
from statistics import median

from common.clock import SECOND_NS
from common.gate import Decision, MarketNow, Sample, SymbolNow
from common.settings import GateSettings
from common.thresholds import Thresholds, ThresholdTable
from gate.judge import Evidence, Flags, is_negative
from gate.offset import Measurement, Offsets
from gate.symbol import NO_EVIDENCE, Symbol, rounded
from gate.window import Window

CANARY_DEAD_S = 30.0
FORGET_S = 3600.0
"""A symbol that no setting names, and of which nothing was heard for so long, is no longer recorded."""
AHEAD_S = 5.0
"""A sample that is further ahead of our clock is not believed."""


class Market:
    """What is known of a market.

    Args:
        name: `um` or `spot`.
        settings: The section `gate`.
        now_s: Monotonic.
    """

    def __init__(self, name: str, settings: GateSettings, now_s: float) -> None:
        self.name = name
        self.offsets = Offsets()
        self.probe_failures = 0
        self.negative_samples = 0
        self.decisions = 0
        self.clock_steps = 0
        self._settings = settings
        defaults = Thresholds(settings.close_above_ms, settings.open_below_ms, settings.dwell_s)
        self._thresholds = ThresholdTable(defaults, settings.overrides)
        self._symbols: dict[str, Symbol] = {}
        self._named: set[str] = set()
        self._canary = Window(settings.window, settings.fresh_s)
        self._canary_heard_s = now_s
        self._round_trip: Measurement | None = None
        self._is_probed = False

    # What comes in.

    def watch(self, symbols: Iterable[str], now_s: float) -> None:
        """Symbols that the settings name: they are never forgotten."""
        for name in symbols:
            self._named.add(name)
            self._find(name, now_s)

    def _find(self, name: str, now_s: float) -> Symbol:
        found = self._symbols.get(name)
        if found is None:
            thresholds = self._thresholds.of(self.name, name)
            found = self._symbols[name] = Symbol(self.name, name, self._settings, thresholds, now_s)
        return found

    def restore(self, decision: Decision, *, away: bool, now_s: float, now_ns: int) -> Decision | None:
        """See `Symbol.restore`."""
        return self._find(decision.symbol, now_s).restore(decision, away=away, now_s=now_s, now_ns=now_ns)

    def take(self, sample: Sample, now_s: float, now_ns: int) -> bool:
        """Takes a collector's sample; false when it is old, or from the future."""
        age_s = (now_ns - sample.at_ns) / SECOND_NS
        if not -AHEAD_S <= age_s <= self._settings.fresh_s:
            return False
        at_s = now_s - max(0.0, age_s)
        clock = self.offsets.best(now_s)
        for name, latency_ms in sample.latencies_ms.items():
            self._find(name, now_s).take(latency_ms, sample.at_ns, at_s)
            if clock is not None and is_negative(latency_ms + clock.offset_ms, clock):
                self.negative_samples += 1
        return True

    def take_canary(self, latency_ms: float, now_s: float, now_ns: int) -> None:
        """Takes the latency of a frame of the canary."""
        self._canary.add(latency_ms, now_ns, now_s)
        self._canary_heard_s = now_s

    def take_probe(self, measurement: Measurement) -> bool:
        """Takes a round's best measurement; false when it proves that a clock was set since the one before."""
        self._is_probed = True
        self._round_trip = measurement
        agrees = self.offsets.add(measurement)
        if not agrees:
            self._begin_anew(measurement.at_s)
        return agrees

    def take_failure(self) -> None:
        """Notes that a probe failed."""
        self._is_probed = True
        self.probe_failures += 1

    def clock_stepped(self, now_s: float) -> None:
        """Forgets what was measured with our clock, which was set; judges again after the next probe."""
        self.clock_steps += 1
        self.offsets.clear()
        self._is_probed = False
        self._begin_anew(now_s)

    def _begin_anew(self, now_s: float) -> None:
        self._canary.clear()
        self._canary_heard_s = now_s
        for symbol in self._symbols.values():
            symbol.begin_anew(now_s)

    # What comes out.

    def judge(self, now_s: float, now_ns: int) -> list[Decision]:
        """Judges each symbol; gives the decisions: where a flag changed."""
        if not self._is_probed:
            return []
        decisions = []
        clock = self.offsets.best(now_s)
        substitute = self._substitute(now_s) if self.is_any_closed else None
        for symbol in self._symbols.values():
            evidence = substitute if symbol.is_paused else symbol.own(clock, now_s)
            decision = symbol.judge(evidence, now_s, now_ns) if evidence is not None else None
            if decision is not None:
                decisions.append(decision)
        self.decisions += len(decisions)
        return decisions

    def _substitute(self, now_s: float) -> Evidence | None:
        """By what the paused are judged; None while the canary is waited for."""
        clock = self.offsets.best(now_s)
        raw_ms, samples = self._canary.median_ms(now_s)
        if samples >= self._settings.samples:
            return Evidence(raw_ms, samples, "canary", clock)
        if now_s - self._canary_heard_s < CANARY_DEAD_S:
            return None
        others = [symbol.own(clock, now_s) for symbol in self._symbols.values() if symbol.flags.stream_enable]
        medians = [
            other.raw_ms
            for other in others
            if other is not None and other.raw_ms is not None and other.samples >= self._settings.samples
        ]
        if medians:
            return Evidence(median(medians), len(medians), "market", clock)
        trip = self._round_trip
        if trip is not None and now_s - trip.at_s <= self._settings.fresh_s:
            # one clock measured it, so it needs no correction: what is added later is taken off here
            offset_ms = clock.offset_ms if clock else 0.0
            return Evidence(trip.round_trip_ms / 2 - offset_ms, 1, "round trip", clock)
        return NO_EVIDENCE._replace(clock=clock)

    def forget(self, now_s: float) -> list[str]:
        """Drops symbols that are no longer recorded; gives their names."""
        gone = [
            name
            for name, symbol in self._symbols.items()
            if name not in self._named and symbol.flags.stream_enable and now_s - symbol.heard_s > FORGET_S
        ]
        for name in gone:
            del self._symbols[name]
        return gone

    # What it looks like.

    @property
    def is_any_closed(self) -> bool:
        return any(not symbol.flags.stream_enable for symbol in self._symbols.values())

    @property
    def is_any_clock_error(self) -> bool:
        return any(symbol.flags.clock_error for symbol in self._symbols.values())

    def now(self, now_s: float) -> MarketNow:
        """The market's numbers."""
        clock = self.offsets.best(now_s)
        raw_ms, _ = self._canary.median_ms(now_s)
        return MarketNow(
            offset_ms=rounded(clock.offset_ms if clock else None),
            uncertainty_ms=rounded(clock.uncertainty_ms if clock else None),
            round_trip_ms=rounded(self._round_trip.round_trip_ms if self._round_trip else None),
            canary_ms=rounded(raw_ms + clock.offset_ms if clock and raw_ms is not None else None),
            probe_failures=self.probe_failures,
        )

    def symbols_now(self) -> dict[str, tuple[SymbolNow, Flags]]:
        """Each symbol's numbers and flags."""
        return {name: (symbol.now(), symbol.flags) for name, symbol in list(self._symbols.items())}
