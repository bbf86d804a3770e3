"""How long to wait before trying again: doubling, capped, with jitter."""

import random

FIRST_S = 0.1
MOST_S = 2.0


class Backoff:
    """Delays that double from the first to the longest, each between half of its step and the whole of it.

    Args:
        first_s: The first step.
        most_s: The longest.
    """

    def __init__(self, first_s: float = FIRST_S, most_s: float = MOST_S) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self.tries = 0

    def next(self) -> float:
        """The next delay, in s."""
        step_s = min(self._most_s, self._first_s * float(2 ** min(self.tries, 16)))
        self.tries += 1
        return step_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The next delay is of the first step again."""
        self.tries = 0
