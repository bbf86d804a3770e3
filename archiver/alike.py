"""Lines that differ in their digits only, taken apart all at once.

The books of one symbol differ from each other in their numbers and in nothing else. The runs of digits of a whole
minute are found in one pass, and what stands between them is compared with the first line's. So whatever is true of the
first line's shape is true of all, and a number is read from where its run ends. That costs 4 us a frame of 1 KB;
splitting, validating and decoding the same lines one by one costs six times that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

DIGITS = b"0123456789"
_ZERO = ord("0")
_WORD = 8
_MOST_DIGITS = 19
_PAD = b"\0" * _WORD
_LAST = np.array([2**64 - 2 ** (64 - 8 * kept) for kept in range(_WORD + 1)], np.uint64)
_LEAST = np.array([0, 0, *(10**digits for digits in range(1, _MOST_DIGITS))], np.uint64)
"""The least number of so many digits that has no zero in front."""


@dataclass(frozen=True, eq=False)
class Alike:
    """Lines of one shape, without a backslash.

    Attributes:
        first: The first line with its `\\n`.
        count: How many lines there are.
        starts: Where each run of digits starts, as an offset into the text; a row for each line.
        ends: Where each run ends.
    """

    first: bytes
    count: int
    starts: Integers
    ends: Integers
    _padded: bytes

    @classmethod
    def of(cls, text: bytes) -> Self | None:
        """Takes lines that each end with `\\n` apart; None where two of them differ in more than digits.

        A line has at least one digit, and none at its start.
        """
        first = text[: text.find(b"\n") + 1]
        if not first or not text.endswith(b"\n") or first[:1].isdigit() or b"\\" in first:
            return None
        is_digit = (np.frombuffer(text, np.uint8) - _ZERO) < 10  # below '0' wraps to above 9
        edges = np.flatnonzero(is_digit[1:] != is_digit[:-1])
        edges += 1
        runs = int(np.searchsorted(edges, len(first))) // 2
        if not runs or len(edges) % (2 * runs):
            return None
        if text.translate(None, DIGITS) != first.translate(None, DIGITS) * (len(edges) // (2 * runs)):
            return None
        # the same characters between the digits; and as many of them from run to run as one line before
        widths = edges[2::2] - edges[1:-1:2]
        if (widths[runs:] != widths[:-runs]).any():
            return None
        pairs = edges.reshape(-1, 2 * runs)
        if len(pairs) > 1 and pairs[1, 0] != len(first) + pairs[0, 0]:
            return None
        return cls(first, len(pairs), pairs[:, 0::2], pairs[:, 1::2], _PAD + text)

    @cached_property
    def _words(self) -> _Words:
        """The eight bytes that end before each offset of the text."""
        return np.ndarray((len(self._padded) - _WORD + 1,), np.dtype("<u8"), self._padded, strides=(1,))

    def runs(self, start: int, stop: int) -> range:
        """Which runs of digits start in a piece of the first line."""
        found = np.searchsorted(self.starts[0], (start, stop))
        return range(int(found[0]), int(found[1]))

    @cached_property
    def numbers(self) -> dict[int, Integers] | None:
        """The numbers that stand outside of texts, by their runs.

        None if one is none in JSON, because it has a zero in front, or does not fit into 63 bits.
        """
        quotes = np.flatnonzero(np.frombuffer(self.first, np.uint8) == ord('"'))
        runs = np.flatnonzero(np.searchsorted(quotes, self.starts[0]) % 2 == 0)
        if not len(runs):
            return {}
        found, lengths = self._integers(runs)
        if found is None or (found < _LEAST[lengths]).any() or (found >> np.uint64(63)).any():
            return None
        return dict(zip(runs.tolist(), found.view(np.int64), strict=True))

    def are_constant(self, runs: Sequence[int]) -> bool:
        """Whether each of these runs has the same digits in each line."""
        if not runs:
            return True
        found, lengths = self._integers(np.array(runs))
        return found is not None and bool((found == found[:, :1]).all() and (lengths == lengths[:, :1]).all())

    def _integers(self, runs: Integers) -> tuple[_Words | None, Integers]:
        """The numbers and lengths of runs, a row for each run; None where one has more than 19 digits."""
        ends = np.ascontiguousarray(self.ends[:, runs].T)
        lengths = ends - self.starts[:, runs].T
        most = int(lengths.max())
        return (None if most > _MOST_DIGITS else self._whole(ends, lengths, most)), lengths

    def _whole(self, ends: Integers, lengths: Integers, most: int) -> _Words:
        """The numbers of runs that end and are as long as told; the longest has `most` digits."""
        found = _digits(_last(self._words[ends], np.minimum(lengths, _WORD) if most > _WORD else lengths))
        for power in range(_WORD, most, _WORD):
            # what lies before the run's start counts for nothing, not even where it lies before the text
            words = self._words[np.maximum(ends - power, 0)]
            found += _digits(_last(words, np.clip(lengths - power, 0, _WORD))) * np.uint64(10**power)
        return found

    def decimals(self, runs: slice, fractions: slice | None) -> tuple[Integers, int] | None:
        """Decimals that all have the same number of digits behind the point.

        Args:
            runs: The runs in front of the point.
            fractions: The runs behind it, of as many; None where the numbers have no point.

        Returns:
            The integers without the point, a row for each line, and how many digits are behind it. None if these
            differ, if a number has a zero in front (`00.1`), or more than 18 digits.
        """
        ends = np.ascontiguousarray(self.ends[:, runs])
        lengths = ends - self.starts[:, runs]
        most = int(lengths.max())
        places = 0
        if fractions is not None:
            widths = self.ends[:, fractions] - self.starts[:, fractions]
            places = int(widths[0, 0])
            if places > _WORD or (widths != places).any():
                return None
        if most + places >= _MOST_DIGITS:
            return None
        if not places:
            units = self._whole(ends, lengths, most)
        elif most + 1 + places <= _WORD:
            # all of it is in one word: what is before the point moves up to what is behind it
            words = self._words[ends + (1 + places)]
            bits = np.uint64(8 * places)
            whole = _last(words << (bits + np.uint64(8)), lengths)
            whole >>= bits
            words &= _LAST[places]
            words |= whole
            units = _digits(words)
        else:
            fraction = _digits(self._words[ends + (1 + places)] & _LAST[places])
            units = self._whole(ends, lengths, most) * np.uint64(10**places) + fraction
        if (units < (_LEAST * np.uint64(10**places))[lengths]).any():
            return None
        return units.view(np.int64), places


def _last(words: _Words, lengths: Integers) -> _Words:
    """Clears all but the last so many characters, 0 to 8, of words of eight."""
    return words & _LAST[lengths]


def _digits(words: _Words) -> _Words:
    """The number that each eight characters are, the first in the lowest byte; a cleared character counts as 0.

    Pairs, then fours, then eights, each in one multiplication (Lemire, "Quickly parsing eight digits", 2018).
    """
    words = words & np.uint64(0x0F0F0F0F0F0F0F0F)
    words *= np.uint64(2561)
    words >>= np.uint64(8)
    words &= np.uint64(0x00FF00FF00FF00FF)
    words *= np.uint64(6553601)
    words >>= np.uint64(16)
    words &= np.uint64(0x0000FFFF0000FFFF)
    words *= np.uint64(42949672960001)
    words >>= np.uint64(32)
    return words
