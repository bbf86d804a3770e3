"""Whether Redis takes what it gets, and makes it durable: pure.

`WAITAOF` under `everysec` takes up to two seconds on a busy machine: where three seconds are not waited for, batches
are written to disk for nothing.
"""

from dataclasses import dataclass

AWAY_S = 1.0
"""Without a connection for so long Redis is away."""
STUCK_S = 3.0
"""Without progress for so long it is stuck."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What was last heard of Redis; all times in s of one monotonic clock.

    Attributes:
        now_s: Now.
        lost_s: When the connection was lost; None while there is one.
        accepted_s: When Redis last accepted something.
        covered_s: When something was last durable.
        unaccepted_s: When the oldest batch came that is not accepted; None where there is none.
        uncovered_s: When the oldest batch was accepted that is not durable; None where there is none.
    """

    now_s: float
    lost_s: float | None
    accepted_s: float
    covered_s: float
    unaccepted_s: float | None
    uncovered_s: float | None

    @property
    def is_away(self) -> bool:
        """Redis cannot be reached, for longer than a restart takes."""
        return self.lost_s is not None and self.now_s - self.lost_s > AWAY_S

    @property
    def is_stuck(self) -> bool:
        """It is away, or what is in flight makes no progress."""
        return (
            self.is_away
            or self._stands(self.unaccepted_s, self.accepted_s)
            or self._stands(self.uncovered_s, self.covered_s)
        )

    @property
    def is_behind(self) -> bool:
        """It is stuck, or takes so little that the oldest waits for longer than it may."""
        return self.is_stuck or (self.unaccepted_s is not None and self.now_s - self.unaccepted_s > STUCK_S)

    def _stands(self, oldest_s: float | None, moved_s: float) -> bool:
        return oldest_s is not None and self.now_s - max(oldest_s, moved_s) > STUCK_S
