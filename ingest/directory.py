"""Which symbols are recorded: what the settings ask for, resolved against what each market lists, and followed.

At the start a name that no market lists, or a pattern that nothing fits, ends the service with a sentence; later the
same is an error in the log. Nothing here stops a recording because the exchange's REST is away: names are recorded as
they stand, `all` and patterns by the list that was kept, and only without one does the start wait.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable

from common.backoff import Backoff
from common.clock import now_ns
from common.config import ConfigError, Settings
from common.symbols import Wanted
from ingest.exchange_info import Listing
from ingest.kept_lists import KeptLists
from ingest.market_list import MarketList, Unavailable
from ingest.roster import Changes, Roster
from ingest.unlisted import unlisted

log = logging.getLogger(__name__)

START_S = 10.0
"""Longest time that names wait at the start for the list that proves them."""

BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 60.0
TOLD = 10
"""How many symbols a log line names."""


class Directory:
    """The symbols of all markets.

        directory = Directory(settings)
        symbols = await directory.resolve()
        await directory.follow(on_change)

    Attributes:
        refreshed_ns: Market to when it last told its list, in ns since 1970; 0 for never.
        failures: Market to how many calls failed.
        doubted: Market to how many lists were not believed.
        unknown: How many entries of `symbols` no market lists; counted when all have told their lists.
        unsaved: How often the lists could not be kept on disk.
    """

    def __init__(self, settings: Settings) -> None:
        self._wanted = Wanted.read(settings.symbols)
        self._refresh_s = settings.ingest.symbols_refresh_s
        self._kept = KeptLists(settings.state_dir)
        self._saving = asyncio.Lock()
        urls = {"um": settings.um_rest_url, "spot": settings.spot_rest_url}
        self._sources = {market: MarketList(market, urls[market]) for market in settings.markets}
        self._rosters = {market: Roster(market, self._wanted) for market in settings.markets}
        self._is_proven = False
        self.refreshed_ns = dict.fromkeys(settings.markets, 0)
        self.failures = dict.fromkeys(settings.markets, 0)
        self.doubted = dict.fromkeys(settings.markets, 0)
        self.unknown = 0
        self.unsaved = 0

    @property
    def recorded(self) -> dict[str, int]:
        """Market to how many symbols are recorded."""
        return {market: len(roster.recorded) for market, roster in self._rosters.items()}

    async def resolve(self) -> dict[str, tuple[str, ...]]:
        """Market to the symbols to record there; may be empty for a market, and for all where nothing trades yet.

        Returns within 10 s, except where `all` or patterns have no list at all: then it waits for one, until it is
        cancelled.

        Raises:
            ConfigError: No market lists what is named, or nothing fits a pattern.
        """
        self._kept.load()
        backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S)
        while True:
            missing = [market for market, roster in self._rosters.items() if roster.listing is None]
            answers = await asyncio.gather(*map(self._first, missing))
            self._prove(is_start=True)
            refusals = [answer for answer in answers if isinstance(answer, Unavailable)]
            if not refusals or any(self.recorded.values()):
                break
            # a market that wants no call for long is not asked by `fetch` meanwhile
            await asyncio.sleep(max(backoff.next(), min(refusal.wait_s for refusal in refusals)))
        await self._save()
        self._tell_waiting()
        return {market: tuple(roster.recorded) for market, roster in self._rosters.items()}

    async def follow(self, on_change: Callable[[Changes], None]) -> None:
        """Asks each market again and again, and tells what changed; ends only when it is cancelled."""
        async with asyncio.TaskGroup() as markets:
            for market in self._rosters:
                markets.create_task(self._follow(market, on_change), name=f"symbols of {market}")

    async def _follow(self, market: str, on_change: Callable[[Changes], None]) -> None:
        roster = self._rosters[market]
        backoff = Backoff(BACKOFF_FIRST_S, max(BACKOFF_FIRST_S, min(BACKOFF_MOST_S, self._refresh_s)))
        wait_s = self._pause_s(roster) if roster.listing else max(backoff.next(), self._sources[market].wait_s)
        while True:
            await asyncio.sleep(wait_s)
            answer = await self._ask(market)
            if isinstance(answer, Unavailable):
                told = log.info if backoff.tries > 1 else log.warning
                told("%s: the symbols cannot be refreshed: %s", market, answer)
                wait_s = max(backoff.next(), answer.wait_s)
                continue
            backoff.reset()
            changes = self._take(market, answer)
            if changes:
                on_change(changes)
            self._prove(is_start=False)
            await self._save()
            wait_s = self._pause_s(roster)

    async def _first(self, market: str) -> Listing | Unavailable:
        """The first list of a market, or what serves in its place."""
        kept = self._kept.lists.get(market)
        may_start = bool(kept or self._wanted.names)
        answer = await self._ask(market, START_S if may_start else None)
        if isinstance(answer, Listing):
            self._take(market, answer)
            return answer
        elsewhere = {name for name in self._wanted.names if self._kept.was_listed(name)}
        self._rosters[market].assume(kept, elsewhere)
        if kept:
            serves = f"the list in {self._kept.path} serves until it answers"
        elif self._wanted.names:
            serves = "what is named is recorded unproven until it answers" + "; patterns wait" * bool(
                self._wanted.patterns
            )
        else:
            serves = "without a list there is nothing to record"
        log.warning("%s: the exchange does not say what it lists: %s; %s", market, answer, serves)
        return answer

    async def _ask(self, market: str, within_s: float | None = None) -> Listing | Unavailable:
        """One call; a failure is counted and given back."""
        try:
            async with asyncio.timeout(within_s):
                return await self._sources[market].fetch()
        except TimeoutError:
            answer = Unavailable(f"no answer within {within_s:g} s")
        except Unavailable as error:
            answer = error
        self.failures[market] += 1
        return answer

    def _take(self, market: str, listing: Listing) -> Changes:
        roster = self._rosters[market]
        is_first, was_empty = roster.listing is None, not roster.recorded
        changes = roster.take(listing, now_ns() // 1_000_000)
        if roster.doubts:
            self.doubted[market] += 1
            log.error("%s: not believed, for more than half is gone: %d symbols trade", market, listing.trading)
            return changes
        self.refreshed_ns[market] = now_ns()
        self._kept.put(market, listing)
        if is_first:
            log.info("%s: %d symbols trade, %d are recorded", market, listing.trading, len(roster.recorded))
            if listing.odd:
                log.warning("%s: symbols with such names cannot be recorded: %s", market, ", ".join(listing.odd))
        if changes and not (is_first and was_empty):
            left = (f"{symbol} ({why})" for symbol, why in changes.left.items())
            log.info("%s: joined: %s; left: %s", market, _told(changes.joined), _told(left))
        return changes

    def _prove(self, *, is_start: bool) -> None:
        """Once, as soon as every market has told its list: is everything that is asked for listed?"""
        if self._is_proven or any(roster.listing is None for roster in self._rosters.values()):
            return
        self._is_proven = True
        problems = list(unlisted(self._wanted, {market: self._kept.lists[market] for market in self._rosters}))
        self.unknown = len(problems)
        if problems and is_start:
            raise ConfigError("\n".join(problems))
        for problem in problems:
            log.error("%s", problem)

    def _tell_waiting(self) -> None:
        for market, roster in self._rosters.items():
            if roster.listing is None:
                continue
            rows = self._kept.lists[market].symbols
            absent = [name for name in self._wanted.names if name not in roster.recorded]
            waiting = [f"{name} ({rows[name].status})" for name in absent if name in rows]
            missing = [name for name in absent if name not in rows]
            if waiting:
                log.warning("%s: waiting until they trade: %s", market, _told(waiting))
            if missing:
                log.info("%s: not listed here, and recorded elsewhere only: %s", market, _told(missing))

    async def _save(self) -> None:
        try:
            async with self._saving:
                await asyncio.to_thread(self._kept.save)
        except OSError as error:
            self.unsaved += 1
            log.warning("%s: the list of symbols cannot be kept: %s", self._kept.path, error)

    def _pause_s(self, roster: Roster) -> float:
        """Until the next call; a little less than asked for at random, so that two collectors do not ask together."""
        return roster.next_s(self._refresh_s * random.uniform(0.9, 1.0), now_ns() // 1_000_000)


def _told(names: Iterable[str]) -> str:
    """Names for a log line, the first of them where there are many."""
    every = list(names)
    more = f" and {len(every) - TOLD} more" if len(every) > TOLD else ""
    return (", ".join(every[:TOLD]) + more) or "none"
