"""Asks a market's `/time`: a handful of round trips on one warm connection, of which the shortest counts.

The exchange's limits are obeyed: after 429 or 418 nothing is asked until `Retry-After` is over. An answer weighs 1.
Source: reference/binance-protocol.md sections 4 (weights), 5 (429, 418) and 7.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp
import msgspec

from common.backoff import Backoff
from common.clock import now_ns
from common.settings import Settings
from gate.market import Market
from gate.offset import Measurement, measure

log = logging.getLogger(__name__)

HANDFUL = 5
SPACING_S = 0.1
TIMEOUT_S = 10.0
CLOSED_S = 10.0
"""While a symbol is closed, or a clock wrong, a market is asked at least so often."""
LEAST_S = 5.0
FAILED_FIRST_S = 2.0
LIMITED_S = {429: 60.0, 418: 300.0}
"""How long to be still where the answer does not say."""

PATHS = {"um": "/fapi/v1/time", "spot": "/api/v3/time"}


class _Answer(msgspec.Struct):
    server_ms: int = msgspec.field(name="serverTime")


class ProbeFailed(Exception):
    """No usable answer; `wait_s` is how long the exchange wants to be left alone, 0 when it did not say."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Prober:
    """Probes one market.

    Args:
        market: Gets what was measured.
        settings: All settings.
        measured: Called when an answer came.
    """

    def __init__(self, market: Market, settings: Settings, measured: Callable[[], None]) -> None:
        base = settings.um_rest_url if market.name == "um" else settings.spot_rest_url
        self._url = base + PATHS[market.name]
        self._market = market
        self._every_s = settings.gate.probe_s
        self._measured = measured
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Asks for a round soon: the clock was set."""
        self._wanted.set()

    async def run(self) -> None:
        """Probes until it is cancelled; first at once."""
        told = ""
        backoff = Backoff(FAILED_FIRST_S, max(FAILED_FIRST_S, self._every_s))
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=2 * HANDFUL * SPACING_S + TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                steps = self._market.clock_steps
                try:
                    best = await self._round(session)
                except ProbeFailed as failure:
                    self._market.take_failure()
                    pause_s = max(failure.wait_s, backoff.next())
                    if str(failure) != told:
                        log.warning("%s: %s; next try in %.0f s", self._market.name, failure, pause_s)
                        told = str(failure)
                    await asyncio.sleep(pause_s)
                    continue
                if told:
                    log.info("%s: %s answers again", self._market.name, self._url)
                    told = ""
                backoff.reset()
                self._measured()
                if steps != self._market.clock_steps:
                    continue  # half of it was measured with another clock
                if not self._market.take_probe(best):
                    log.warning("%s: a clock was set by about %.0f ms", self._market.name, best.offset_ms)
                await self._pause()

    async def _pause(self) -> None:
        self._wanted.clear()
        await asyncio.sleep(min(LEAST_S, self._every_s))
        is_urgent = self._market.is_any_closed or self._market.is_any_clock_error
        every_s = min(self._every_s, CLOSED_S) if is_urgent else self._every_s
        try:
            async with asyncio.timeout(max(0.0, every_s - LEAST_S)):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def _round(self, session: aiohttp.ClientSession) -> Measurement:
        """A handful; gives the one with the shortest round trip. The first also opens the connection."""
        found = []
        for number in range(HANDFUL):
            if number:
                await asyncio.sleep(SPACING_S)
            found.append(await self._ask(session))
        return min(found, key=lambda each: each.round_trip_ms)

    async def _ask(self, session: aiohttp.ClientSession) -> Measurement:
        try:
            sent_ns, sent_s = now_ns(), time.monotonic()
            async with session.get(self._url) as answer:
                body = await answer.read()
                came_s = time.monotonic()
            if answer.status in LIMITED_S:
                wait_s = _retry_after_s(answer.headers.get("Retry-After", ""), LIMITED_S[answer.status])
                raise ProbeFailed(f"{self._url}: {answer.status}, the exchange wants to be left alone", wait_s)
            if answer.status != 200:
                raise ProbeFailed(f"{self._url}: {answer.status} {answer.reason}")
            return measure(sent_ns, sent_s, came_s, msgspec.json.decode(body, type=_Answer).server_ms)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ProbeFailed(f"{self._url}: {str(error) or f'no answer in {TIMEOUT_S:g} s'}") from error
        except msgspec.DecodeError as error:
            raise ProbeFailed(f"{self._url}: the answer is no server time: {body[:80]!r}") from error


def _retry_after_s(text: str, otherwise_s: float) -> float:
    return min(float(text), 86_400.0) if text.strip().isdigit() else otherwise_s
