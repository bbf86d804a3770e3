"""How long a stream may be silent: learned from the pauses that it makes; pure (DESIGN section 4).

A pause is the time between two frames. Of all pauses of a stream the longest thousandth part says what is usual; a
multiple of that, within a floor and a ceiling, is a silence that should not be. Old pauses are forgotten.
"""

FLOOR_S = 5.0
"""No silence shorter than this is one: networks and exchanges have hiccups."""

CEILING_S = 300.0
"""A stream whose usual silence is longer proves nothing by being silent."""

FACTOR = 3.0
LEARNED = 40
"""With fewer pauses a stream's pace is not known yet."""

GUESSED = 5
GUESS_FACTOR = 10.0
"""From so many pauses on it may be guessed, with more room."""

_SIZES = 24
_FORGET = 8192


class Pace:
    """The pauses of one stream: counts by size, each size twice the one before, from 1 ms."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * _SIZES
        self._total = 0

    def add(self, pause_s: float, count: int = 1) -> None:
        """Takes `count` pauses of this length, in s."""
        size = min(int(pause_s * 1000).bit_length(), _SIZES - 1)
        self._counts[size] += count
        self._total += count
        if self._total > _FORGET:
            self._counts = [each >> 1 for each in self._counts]
            self._total = sum(self._counts)

    @property
    def is_learned(self) -> bool:
        return self._total >= LEARNED

    @property
    def is_guessed(self) -> bool:
        """Whether enough is known for a limit, learned or not."""
        return self._total >= GUESSED

    @property
    def usual_s(self) -> float | None:
        """What only one pause in a thousand exceeds, in s; None while too few are known."""
        return self._longest_s() if self.is_learned else None

    def _longest_s(self) -> float:
        above = self._total
        for size, count in enumerate(self._counts):
            above -= count
            if above * 1000 <= self._total:
                return (1 << size) / 1000
        return (1 << _SIZES) / 1000

    @property
    def limit_s(self) -> float | None:
        """A longer silence should not be, in s; None where no silence proves anything, or nothing is known."""
        if not self.is_guessed:
            return None
        limit_s = self._longest_s() * (FACTOR if self.is_learned else GUESS_FACTOR)
        return None if limit_s > CEILING_S else max(FLOOR_S, limit_s)
