"""What the gate and the collectors tell each other through Redis: latency samples one way, decisions the other.

| key | kind | what |
|---|---|---|
| `md:latency:<market>` | stream | one entry a second: `c` collector, `t` wall clock in ns, `d` JSON, symbol to ms |
| `gate:state` | hash | `<market>:<SYMBOL>` to the decision that holds, JSON |
| `gate:events` | stream | `k` kind (`decision`, `start`), `d` JSON; written after `gate:state` |
| `gate:beat` | text | wall clock in ns, written each second: the gate lives |
| `gate:table` | text | the current numbers, JSON, for people |

A latency is receive time minus exchange event time, not corrected by the clocks' offset: the gate knows that. The two
must run on one clock, that is on one machine.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from common.wire import pack

STATE = "gate:state"
EVENTS = "gate:events"
BEAT = "gate:beat"
TABLE = "gate:table"

EVENTS_KEPT = 10_000
SAMPLES_KEPT = 300
"""Entries: five minutes of one collector."""


class Sample(Struct, frozen=True):
    """What a collector measured in one second.

    Attributes:
        collector: Its instance.
        at_ns: Wall clock.
        latencies_ms: Symbol to receive time minus event time of the second's frames.
    """

    collector: str
    at_ns: int
    latencies_ms: dict[str, float]


class Decision(Struct, frozen=True):
    """What the gate thinks of a symbol, and the numbers it thinks so by.

    Attributes:
        time_ns: When it was decided, wall clock.
        mode: `pause` (closed means not subscribed) or `flag` (closed means marked).
        stream_enable: Open.
        latency_valid: There are enough fresh samples and a plausible clock.
        clock_error: The latency is negative beyond all doubt: a clock is wrong.
        was_enable, was_valid: The flags before.
        median_ms: Latency, corrected by the offset; None without samples or offset.
        samples: How many it is the median of.
        source: Whose samples: `own`, `canary`, `market` (other symbols), `round trip` (half of it), `none`.
        offset_ms: Exchange's clock minus ours, and `uncertainty_ms`: how far that may be off. None when unknown.
        close_above_ms, open_below_ms, dwell_s: The thresholds that held.
        since_ns: Since when `stream_enable` is what it is.
        reason: In words.
    """

    time_ns: int
    market: str
    symbol: str
    mode: str
    stream_enable: bool
    latency_valid: bool
    clock_error: bool
    was_enable: bool
    was_valid: bool
    median_ms: float | None
    samples: int
    source: str
    offset_ms: float | None
    uncertainty_ms: float | None
    close_above_ms: float
    open_below_ms: float
    dwell_s: float
    since_ns: int
    reason: str

    @property
    def field(self) -> str:
        """Its place in `gate:state`."""
        return f"{self.market}:{self.symbol}"

    @property
    def kind(self) -> str:
        """What changed, in a word or two."""
        if self.clock_error:
            return "clock error"
        if self.stream_enable != self.was_enable:
            if self.stream_enable:
                return "opened"
            return "closed" if self.mode == "pause" else "flagged"
        return "latency valid" if self.latency_valid else "latency not valid"


class Start(Struct, frozen=True):
    """A gate that starts.

    Attributes:
        time_ns: Wall clock.
        instance: Of the gate.
        mode: `pause` or `flag`.
        away_s: How long no gate had given a sign; None when there never was one.
        symbols, closed: How many symbols its predecessor left, and how many of them closed.
        reason: In words, what became of them.
    """

    time_ns: int
    instance: str
    mode: str
    away_s: float | None
    symbols: int
    closed: int
    reason: str


class MarketNow(Struct, frozen=True):
    """A market's numbers: clock, round trip and canary, in ms; None when unknown."""

    offset_ms: float | None
    uncertainty_ms: float | None
    round_trip_ms: float | None
    canary_ms: float | None
    probe_failures: int


class SymbolNow(Struct, frozen=True, array_like=True):
    """A symbol's numbers: see `Decision`."""

    median_ms: float | None
    samples: int
    source: str
    close_above_ms: float
    open_below_ms: float


class Table(Struct, frozen=True):
    """The gate's numbers at a moment: market to its own, `<market>:<SYMBOL>` to its own."""

    time_ns: int
    mode: str
    markets: dict[str, MarketNow]
    symbols: dict[str, SymbolNow]


def samples_key(market: str) -> str:
    """The stream of a market's latency samples."""
    return f"md:latency:{market}"


def pack_sample(market: str, collector: str, at_ns: int, latencies_ms: Mapping[str, float]) -> bytes:
    """The command that writes a collector's sample: one entry for all symbols, the stream kept short."""
    latencies = {symbol: round(latency_ms, 3) for symbol, latency_ms in latencies_ms.items()}
    return pack(
        "XADD", samples_key(market), "MAXLEN", "~", SAMPLES_KEPT, "*",
        "c", collector, "t", at_ns, "d", msgspec.json.encode(latencies),
    )  # fmt: skip


def sample_of(fields: Sequence[bytes]) -> Sample:
    """The inverse of `pack_sample`, from an entry's names and values in turn.

    Raises:
        ValueError: The entry is not one that `pack_sample` writes.
    """
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        latencies = msgspec.json.decode(named[b"d"], type=dict[str, float])
        return Sample(named[b"c"].decode(), int(named[b"t"]), latencies)
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise ValueError(f"not a latency sample: {str(fields)[:200]}") from error


def pack_event(event: Decision | Start) -> bytes:
    """The command that writes an event, the stream kept short."""
    kind = "start" if isinstance(event, Start) else "decision"
    return pack("XADD", EVENTS, "MAXLEN", "~", EVENTS_KEPT, "*", "k", kind, "d", msgspec.json.encode(event))


def event_of(fields: Sequence[bytes]) -> Decision | Start | None:
    """The inverse of `pack_event`; None for a kind that this version does not know.

    Raises:
        ValueError: The entry has no kind, or not the content of its kind.
    """
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    kinds: dict[bytes, Any] = {b"decision": Decision, b"start": Start}
    if b"k" not in named or b"d" not in named:
        raise ValueError(f"not an event of the gate: {str(fields)[:200]}")
    kind = kinds.get(named[b"k"])
    return None if kind is None else _decode(named[b"d"], kind)


def pack_state(decision: Decision) -> bytes:
    """The command that makes a decision the one that holds."""
    return pack("HSET", STATE, decision.field, msgspec.json.encode(decision))


def states_of(flat: Sequence[bytes]) -> dict[str, Decision]:
    """What HGETALL of `gate:state` gave, by field; what cannot be read is left out."""
    found: dict[str, Decision] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        try:
            found[name.decode()] = _decode(value, Decision)
        except ValueError:
            continue  # of another version: the gate decides anew, and until then the symbol counts as open
    return found


def table_of(value: bytes) -> Table:
    """What is in `gate:table`.

    Raises:
        ValueError: It is not a table of this version.
    """
    table: Table = _decode(value, Table)
    return table


def _decode(value: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(f"{error}: {value[:200]!r}") from error
