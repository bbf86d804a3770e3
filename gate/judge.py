"""Whether a symbol is open, from what was measured. Pure.

Closes above one threshold, opens below a lower one, changes nothing in between, and stays as it is for a while.
What cannot be judged stays as it is: too few samples, an unknown or a wrong clock never close the gate, and never open
it.
"""

from typing import NamedTuple

from common.thresholds import Thresholds
from gate.offset import Clock

TOLERANCE_MS = 50.0
"""The server that answers `/time` is not the one that pushes: their clocks may differ by some ms."""


class Flags(NamedTuple):
    """What is thought of a symbol.

    Attributes:
        stream_enable: Open.
        latency_valid: There are enough fresh samples and a plausible clock.
        clock_error: The latency is negative beyond all doubt.
        since_s: Since when `stream_enable` is what it is, monotonic.
    """

    stream_enable: bool = True
    latency_valid: bool = False
    clock_error: bool = False
    since_s: float = float("-inf")


class Evidence(NamedTuple):
    """What was measured.

    Attributes:
        raw_ms: The median latency by our clock; None without samples.
        samples: Of how many.
        source: Whose they are: `own`, `canary`, `market`, `round trip`, `none`.
        clock: The exchange's clock; None when unknown.
    """

    raw_ms: float | None
    samples: int
    source: str
    clock: Clock | None

    @property
    def median_ms(self) -> float | None:
        """The median latency, corrected; None when it or the clock is unknown."""
        return None if self.raw_ms is None or self.clock is None else self.raw_ms + self.clock.offset_ms


def is_negative(latency_ms: float, clock: Clock, *, already: bool = False) -> bool:
    """Whether a corrected latency is negative by more than the doubt about the clocks: then one of them is wrong.

    Args:
        already: It was so before; then the tolerance is spared, so that it does not come and go.
    """
    return latency_ms < -clock.uncertainty_ms - (0.0 if already else TOLERANCE_MS)


def judge(
    before: Flags, evidence: Evidence, thresholds: Thresholds, *, needed: int, max_uncertainty_ms: float, now_s: float
) -> tuple[Flags, str]:
    """The flags from now on, and why.

    Args:
        needed: Samples that a change of `stream_enable` takes; half of them keep a latency valid that was valid.
        max_uncertainty_ms: A clock that may be off by more says nothing.
    """
    median_ms, clock = evidence.median_ms, evidence.clock
    enough = max(1, needed // 2) if before.latency_valid else needed
    if evidence.samples < enough or evidence.raw_ms is None:
        why = f"only {evidence.samples} fresh samples, {needed} are needed"
        return before._replace(latency_valid=False, clock_error=False), why
    if clock is None or median_ms is None:
        return before._replace(latency_valid=False, clock_error=False), "the exchange's clock is not known"
    if clock.uncertainty_ms > max_uncertainty_ms:
        why = f"the exchange's clock is known to {clock.uncertainty_ms:,.0f} ms only, more than {max_uncertainty_ms:g}"
        return before._replace(latency_valid=False, clock_error=False), why
    measured = f"{_measured(evidence)} is {median_ms:,.0f} ms"
    if is_negative(median_ms, clock, already=before.clock_error):
        why = f"{measured}, negative by more than the doubt of {clock.uncertainty_ms:,.0f} ms: a clock is wrong"
        return before._replace(latency_valid=False, clock_error=True), why
    valid = before._replace(latency_valid=True, clock_error=False)
    may_change = evidence.samples >= needed and now_s - before.since_s >= thresholds.dwell_s
    if before.stream_enable and median_ms > thresholds.close_above_ms and may_change:
        return valid._replace(stream_enable=False, since_s=now_s), f"{measured}, above {thresholds.close_above_ms:g}"
    if not before.stream_enable and median_ms < thresholds.open_below_ms and may_change:
        return valid._replace(stream_enable=True, since_s=now_s), f"{measured}, below {thresholds.open_below_ms:g}"
    return valid, measured


def _measured(evidence: Evidence) -> str:
    if evidence.source == "round trip":
        return "half the round trip"
    whose = {"canary": " of the canary", "market": " of other symbols"}.get(evidence.source, "")
    return f"the median of {evidence.samples} samples{whose}"
