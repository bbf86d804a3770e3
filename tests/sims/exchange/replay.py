"""Plays recordings: at their own pace, with event times at the present and every id as recorded."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from common.clock import now_ns
from tests.sims.exchange.clocks import Clocks
from tests.sims.exchange.recording import Recorded, first_event_ms, shifted
from tests.sims.exchange.streams import ExchangeStream, Streams

_POLL_S = 0.005
_TOO_LATE_S = 2.0


class Player:
    """A replay: waiting, then running, then done.

    Args:
        frames: What is played, in order of time.
        clocks: How wrong each market's clock is.
        wait_streams: It begins when so many of its streams have been subscribed.
    """

    def __init__(self, frames: list[Recorded], clocks: Clocks, wait_streams: int = 1) -> None:
        self._frames = frames
        self._clocks = clocks
        self._wait_streams = wait_streams
        self._names = {(frame.market, frame.stream) for frame in frames}
        self._asked: set[tuple[str, str]] = set()
        self._begin = asyncio.Event()
        self._played = 0
        self._phase = "waiting"
        self._shift_ms = 0

    def find(self, stream: ExchangeStream) -> bool:
        """Whether the recording has this stream."""
        return (stream.market, stream.name) in self._names

    def state(self) -> dict[str, Any]:
        """For `GET /control/state`; `shift_ms` is what was added to the recorded times."""
        return {
            "state": self._phase,
            "frames": len(self._frames),
            "played": self._played,
            "streams": sorted(f"{market}/{name}" for market, name in self._names),
            "subscribed": len(self._asked),
            "wait_streams": self._wait_streams,
            "shift_ms": self._shift_ms,
        }

    def start(self) -> None:
        """Begins now, whoever is subscribed."""
        self._begin.set()

    def note_subscriptions(self, streams: Streams) -> None:
        """Begins when enough of its streams are subscribed."""
        subscribed = {
            (stream.market, stream.name)
            for market in ("um", "spot")
            for stream in streams.of(market)
            if stream.subscribers
        }
        self._asked |= subscribed & self._names
        if len(self._asked) >= min(self._wait_streams, len(self._names)):
            self._begin.set()

    async def run(self, streams: Streams, flush: Callable[[], None]) -> None:
        """Waits for the beginning, and plays to the end."""
        await self._begin.wait()
        self._phase = "running"
        feeds = {name: streams.force(*name) for name in sorted(self._names)}
        start_ns = self._frames[0].at_ns
        first = first_event_ms(self._frames)
        if first is not None:
            event_ms, received_ns = first
            self._shift_ms = now_ns() // 1_000_000 - event_ms + (received_ns - start_ns) // 1_000_000
        started = time.monotonic()
        for frame in self._frames:
            wait_s = (frame.at_ns - start_ns) / 1e9 - (time.monotonic() - started)
            if wait_s > 0:
                flush()
                await asyncio.sleep(max(wait_s, _POLL_S))
            elif wait_s < -_TOO_LATE_S:
                # The process was stopped for a while: go on from here at the recording's pace instead of a burst.
                started -= wait_s
            feeds[frame.market, frame.stream].publish(
                shifted(frame.payload, self._shift_ms + self._clocks.offset_ms(frame.market))
            )
            self._played += 1
        flush()
        self._phase = "done"
