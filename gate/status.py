"""What the gate thinks, as tables: clocks, symbols, the last decisions."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from common.clock import SECOND_NS, iso
from common.gate import BEAT, EVENTS, STATE, TABLE, Decision, Start, Table, event_of, states_of, table_of
from common.wire import linked, pack, raise_first


class Seen(NamedTuple):
    """What Redis knows of the gate.

    Attributes:
        beat_ns: Its last sign; None when there never was one.
        table: Its numbers; None when it wrote none.
        states: The decisions that hold, by `<market>:<SYMBOL>`.
        events: The last ones, the newest first.
    """

    beat_ns: int | None
    table: Table | None
    states: dict[str, Decision]
    events: list[Decision | Start]


async def look(url: str, events: int) -> Seen:
    """Reads it.

    Args:
        url: The Redis server.
        events: How many of the last ones.

    Raises:
        LinkLost: Redis is away.
        ReplyError: It does not answer what it is asked.
        ValueError: Another version of the gate wrote what is there.
    """
    commands = (
        pack("GET", BEAT),
        pack("GET", TABLE),
        pack("HGETALL", STATE),
        pack("XREVRANGE", EVENTS, "+", "-", "COUNT", events),
    )
    async with linked(url, name="maserver-gate-status") as link:
        replies = await link.replies(b"".join(commands), len(commands), timeout_s=10.0)
    raise_first(replies)
    beat, table, states, entries = replies
    found = (event_of(fields) for _, fields in entries)
    return Seen(
        int(beat) if beat is not None else None,
        table_of(table) if table is not None else None,
        states_of(states),
        [event for event in found if event is not None],
    )


def render(seen: Seen, now_ns: int, silent_after_s: float) -> Group:
    """The tables, under a line that says whether the gate lives."""
    parts: list[RichTable | Text] = [_life(seen, now_ns, silent_after_s)]
    if seen.table is not None:
        parts += [_markets(seen.table), _symbols(seen.table, seen.states)]
    if seen.events:
        parts.append(_events(seen.events))
    return Group(*parts)


def _life(seen: Seen, now_ns: int, silent_after_s: float) -> Text:
    if seen.beat_ns is None:
        return Text("there is no gate: everything counts as open")
    age_s = (now_ns - seen.beat_ns) / SECOND_NS
    if age_s > silent_after_s:
        return Text(f"the gate has given no sign for {age_s:,.0f} s: everything counts as open", style="bold red")
    return Text(f"the gate lives; mode {seen.table.mode if seen.table else 'unknown'}")


def _markets(table: Table) -> RichTable:
    shown = RichTable("market", title="Clocks, ms")
    for name in ("offset", "± ", "round trip", "canary", "failed probes"):
        shown.add_column(name.strip(), justify="right")
    for market, now in sorted(table.markets.items()):
        shown.add_row(
            market,
            _ms(now.offset_ms, signed=True),
            _ms(now.uncertainty_ms),
            _ms(now.round_trip_ms),
            _ms(now.canary_ms),
            str(now.probe_failures),
        )
    return shown


def _symbols(table: Table, states: dict[str, Decision]) -> RichTable:
    shown = RichTable("market", "symbol", title="Latency, ms")
    for name in ("median", "samples", "closes above", "opens below"):
        shown.add_column(name, justify="right")
    for name in ("of", "gate", "latency", "since"):
        shown.add_column(name)
    for field, now in sorted(table.symbols.items()):
        market, _, symbol = field.partition(":")
        state = states.get(field)
        shown.add_row(
            market,
            symbol,
            _ms(now.median_ms),
            str(now.samples),
            f"{now.close_above_ms:g}",
            f"{now.open_below_ms:g}",
            now.source,
            _gate(state),
            _latency(state),
            iso(state.since_ns)[:19] + "Z" if state else "",
        )
    return shown


def _gate(state: Decision | None) -> Text:
    if state is None or state.stream_enable:
        return Text("open", style="green")
    return Text("closed" if state.mode == "pause" else "flagged", style="bold red")


def _latency(state: Decision | None) -> Text:
    if state is None:
        return Text("not judged yet")
    if state.clock_error:
        return Text("clock error", style="bold red")
    return Text("valid") if state.latency_valid else Text("not valid", style="yellow")


def _events(events: Iterable[Decision | Start]) -> RichTable:
    shown = RichTable("time (UTC)", "market", "symbol", "decision", "reason", title="Last decisions")
    for event in events:
        shown.add_row(iso(event.time_ns)[:19].replace("T", " "), *_told(event))
    return shown


def _told(event: Decision | Start) -> Sequence[str]:
    if isinstance(event, Start):
        return "", "", f"start, {event.mode}", f"{event.reason} ({event.symbols} symbols, {event.closed} closed)"
    return event.market, event.symbol, event.kind, event.reason


def _ms(value_ms: float | None, *, signed: bool = False) -> str:
    if value_ms is None:
        return "-"
    return f"{value_ms:+,.1f}" if signed else f"{value_ms:,.1f}"
