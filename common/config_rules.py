"""What a setting's value must be, and how to say so when it is not. Pure: no file, no environment.

The rules come from the types in `common.settings`; the few that types cannot say (symbols, addresses, settings that
contradict one another) are here.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import inspect

from common import symbols
from common.channels import CHANNELS, MARKETS
from common.settings import Settings, from_path
from common.streams import is_symbol
from common.thresholds import BadOverride, Thresholds, ThresholdTable, parse


class BadValue(Exception):
    """A value that its setting does not allow; the message says what was expected, and what came."""


def show(value: Any) -> str:
    """A value as the user wrote it, shortened."""
    if isinstance(value, bool):
        return f"{str(value).lower()} (a yes/no value)"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...") if isinstance(value, str) else text


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known word nearest to this one, else nothing."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean {by_lower[found[0]]}?" if found else ""


def from_text(field: msgspec.structs.FieldInfo, text: str) -> Any:
    """A variable's text as the type of its field; what is no number stays text, for `convert` to refuse."""
    kind, _ = _kind(field)
    if isinstance(kind, inspect.ListType):
        return [part.strip() for part in text.split(",")]
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def convert(field: msgspec.structs.FieldInfo, value: Any) -> Any:
    """The value as its field's type.

    Raises:
        BadValue: The type, the bounds or the field's own rule forbid it.
    """
    kind, extra = _kind(field)
    if isinstance(kind, inspect.FloatType) and isinstance(value, int | float) and not math.isfinite(value):
        raise BadValue(f"expected {_expected(kind)}, got {value}")
    try:
        value = msgspec.convert(value, field.type, dec_hook=from_path)
    except msgspec.ValidationError:
        words = [str(word) for word in kind.values] if isinstance(kind, inspect.LiteralType) else []
        near = nearest(value, words) if isinstance(value, str) else ""
        got = _first_odd(value) if isinstance(value, list) else show(value)
        raise BadValue(f"expected {_expected(kind)}, got {got}{near}") from None
    if "schemes" in extra:
        return _address(value, extra["schemes"])
    if "symbol" in extra and not is_symbol(value):
        raise BadValue(f"{value!r} is no symbol; a symbol is in upper case, as in BTCUSDT")
    if isinstance(kind, inspect.ListType):
        _check_list(field.name, value)
    return value


def _kind(field: msgspec.structs.FieldInfo) -> tuple[inspect.Type, dict[str, Any]]:
    kind = inspect.type_info(field.type)
    if isinstance(kind, inspect.Metadata):
        return kind.type, kind.extra or {}
    return kind, {}


def _expected(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        words = ["a whole number" if isinstance(kind, inspect.IntType) else "a number"]
        words += [f"from {kind.ge}"] if kind.ge is not None else []
        words += [f"above {kind.gt}"] if kind.gt is not None else []
        words += [f"{'to' if kind.ge is not None else 'and at most'} {kind.le}"] if kind.le is not None else []
        words += [f"and below {kind.lt}"] if kind.lt is not None else []
        return " ".join(words)
    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, inspect.ListType):
        return "a list of names in brackets, as in [NAME, NAME]"
    return "a path" if isinstance(kind, inspect.CustomType) else "text"


def _first_odd(values: list[Any]) -> str:
    at, value = next((at, value) for at, value in enumerate(values, 1) if not isinstance(value, str))
    hint = "; put it into quotes" if isinstance(value, int | float) else ""
    return f"{show(value)} as number {at}{hint}"


def _address(url: str, schemes: tuple[str, ...]) -> str:
    """An address without a trailing slash. A bad one is not repeated: it may hold a password."""
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(url)
        port_fits = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        raise BadValue(f"is no valid address; expected {wanted}HOST[:PORT]") from None
    if parts.scheme not in schemes:
        got = f"{parts.scheme}://" if "://" in url else "no scheme"
        raise BadValue(f"expected an address that starts with {wanted}, got {got}")
    if not port_fits or not (parts.path if parts.scheme == "unix" else parts.hostname):
        rest = "/PATH" if parts.scheme == "unix" else "HOST[:PORT]"
        raise BadValue(f"is no valid address; expected {parts.scheme}://{rest}")
    return url.rstrip("/")


def _check_list(name: str, values: list[str]) -> None:
    if name == "overrides" and not values:
        return
    if not values or values == [""]:
        raise BadValue(f"is empty; name at least one of the {name}")
    problems = [problem for value in values if (problem := _CHECKS[name](value))]
    if problems:
        raise BadValue("; ".join(problems))
    twice = next((value for at, value in enumerate(values) if value in values[:at]), None)
    if twice is not None:
        raise BadValue(f"{twice} stands twice; remove one of the two")
    if name == "symbols" and (together := symbols.contradiction(values)):
        raise BadValue(together)


def _check_market(market: str) -> str | None:
    if market not in MARKETS:
        return f"unknown market {market!r}; known are {', '.join(MARKETS)}{nearest(market, MARKETS)}"
    return None


def _check_channel(channel: str) -> str | None:
    if channel not in CHANNELS:
        return f"unknown channel {channel!r}; known are {', '.join(CHANNELS)}{nearest(channel, CHANNELS)}"
    return None


def _check_override(text: str) -> str | None:
    try:
        parse(text)
    except BadOverride as bad:
        return f"{bad}{nearest(bad.word, bad.known) if bad.word else ''}"
    return None


_CHECKS: dict[str, Callable[[str], str | None]] = {
    "symbols": symbols.problem,
    "markets": _check_market,
    "channels": _check_channel,
    "overrides": _check_override,
}


def contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    """(dotted key, what is wrong) for each setting that contradicts another."""
    for name in settings.channels:
        homes = CHANNELS[name].routes
        if not any(market in homes for market in settings.markets):
            yield (
                "channels",
                (
                    f"{name} is a channel of {', '.join(homes)}, and markets has only {', '.join(settings.markets)}; "
                    f"add the market or remove the channel"
                ),
            )
    for section, lower, upper in (
        ("ingest", "backoff_first_s", "backoff_max_s"),
        ("ingest", "batch_bytes", "hold_bytes"),
        ("archiver", "poll_min_ms", "poll_max_ms"),
        ("gate", "open_below_ms", "close_above_ms"),
        ("gate", "samples", "window"),
    ):
        low, high = (getattr(getattr(settings, section), name) for name in (lower, upper))
        if low > high:
            yield f"{section}.{lower}", f"{low:g} is more than {section}.{upper} ({high:g})"
    yield from _override_contradictions(settings)


def _override_contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    """Overrides of one thing twice, of a symbol that is not recorded, or that would never open again."""
    gate, targets = settings.gate, set()
    defaults = Thresholds(gate.close_above_ms, gate.open_below_ms, gate.dwell_s)
    wanted = symbols.Wanted.read(settings.symbols)
    for market, symbol, _ in map(parse, gate.overrides):
        target = f"{market}:{symbol}" if symbol else market
        merged = ThresholdTable(defaults, gate.overrides).of(market, symbol)
        if target in targets:
            yield "gate.overrides", f"{target} stands twice; remove one of the two"
        elif symbol and symbol not in wanted.names and not any(symbols.fits(one, symbol) for one in wanted.patterns):
            yield "gate.overrides", f"symbols has no {symbol}{nearest(symbol, wanted.names)}"
        elif merged.open_below_ms > merged.close_above_ms and gate.open_below_ms <= gate.close_above_ms:
            yield (
                "gate.overrides",
                f"{target}: open_below_ms ({merged.open_below_ms:g}) is more than close_above_ms "
                f"({merged.close_above_ms:g})",
            )
        targets.add(target)
