"""One symbol of a market: its samples, its flags, and the decision when one of them changes. Pure."""

from msgspec import structs

from common.clock import SECOND_NS
from common.gate import Decision, SymbolNow
from common.settings import GateSettings
from common.thresholds import Thresholds
from gate.judge import Evidence, Flags, judge
from gate.offset import Clock
from gate.window import Window

SETTLE_S = 30.0
"""Missing samples are waited for so long after the start, an opening or a step of the clock: a restart is no change."""
SOON_S = 300.0
"""Closed again so soon after others' latency had opened it, theirs says nothing of this symbol: each time it then stays
closed for twice as long, `LONGEST_S` at most."""
LONGEST_S = 600.0
NO_EVIDENCE = Evidence(None, 0, "none", None)
FEW = frozenset({"market", "round trip"})
"""Evidence of these is good however few values it is of: they are medians already, or all there is."""


class Symbol:
    """What is known of a symbol.

    Args:
        market: Its market.
        name: `BTCUSDT`.
        settings: The section `gate`.
        thresholds: Those of this symbol.
        now_s: Monotonic.

    Attributes:
        flags: What is thought of it.
        evidence: By what it was judged last.
        heard_s: When it was last heard of, monotonic.
    """

    def __init__(self, market: str, name: str, settings: GateSettings, thresholds: Thresholds, now_s: float) -> None:
        self._market = market
        self._name = name
        self._settings = settings
        self._thresholds = thresholds
        self._window = Window(settings.window, settings.fresh_s)
        self._waits_from_s = now_s
        self._why = "no samples yet"
        self._is_on_trial = False
        self._refuted = 0
        self.heard_s = now_s
        self.flags = Flags()
        self.evidence = NO_EVIDENCE

    @property
    def is_paused(self) -> bool:
        """Closed, and so without samples of its own."""
        return self._settings.mode == "pause" and not self.flags.stream_enable

    def take(self, latency_ms: float, at_ns: int, at_s: float) -> None:
        """Takes a sample: wall clock `at_ns`, monotonic `at_s`."""
        self._window.add(latency_ms, at_ns, at_s)
        self.heard_s = max(self.heard_s, at_s)

    def begin_anew(self, now_s: float) -> None:
        """Forgets its samples, and waits for new ones."""
        self._window.clear()
        self._waits_from_s = self.heard_s = now_s

    def restore(self, decision: Decision, *, away: bool, now_s: float, now_ns: int) -> Decision | None:
        """Takes over what a predecessor decided; gives a decision where something is different from now on.

        Args:
            away: It fell silent so long ago that the collectors count everything as open.
        """
        since_s = now_s - max(0.0, (now_ns - decision.since_ns) / SECOND_NS)
        before = Flags(decision.stream_enable, decision.latency_valid, decision.clock_error, since_s)
        if not away:
            self.flags = before
            if decision.mode == self._settings.mode:
                return None
            self._why = f"the mode is {self._settings.mode} now, it was {decision.mode}"
        elif before.stream_enable:
            self.flags = Flags(since_s=since_s)
            return None
        else:
            self.flags = Flags(since_s=now_s)
            self._why = "the gate was away, and the collectors have opened meanwhile"
        return self._decision(before, now_s, now_ns)

    def own(self, clock: Clock | None, now_s: float) -> Evidence | None:
        """Its own samples; None while they are waited for."""
        raw_ms, samples = self._window.median_ms(now_s)
        if samples < self._settings.samples and now_s - self._waits_from_s < SETTLE_S:
            return None
        return Evidence(raw_ms, samples, "own" if samples else "none", clock)

    def judge(self, evidence: Evidence, now_s: float, now_ns: int) -> Decision | None:
        """Judges by the evidence; gives a decision where a flag changed."""
        before, self.evidence = self.flags, evidence
        self.flags, self._why = judge(
            before,
            evidence,
            self._dwelling(),
            needed=1 if evidence.source in FEW else self._settings.samples,
            max_uncertainty_ms=self._settings.max_uncertainty_ms,
            now_s=now_s,
        )
        if self.flags[:3] == before[:3]:
            return None
        if self.flags.stream_enable and not before.stream_enable:
            self._is_on_trial = self._settings.mode == "pause"
            if self._is_on_trial:
                self.begin_anew(now_s)  # what came before it was closed says nothing
        elif before.stream_enable and not self.flags.stream_enable:
            is_refuted = self._is_on_trial and now_s - before.since_s < SOON_S
            self._refuted = self._refuted + 1 if is_refuted else 0
        return self._decision(before, now_s, now_ns)

    def _dwelling(self) -> Thresholds:
        """Its thresholds; closed, it dwells longer each time that others' latency was refuted by its own."""
        dwell_s = self._thresholds.dwell_s
        if self._refuted and not self.flags.stream_enable:
            dwell_s = max(dwell_s, min(LONGEST_S, dwell_s * 2.0 ** min(self._refuted, 16)))
        return structs.replace(self._thresholds, dwell_s=dwell_s)

    def now(self) -> SymbolNow:
        """Its numbers."""
        median_ms, thresholds = rounded(self.evidence.median_ms), self._thresholds
        samples, source = self.evidence.samples, self.evidence.source
        return SymbolNow(median_ms, samples, source, thresholds.close_above_ms, thresholds.open_below_ms)

    def _decision(self, before: Flags, now_s: float, now_ns: int) -> Decision:
        clock, thresholds = self.evidence.clock, self._dwelling()
        age_s = now_s - self.flags.since_s
        return Decision(
            time_ns=now_ns,
            market=self._market,
            symbol=self._name,
            mode=self._settings.mode,
            stream_enable=self.flags.stream_enable,
            latency_valid=self.flags.latency_valid,
            clock_error=self.flags.clock_error,
            was_enable=before.stream_enable,
            was_valid=before.latency_valid,
            median_ms=rounded(self.evidence.median_ms),
            samples=self.evidence.samples,
            source=self.evidence.source,
            offset_ms=rounded(clock.offset_ms if clock else None),
            uncertainty_ms=rounded(clock.uncertainty_ms if clock else None),
            close_above_ms=thresholds.close_above_ms,
            open_below_ms=thresholds.open_below_ms,
            dwell_s=thresholds.dwell_s,
            # it has been so for ever: since it is known
            since_ns=now_ns - int(age_s * SECOND_NS) if age_s < float("inf") else now_ns,
            reason=self._why,
        )


def rounded(value_ms: float | None) -> float | None:
    """To a microsecond: what is further behind is noise."""
    return None if value_ms is None else round(value_ms, 3)
