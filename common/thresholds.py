"""The gate's thresholds: the defaults of the section `gate`, overridden for a market or a symbol (`gate.overrides`).

An override is one text, `um close_above_ms=800` or `um:BTCUSDT close_above_ms=500 open_below_ms=300`; that of a symbol
goes over that of its market. Pure.
"""

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from common.channels import MARKETS
from common.streams import is_symbol

MOST = {"close_above_ms": 60_000.0, "open_below_ms": 60_000.0, "dwell_s": 86_400.0}
"""What can be overridden, and its largest value."""


class Thresholds(Struct, frozen=True):
    """When the gate changes its mind about a symbol.

    Attributes:
        close_above_ms: A median above this closes.
        open_below_ms: A median below this opens; in between nothing changes.
        dwell_s: How long the gate stays open, or closed, at least.
    """

    close_above_ms: float = 2000.0
    open_below_ms: float = 1000.0
    dwell_s: float = 10.0


class BadOverride(ValueError):
    """A text that is no override.

    Attributes:
        word: What is unknown in it, and `known` what there is; empty where the message says all.
    """

    def __init__(self, message: str, word: str = "", known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.word = word
        self.known = known


def parse(text: str) -> tuple[str, str, dict[str, float]]:
    """An override's market, symbol (empty for the whole market) and thresholds.

    Raises:
        BadOverride: An unknown market or threshold, no symbol, no number, or nothing to override.
    """
    target, *changes = text.split() or [""]
    market, _, symbol = target.partition(":")
    if market not in MARKETS:
        raise BadOverride(f"unknown market {market!r}; known are {', '.join(MARKETS)}", market, MARKETS)
    if ":" in target and not is_symbol(symbol):
        raise BadOverride(f"{symbol!r} is no symbol; write MARKET:SYMBOL in upper case, as in um:BTCUSDT")
    values: dict[str, float] = {}
    for change in changes:
        name, _, number = change.partition("=")
        if name not in MOST:
            raise BadOverride(f"unknown threshold {name!r}; known are {', '.join(MOST)}", name, tuple(MOST))
        if name in values:
            raise BadOverride(f"{name} stands twice for {target}")
        values[name] = _number(name, number)
    if not values:
        raise BadOverride(f"{target!r} overrides nothing; write it as in um:BTCUSDT close_above_ms=500")
    return market, symbol, values


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= MOST[name]:
        raise BadOverride(f"{name}: expected a number above 0 and at most {MOST[name]:.0f}, got {text!r}")
    return number


class ThresholdTable:
    """The thresholds of each symbol.

    Args:
        defaults: For everything.
        overrides: As in the settings; each is one that `parse` takes.
    """

    def __init__(self, defaults: Thresholds, overrides: Iterable[str]) -> None:
        self._defaults = defaults
        self._overrides = {(market, symbol): values for market, symbol, values in map(parse, overrides)}

    def of(self, market: str, symbol: str) -> Thresholds:
        """The thresholds of a symbol; those of the market for the empty symbol."""
        changes = self._overrides.get((market, ""), {}) | self._overrides.get((market, symbol), {})
        return structs.replace(self._defaults, **changes)
