"""The ids of a stream whose frames are numbered without a gap (aggTrade): what came, as runs of ids; pure.

Source: reference/binance-protocol.md section 3.3. A hole between two runs is frames that nobody delivered, whichever
connection brought what stands on its sides, and it closes when they come late after all.

Sessions are told in the exchange's time, and a frame may come late. So a frame counts as sent when it was received less
its lag, and where it matters the more careful of the two times is taken: nothing is proven by a late frame.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from common.lag import Way

KEPT_RUNS = 32
MOST_ID = 2**63 - 1


class Hole(NamedTuple):
    """Ids that never came; when the frame before them was sent, and when the one after them was received, in ns."""

    last_id: int
    next_id: int
    last_ns: int
    next_ns: int

    @property
    def frames(self) -> int:
        return self.next_id - self.last_id - 1


@dataclass(slots=True)
class _Run:
    """Ids without a hole; when the first was received, and when the last was sent."""

    first_id: int
    last_id: int
    first_ns: int
    last_ns: int
    since_s: float


@dataclass(slots=True)
class Ids:
    """What came of one stream, from the first frame that was looked at; the newest `KEPT_RUNS` runs of it."""

    _runs: list[_Run] = field(default_factory=list)
    _way: Way = field(default_factory=Way)

    def add(self, number: int, receive_ns: int, now_s: float, event_ms: int | None = None) -> bool:
        """Takes the id of a frame; whether that made or changed a hole.

        Args:
            number: The id.
            receive_ns: When the frame was received.
            now_s: When it is looked at, monotonic.
            event_ms: When the exchange says that it was.
        """
        sent_ns = receive_ns
        if event_ms is not None:
            delay_ns = receive_ns - event_ms * 1_000_000
            self._way.add(delay_ns, now_s)
            sent_ns -= self._way.lag_ns(delay_ns)
        runs = self._runs
        if runs and number == runs[-1].last_id + 1:
            runs[-1].last_id, runs[-1].last_ns = number, sent_ns
            return False
        at = bisect_right(runs, number, key=lambda run: run.first_id)
        before = runs[at - 1] if at else None
        after = runs[at] if at < len(runs) else None
        if before is not None and number <= before.last_id:
            return False
        if before is not None and number == before.last_id + 1:
            before.last_id, before.last_ns = number, sent_ns
            if after is not None and after.first_id == number + 1:
                before.last_id, before.last_ns = after.last_id, after.last_ns
                del runs[at]
        elif after is not None and number + 1 == after.first_id:
            after.first_id, after.first_ns = number, receive_ns
        else:
            runs.insert(at, _Run(number, number, receive_ns, sent_ns, now_s))
            if after is not None:
                after.since_s = now_s
            del runs[:-KEPT_RUNS]
        return True

    def holes(self, before_s: float) -> Iterator[Hole]:
        """The holes that were there before a moment (monotonic): a frame of a twin may come a little later."""
        for left, right in zip(self._runs, self._runs[1:], strict=False):
            if right.since_s < before_s:
                yield Hole(left.last_id, right.first_id, left.last_ns, right.first_ns)

    def remembers(self, number: int) -> bool:
        """Whether a hole that begins behind this id would still be known."""
        return bool(self._runs) and self._runs[0].first_id <= number

    def reaches(self, at_ns: int) -> bool:
        """Whether a frame was received before then."""
        return any(run.first_ns <= at_ns for run in self._runs)

    def missing(self, from_ns: int, to_ns: int) -> int | None:
        """How many frames an interval lacks (the exchange's time); None where no frame on one side of it is known."""
        runs = self._runs
        if not self.reaches(from_ns) or not any(run.last_ns >= to_ns for run in runs):
            return None
        return sum(
            hole.frames for hole in self.holes(float("inf")) if hole.last_ns <= to_ns and hole.next_ns >= from_ns
        )


def trade_id(payload: bytes) -> int | None:
    """The id in an aggTrade; None where it has none that can be followed."""
    at = payload.find(b'"a":')
    digits = payload[at + 4 : at + 24].partition(b",")[0]
    return number if at >= 0 and digits.isdigit() and (number := int(digits)) <= MOST_ID else None
