"""Which symbols the settings ask for: names, `all`, patterns, and what patterns leave out. Pure.

`BTCUSDT` names a symbol. `*USDT` takes every symbol that ends so, and `all` every one; `!*DOWNUSDT` takes some of those
away again. A symbol that is named is recorded whatever is left out. What the exchange lists is not known here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Self

ALL = "all"
ANY = "*"
NOT = "!"
DATE = "_"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The setting `symbols`, read.

    Attributes:
        names: Symbols that are named.
        patterns: Patterns that take symbols; `all` is `*`.
        left_out: Patterns, or names, that take away what a pattern took.
    """

    names: tuple[str, ...]
    patterns: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def read(cls, entries: Iterable[str]) -> Self:
        """Reads entries that `problem` lets pass."""
        taking = [ANY if entry == ALL else entry for entry in entries if not entry.startswith(NOT)]
        return cls(
            names=tuple(entry for entry in taking if ANY not in entry),
            patterns=tuple(dict.fromkeys(entry for entry in taking if ANY in entry)),
            left_out=tuple(entry.removeprefix(NOT) for entry in entries if entry.startswith(NOT)),
        )

    def takes(self, symbol: str, *, is_dated: bool = False) -> bool:
        """Whether a pattern takes it and none leaves it out.

        Args:
            symbol: What the exchange calls it.
            is_dated: A contract with a date, `BTCUSDT_261225`: only a pattern that has `_` in it takes that.
        """
        patterns = [pattern for pattern in self.patterns if DATE in pattern] if is_dated else self.patterns
        return any(fits(pattern, symbol) for pattern in patterns) and not any(
            fits(pattern, symbol) for pattern in self.left_out
        )


def fits(pattern: str, symbol: str) -> bool:
    """Whether the symbol is as the pattern says; `*` stands for any characters, also none."""
    return _compiled(pattern).fullmatch(symbol) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split(ANY))))


def problem(entry: str) -> str | None:
    """What is wrong with one entry of the setting `symbols`; None when nothing is."""
    name = entry.removeprefix(NOT)
    if entry == ALL:
        return None
    if name.lower() == ALL:
        return f"{entry!r} is no symbol; write {ALL} for every symbol, or name each, as in BTCUSDT"
    # letters of any script: 测试USDT is a symbol of the exchange's testnet; no separators of keys and paths
    if not name or not all(char.isalnum() or char in (DATE, ANY) for char in name):
        if ANY in name:
            return f"{entry!r} is no pattern; a pattern has letters, digits, _ and * only, as in *USDT"
        return f"{entry!r} is no symbol; a symbol has letters, digits and _ only, as in BTCUSDT"
    if name != name.upper():
        what = "pattern" if ANY in name else "symbol"
        return f"{what} {entry!r} is not in upper case; write {NOT if entry != name else ''}{name.upper()}"
    return None


def contradiction(entries: Iterable[str]) -> str | None:
    """What is wrong with the entries together, each of them being good; None when nothing is."""
    wanted = Wanted.read(list(entries))
    if not wanted.names and not wanted.patterns:
        return f"only leaves symbols out; say what to record too, as in {ALL}, {NOT}{wanted.left_out[0]}"
    both = next((name for name in wanted.names if name in wanted.left_out), None)
    if both is not None:
        return f"{both} is named and left out; remove one of the two"
    if wanted.left_out and not wanted.patterns:
        return f"{NOT}{wanted.left_out[0]} leaves nothing out: no pattern stands beside it; remove it, or add {ALL}"
    return None
