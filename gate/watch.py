"""The gate's loop: each second it reads the collectors' samples, judges, and writes what it decided.

It goes on while Redis is away: probes and canary measure, and what was decided is written when Redis is back.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from common.backoff import Backoff
from common.clock import SECOND_NS, now_ns
from common.gate import BEAT, STATE, Decision, MarketNow, Start, Table, sample_of, samples_key, states_of
from common.service import Service
from common.wire import Link, LinkLost, ReplyError, linked, pack
from gate.market import Market
from gate.publisher import Publisher

log = logging.getLogger(__name__)

TICK_S = 1.0
TABLE_S = 5.0
READ_COUNT = 1000
STEP_MS = 100.0
"""Our wall clock against the monotonic one: a jump of so much in a second is no drift."""
WARN_OFFSET_MS = 500.0
NAMED = 3
"""Symbols named in a line of the log; the rest is counted."""


class Watch:
    """Watches over all markets.

    Args:
        service: The frame.
        markets: Each with its prober's `want`.
    """

    def __init__(self, service: Service, markets: Iterable[Market], want_probe: Callable[[str], None]) -> None:
        self._service = service
        self._settings = service.settings.gate
        self._markets = {market.name: market for market in markets}
        self._want_probe = want_probe
        self._publisher = Publisher()
        self._last: dict[str, bytes] = {}
        self._is_restored = False
        self._is_refused = False
        self._wall_minus_s: float | None = None
        self._told_offsets: set[str] = set()
        self._next_table_s = 0.0
        self.bad_samples = 0
        self.clock_steps = 0
        self.numbers: dict[str, MarketNow] = {}
        """As of the last second: `/metrics` is read in another thread."""

    async def run(self) -> None:
        """Watches until it is cancelled."""
        backoff = Backoff()
        while True:
            try:
                async with linked(self._service.settings.redis_url, name="maserver-gate") as link:
                    if backoff.tries:
                        log.info("redis is back")
                    await self._watch(link, backoff)
            except (LinkLost, ReplyError) as error:
                if isinstance(error, ReplyError) and not error.passes:
                    raise
                if not backoff.tries:
                    log.warning("redis is away: %s", error)
                self._tick_alone()
                await asyncio.sleep(backoff.next())

    async def _watch(self, link: Link, backoff: Backoff) -> None:
        if not self._is_restored:
            await self._restore(link)
        next_s = time.monotonic()
        while True:
            await self._read(link)
            self._judge()
            await self._write(link)
            backoff.reset()
            self._service.health.beat("redis")
            next_s = max(next_s + TICK_S, time.monotonic())
            await asyncio.sleep(next_s - time.monotonic())

    def _tick_alone(self) -> None:
        """Without Redis: only what needs no samples of others is judged, once the last state is known."""
        if self._is_restored:
            self._judge()

    # The start.

    async def _restore(self, link: Link) -> None:
        """Takes over what a predecessor decided, unless it has been silent for so long that nobody believes it."""
        beat = await link.call("GET", BEAT)
        states = states_of(await link.call("HGETALL", STATE))
        now_s, at_ns = time.monotonic(), now_ns()
        away_s = max(0.0, (at_ns - int(beat)) / SECOND_NS) if beat and beat.isdigit() else None
        is_away = away_s is None or away_s > self._settings.silent_after_s
        taken = {field: decision for field, decision in states.items() if decision.market in self._markets}
        self._publisher.forget(states.keys() - taken.keys())
        closed = sum(not decision.stream_enable for decision in taken.values())
        if away_s is None:
            reason = "there was no gate before"
        elif is_away:
            reason = f"no gate for {away_s:.0f} s: everything counts as open"
        else:
            reason = f"takes over after {away_s:.1f} s"
        start = Start(at_ns, self._service.instance, self._settings.mode, away_s, len(taken), closed, reason)
        log.info("%s; %d symbols known, %d of them closed; mode %s", reason, len(taken), closed, self._settings.mode)
        self._publisher.say([start])
        changes = [
            self._markets[decision.market].restore(decision, away=is_away, now_s=now_s, now_ns=at_ns)
            for decision in taken.values()
        ]
        self._say([change for change in changes if change is not None])
        self._is_restored = True

    # Each second.

    async def _read(self, link: Link) -> None:
        """What the collectors wrote; the first time all that is there, of which the old is left out."""
        commands = [
            pack("XREAD", "COUNT", READ_COUNT, "STREAMS", samples_key(name), self._last.get(name, b"0-0"))
            for name in self._markets
        ]
        for name, reply in zip(
            self._markets, await link.replies(b"".join(commands), len(commands), timeout_s=5.0), strict=True
        ):
            if isinstance(reply, ReplyError):
                if reply.passes:
                    continue
                raise reply
            for entry_id, fields in reply[0][1] if reply else ():
                self._last[name] = entry_id
                self._take(name, fields)

    def _take(self, name: str, fields: list[bytes]) -> None:
        try:
            sample = sample_of(fields)
        except ValueError as error:
            if not self.bad_samples:
                log.error("an entry of %s is left out: %s", samples_key(name), error)
            self.bad_samples += 1
            return
        if self._markets[name].take(sample, time.monotonic(), now_ns()):
            self._service.health.beat("measured")

    def _judge(self) -> None:
        now_s, at_ns = time.monotonic(), now_ns()
        self._look_at_clock(now_s, at_ns)
        for market in self._markets.values():
            decisions = market.judge(now_s, at_ns)
            self._say(decisions)
            if any(decision.clock_error or decision.kind == "closed" for decision in decisions):
                self._want_probe(market.name)
            self._publisher.forget(f"{market.name}:{symbol}" for symbol in market.forget(now_s))
            self._tell_offset(market, now_s)
            self.numbers[market.name] = market.now(now_s)

    def _look_at_clock(self, now_s: float, at_ns: int) -> None:
        """A step of our clock (somebody set it, or the machine slept) makes all that was measured with it worthless."""
        difference_s = at_ns / 1e9 - now_s
        before_s, self._wall_minus_s = self._wall_minus_s, difference_s
        if before_s is None or abs(difference_s - before_s) * 1000 < STEP_MS:
            return
        log.warning("our clock jumped by %+.3f s: measuring anew", difference_s - before_s)
        self.clock_steps += 1
        for market in self._markets.values():
            market.clock_stepped(now_s)
            self._want_probe(market.name)

    def _tell_offset(self, market: Market, now_s: float) -> None:
        clock = market.offsets.best(now_s)
        is_off = clock is not None and abs(clock.offset_ms) - clock.uncertainty_ms > WARN_OFFSET_MS
        if clock is not None and is_off and market.name not in self._told_offsets:
            log.warning(
                "%s: our clock is %+.0f ms off (± %.0f): latencies are corrected by it, receive times are not; "
                "set it with NTP", market.name, -clock.offset_ms, clock.uncertainty_ms,
            )  # fmt: skip
        (self._told_offsets.add if is_off else self._told_offsets.discard)(market.name)

    def _say(self, decisions: list[Decision]) -> None:
        """Hands decisions over to be written, and tells each kind of them in one line."""
        self._publisher.say(decisions)
        kinds: dict[tuple[str, str], list[Decision]] = {}
        for decision in decisions:
            kinds.setdefault((decision.market, decision.kind), []).append(decision)
        for (market, kind), same in kinds.items():
            names = ", ".join(decision.symbol for decision in same[:NAMED])
            more = f" and {len(same) - NAMED} more" if len(same) > NAMED else ""
            tell = log.info if kind in ("opened", "latency valid") else log.warning
            tell("%s: %s%s: %s: %s", market, names, more, kind, same[0].reason)

    async def _write(self, link: Link) -> None:
        now_s = time.monotonic()
        table = None
        if now_s >= self._next_table_s:
            table, self._next_table_s = self._table(), now_s + TABLE_S
        refusal = await self._publisher.flush(link, now_ns(), table)
        if (refusal is not None) != self._is_refused:
            self._is_refused = refusal is not None
            if refusal is not None:
                log.warning("redis takes nothing, trying again each second: %s", refusal)
            else:
                log.info("redis takes everything again")

    def _table(self) -> Table:
        symbols = {
            f"{market.name}:{name}": numbers
            for market in self._markets.values()
            for name, (numbers, _) in market.symbols_now().items()
        }
        return Table(now_ns(), self._settings.mode, self.numbers, symbols)

    @property
    def waiting(self) -> int:
        """Decisions and events that Redis has not taken yet."""
        return self._publisher.waiting
