"""What the gate has decided, as a collector sees it: which symbols are closed, and since when.

It fails open: without a gate, with one that has given no sign for a while, or without Redis, everything counts as open.
How long a gate has been silent is measured by the monotonic clock from when its sign last changed; only the very first
sign is judged by the wall clock.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from common.backoff import Backoff
from common.clock import SECOND_NS, now_ns
from common.gate import BEAT, EVENTS, STATE, Decision, event_of, states_of
from common.wire import Link, LinkLost, ReplyError, linked, pack, raise_first

log = logging.getLogger(__name__)

READ_S = 1.0
WHOLE_S = 30.0
"""The whole state is read so often, and what changed in between each second."""
FIRST_READ_S = 2.0
REPLY_S = 5.0
EVENTS_AT_ONCE = 1000


def _nothing() -> None:
    return


class Gatekeeper:
    """Follows the gate.

    Args:
        url: The Redis server.
        markets: Whose symbols matter.
        silent_after_s: Without a sign for so long the gate is not believed.

    Attributes:
        alive: A gate gives its signs.
        mode: `pause` or `flag`, as the gate last said.
        on_change: Called when `closed` or `flagged` gives something else than before, for any symbol.
        first_read: Set when the state has been read, or could not be within 2 s: then all counts as open.
    """

    def __init__(self, url: str, markets: Iterable[str], *, silent_after_s: float = 15.0) -> None:
        self._url = url
        self._markets = frozenset(markets)
        self._silent_after_s = silent_after_s
        self._shut: dict[tuple[str, str], Decision] = {}
        self._beat: bytes | None = None
        self._beat_s = float("-inf")
        self._last_event = b"0-0"
        self._next_whole_s = float("-inf")
        self._seen: frozenset[tuple[str, str, str]] = frozenset()
        self._was_there = False
        self.alive = False
        self.mode = "pause"
        self.on_change: Callable[[], None] = _nothing
        self.first_read = asyncio.Event()

    # What a collector asks.

    def closed(self, market: str, symbol: str) -> bool:
        """Whether the symbol is not to be subscribed now."""
        decision = self.decision(market, symbol)
        return decision is not None and decision.mode == "pause"

    def flagged(self, market: str, symbol: str) -> bool:
        """Whether the symbol is to be recorded and marked."""
        decision = self.decision(market, symbol)
        return decision is not None and decision.mode == "flag"

    def since_ns(self, market: str, symbol: str) -> int | None:
        """Since when it is closed or flagged, wall clock; None when it is neither."""
        decision = self.decision(market, symbol)
        return None if decision is None else decision.since_ns

    def decision(self, market: str, symbol: str) -> Decision | None:
        """The decision by which it is closed or flagged, with its numbers and reason; None when it is neither."""
        return self.shut().get((market, symbol))

    def shut(self) -> Mapping[tuple[str, str], Decision]:
        """Market and symbol of all that is closed or flagged, with the decision that made it so."""
        return self._shut if self.alive else {}

    # How it knows.

    async def run(self) -> None:
        """Follows until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="gate")
            group.create_task(self._mind(), name="gate's signs")

    async def _follow(self) -> None:
        backoff = Backoff()
        while True:
            try:
                async with linked(self._url, name="maserver-gatekeeper") as link:
                    self._next_whole_s = float("-inf")
                    while True:
                        await self._read(link)
                        backoff.reset()
                        await asyncio.sleep(READ_S)
            except (LinkLost, ReplyError) as error:
                if isinstance(error, ReplyError) and not error.passes:
                    raise
                if not backoff.tries:
                    log.info("the gate's state cannot be read: %s", error)
                await asyncio.sleep(backoff.next())

    async def _read(self, link: Link) -> None:
        """The gate's sign, and its state or what changed of it.

        The newest event is asked for before the state: the gate writes the state first, so no change falls between.
        """
        now_s = time.monotonic()
        if now_s >= self._next_whole_s:
            commands = (pack("XREVRANGE", EVENTS, "+", "-", "COUNT", 1), pack("HGETALL", STATE), pack("GET", BEAT))
            newest, flat, beat = await _replies(link, commands)
            if newest:
                self._last_event = newest[0][0]
            self._shut = {}
            for decision in states_of(flat).values():
                self._take(decision)
            self._next_whole_s = now_s + WHOLE_S
        else:
            read = pack("XREAD", "COUNT", EVENTS_AT_ONCE, "STREAMS", EVENTS, self._last_event)
            events, beat = await _replies(link, (read, pack("GET", BEAT)))
            for entry_id, fields in events[0][1] if events else ():
                self._last_event = entry_id
                self._take_event(fields)
        self._take_beat(beat)
        self._look(is_read=True)

    def _take_event(self, fields: list[bytes]) -> None:
        try:
            event = event_of(fields)
        except ValueError as error:
            log.error("an entry of %s is left out: %s", EVENTS, error)
            return
        if isinstance(event, Decision):
            self._take(event)

    def _take(self, decision: Decision) -> None:
        if decision.market not in self._markets:
            return
        self.mode = decision.mode
        if decision.stream_enable:
            self._shut.pop((decision.market, decision.symbol), None)
        else:
            self._shut[decision.market, decision.symbol] = decision

    def _take_beat(self, beat: bytes | None) -> None:
        if beat is None or beat == self._beat:
            return
        is_first, self._beat, now_s = self._beat is None, beat, time.monotonic()
        age_s = (now_ns() - int(beat)) / SECOND_NS if beat.isdigit() else float("inf")
        self._beat_s = now_s - max(0.0, age_s) if is_first else now_s

    async def _mind(self) -> None:
        """Notices the silence of a gate, also while Redis says nothing."""
        await asyncio.sleep(FIRST_READ_S)
        while True:
            self._look(is_read=False)
            await asyncio.sleep(READ_S)

    def _look(self, *, is_read: bool) -> None:
        """Whether the gate lives, and whether anything is different by now."""
        was_alive, is_first = self.alive, not self.first_read.is_set()
        self.alive = time.monotonic() - self._beat_s <= self._silent_after_s
        if self.alive and not was_alive and not is_first:
            log.info("the gate is there%s", " again" if self._was_there else "")
        elif was_alive and not self.alive:
            log.warning("the gate has given no sign for %g s: everything counts as open", self._silent_after_s)
        elif is_first and not self.alive:
            why = "there is no gate" if is_read else "the gate's state cannot be read"
            log.info("%s: everything counts as open", why)
        self._was_there |= self.alive
        self.first_read.set()
        seen = frozenset((market, symbol, one.mode) for (market, symbol), one in self._shut.items())
        seen = seen if self.alive else frozenset()
        if seen != self._seen:
            self._seen = seen
            self.on_change()


async def _replies(link: Link, commands: tuple[bytes, ...]) -> list[Any]:
    replies = await link.replies(b"".join(commands), len(commands), timeout_s=REPLY_S)
    raise_first(replies)
    return replies
