"""One market: its clock, its canary, and its symbols with samples and flags. Pure: time comes in with each call.

By what a symbol is judged:

- open, or in `flag` mode: by its own samples;
- closed in `pause` mode it has none, since nobody is subscribed: by the canary's; when that is silent by the other
  symbols' of the market; when there are none either by half the REST round trip. When nothing answers at all it stays
  closed.

Until the first probe has ended, and for `SETTLE_S` after the start, an opening or a step of the clock, missing samples
are waited for: a restart must not look like a change.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from common.clock import SECOND_NS
from common.gate import Decision, MarketNow, Sample, SymbolNow
from common.settings import GateSettings
from common.thresholds import Thresholds, ThresholdTable
from gate.judge import Evidence, Flags, is_negative, judge
from gate.offset import Measurement, Offsets
from gate.window import Window

SETTLE_S = 30.0
CANARY_DEAD_S = 30.0
FORGET_S = 3600.0
"""A symbol that no setting names, and of which nothing was heard for so long, is no longer recorded."""
AHEAD_S = 5.0
"""A sample that is further ahead of our clock is not believed."""


NO_EVIDENCE = Evidence(None, 0, "none", None)


@dataclass(slots=True)
class _Symbol:
    window: Window
    thresholds: Thresholds
    waits_from_s: float
    heard_s: float
    flags: Flags = field(default_factory=Flags)
    evidence: Evidence = NO_EVIDENCE
    why: str = "no samples yet"


class Market:
    """What is known of a market.

    Args:
        name: `um` or `spot`.
        settings: The section `gate`.
        now_s: Monotonic.
    """

    def __init__(self, name: str, settings: GateSettings, now_s: float) -> None:
        self.name = name
        self.mode: Literal["pause", "flag"] = settings.mode
        self.offsets = Offsets()
        self.probed = False
        self.probe_failures = 0
        self.negative_samples = 0
        self.decisions = 0
        self._settings = settings
        defaults = Thresholds(settings.close_above_ms, settings.open_below_ms, settings.dwell_s)
        self._thresholds = ThresholdTable(defaults, settings.overrides)
        self._symbols: dict[str, _Symbol] = {}
        self._named: set[str] = set()
        self._canary = self._window()
        self._canary_heard_s = now_s
        self._round_trip: Measurement | None = None

    def _window(self) -> Window:
        return Window(self._settings.window, self._settings.fresh_s)

    # What comes in.

    def watch(self, symbols: Iterable[str], now_s: float) -> None:
        """Symbols that the settings name: they are never forgotten."""
        for symbol in symbols:
            self._named.add(symbol)
            self._find(symbol, now_s)

    def _find(self, symbol: str, now_s: float) -> _Symbol:
        found = self._symbols.get(symbol)
        if found is None:
            thresholds = self._thresholds.of(self.name, symbol)
            found = self._symbols[symbol] = _Symbol(self._window(), thresholds, now_s, now_s)
        return found

    def restore(self, decision: Decision, *, away: bool, now_s: float, now_ns: int) -> Decision | None:
        """Takes over what a predecessor decided; gives a decision where something is different from now on.

        Args:
            away: It fell silent so long ago that the collectors count everything as open.
        """
        symbol = self._find(decision.symbol, now_s)
        since_s = now_s - max(0.0, (now_ns - decision.since_ns) / SECOND_NS)
        symbol.flags = Flags(decision.stream_enable, decision.latency_valid, decision.clock_error, since_s)
        reopens = away and not decision.stream_enable
        if away:
            symbol.flags = Flags(since_s=now_s if reopens else since_s)
        if reopens:
            symbol.why = "the gate was away, and the collectors have opened meanwhile"
        elif decision.mode != self.mode:
            symbol.why = f"the mode is {self.mode} now, it was {decision.mode}"
        else:
            return None
        return self._decision(decision.symbol, symbol, decision.stream_enable, decision.latency_valid, now_s, now_ns)

    def take(self, sample: Sample, now_s: float, now_ns: int) -> bool:
        """Takes a collector's sample; false when it is old, or from the future."""
        age_s = (now_ns - sample.at_ns) / SECOND_NS
        if not -AHEAD_S <= age_s <= self._settings.fresh_s:
            return False
        at_s = now_s - max(0.0, age_s)
        clock = self.offsets.best(now_s)
        for name, latency_ms in sample.latencies_ms.items():
            symbol = self._find(name, now_s)
            symbol.window.add(latency_ms, sample.at_ns, at_s)
            symbol.heard_s = now_s
            if clock is not None and is_negative(latency_ms + clock.offset_ms, clock):
                self.negative_samples += 1
        return True

    def take_canary(self, latency_ms: float, now_s: float, now_ns: int) -> None:
        """Takes the latency of a frame of the canary."""
        self._canary.add(latency_ms, now_ns, now_s)
        self._canary_heard_s = now_s

    def take_probe(self, measurement: Measurement) -> bool:
        """Takes a round's best measurement; false when it proves that a clock was set since the one before."""
        self.probed = True
        self._round_trip = measurement
        agrees = self.offsets.add(measurement)
        if not agrees:
            self._begin_anew(measurement.at_s)
        return agrees

    def take_failure(self) -> None:
        """Notes that a probe failed."""
        self.probed = True
        self.probe_failures += 1

    def clock_stepped(self, now_s: float) -> None:
        """Forgets what was measured with our clock, which was set; judges again after the next probe."""
        self.offsets.clear()
        self.probed = False
        self._begin_anew(now_s)

    def _begin_anew(self, now_s: float) -> None:
        self._canary.clear()
        self._canary_heard_s = now_s
        for symbol in self._symbols.values():
            symbol.window.clear()
            symbol.waits_from_s = now_s

    # What comes out.

    def judge(self, now_s: float, now_ns: int) -> list[Decision]:
        """Judges each symbol; gives the decisions: where a flag changed."""
        if not self.probed:
            return []
        decisions = []
        substitute = self._substitute(now_s) if self.is_any_closed else None
        for name, symbol in self._symbols.items():
            paused = self.mode == "pause" and not symbol.flags.stream_enable
            evidence = substitute if paused else self._own(symbol, now_s)
            if evidence is None:
                continue
            before = symbol.flags
            symbol.evidence = evidence
            symbol.flags, symbol.why = judge(
                before,
                evidence,
                symbol.thresholds,
                needed=1 if evidence.source in ("round trip", "market") else self._settings.samples,
                max_uncertainty_ms=self._settings.max_uncertainty_ms,
                now_s=now_s,
            )
            if symbol.flags[:3] == before[:3]:
                continue
            if symbol.flags.stream_enable and not before.stream_enable and self.mode == "pause":
                symbol.window.clear()  # what came before it was closed says nothing
                symbol.waits_from_s = symbol.heard_s = now_s
            decisions.append(self._decision(name, symbol, before.stream_enable, before.latency_valid, now_s, now_ns))
        self.decisions += len(decisions)
        return decisions

    def _own(self, symbol: _Symbol, now_s: float) -> Evidence | None:
        """A symbol's own samples; None while they are waited for."""
        raw_ms, samples = symbol.window.median_ms(now_s)
        if samples < self._settings.samples and now_s - symbol.waits_from_s < SETTLE_S:
            return None
        return Evidence(raw_ms, samples, "own" if samples else "none", self.offsets.best(now_s))

    def _substitute(self, now_s: float) -> Evidence | None:
        """By what the closed are judged; None while the canary is waited for."""
        clock = self.offsets.best(now_s)
        raw_ms, samples = self._canary.median_ms(now_s)
        if samples >= self._settings.samples:
            return Evidence(raw_ms, samples, "canary", clock)
        if now_s - self._canary_heard_s < CANARY_DEAD_S:
            return None
        others = [each.window.median_ms(now_s) for each in self._symbols.values() if each.flags.stream_enable]
        medians = [value for value, count in others if value is not None and count >= self._settings.samples]
        if medians:
            return Evidence(median(medians), len(medians), "market", clock)
        trip = self._round_trip
        if trip is not None and now_s - trip.at_s <= self._settings.fresh_s:
            # a difference of one clock: what stands here is corrected later as if it were one of two
            offset_ms = clock.offset_ms if clock else 0.0
            return Evidence(trip.round_trip_ms / 2 - offset_ms, 1, "round trip", clock)
        return Evidence(None, 0, "none", clock)

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

    def _decision(
        self, name: str, symbol: _Symbol, was_enable: bool, was_valid: bool, now_s: float, now_ns: int
    ) -> Decision:
        clock = symbol.evidence.clock
        return Decision(
            time_ns=now_ns,
            market=self.name,
            symbol=name,
            mode=self.mode,
            stream_enable=symbol.flags.stream_enable,
            latency_valid=symbol.flags.latency_valid,
            clock_error=symbol.flags.clock_error,
            was_enable=was_enable,
            was_valid=was_valid,
            median_ms=_rounded(symbol.evidence.median_ms),
            samples=symbol.evidence.samples,
            source=symbol.evidence.source,
            offset_ms=_rounded(clock.offset_ms if clock else None),
            uncertainty_ms=_rounded(clock.uncertainty_ms if clock else None),
            close_above_ms=symbol.thresholds.close_above_ms,
            open_below_ms=symbol.thresholds.open_below_ms,
            dwell_s=symbol.thresholds.dwell_s,
            since_ns=_since_ns(symbol.flags, now_s, now_ns),
            reason=symbol.why,
        )

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
            offset_ms=_rounded(clock.offset_ms if clock else None),
            uncertainty_ms=_rounded(clock.uncertainty_ms if clock else None),
            round_trip_ms=_rounded(self._round_trip.round_trip_ms if self._round_trip else None),
            canary_ms=_rounded(raw_ms + clock.offset_ms if clock and raw_ms is not None else None),
            probe_failures=self.probe_failures,
        )

    def symbols_now(self) -> dict[str, tuple[SymbolNow, Flags]]:
        """Each symbol's numbers and flags."""
        return {
            name: (
                SymbolNow(
                    _rounded(each.evidence.median_ms),
                    each.evidence.samples,
                    each.evidence.source,
                    each.thresholds.close_above_ms,
                    each.thresholds.open_below_ms,
                ),
                each.flags,
            )
            for name, each in list(self._symbols.items())
        }


def _since_ns(flags: Flags, now_s: float, now_ns: int) -> int:
    age_s = now_s - flags.since_s
    return now_ns - int(age_s * SECOND_NS) if age_s < float("inf") else now_ns


def _rounded(value_ms: float | None) -> float | None:
    return None if value_ms is None else round(value_ms, 3)
