"""A seat: some streams of one route, and a connection that delivers them: kept, replaced in time, begun again."""

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from typing import Any

from common.backoff import Backoff
from common.clock import SECOND_NS, now_ns
from common.lag import Way
from common.producer import Producer
from common.session import Cause, Marked
from common.settings import Settings
from common.streams import Stream
from ingest.attempts import Attempts
from ingest.connection import ConnectFailed
from ingest.lanes import excuse
from ingest.pace import Pace
from ingest.plan import Route
from ingest.rotation import Rotation
from ingest.subscriber import Subscriber, subscribe
from ingest.watch import LOOK_S

log = logging.getLogger(__name__)

LAG_S = 5.0
LAGGED_S = 15.0
"""A connection that lags by `LAG_S` for so long is replaced."""

WELL_S = 120.0
STOPPED = "stopped by the operator"


class Collector:
    """Keeps one seat.

    Args:
        number: Among the seats of its route, from 1.
        route: Where it connects.
        settings: All settings.
        producer: Where frames go.
        attempts: The house's budget of connection attempts.
        paces: What is known of each stream's pace; the fleet's.
        way: What is known of the way from the route's market.
    """

    def __init__(
        self,
        number: int,
        route: Route,
        *,
        settings: Settings,
        producer: Producer,
        attempts: Attempts,
        paces: Mapping[Stream, Pace],
        way: Way,
    ) -> None:
        self.route = route
        self.name = f"{route} {number}"
        self.streams: dict[Stream, None] = {}
        self.paused: dict[Stream, tuple[Cause, str]] = {}
        self.flagged: dict[Stream, Marked] = {}
        self.connects = 0
        self.failures = 0
        self._settings = settings
        self._producer = producer
        self._attempts = attempts
        self._paces = paces
        self._way = way
        self._loop = asyncio.get_running_loop()
        self._current: Subscriber | None = None
        self._rotation = Rotation(self.name, self._subscribe, self._let_in, self._end)
        self._cut: tuple[Cause, str, int] | None = None
        self._rotate_s = 0.0
        self._lags_since_s: float | None = None
        self._ailed_s = 0.0
        self._received = 0
        self._dropped = 0
        self._resubscribed = 0
        self._frames: dict[Stream, int] = {}

    # What it is told.

    def join(self, streams: list[Stream]) -> None:
        """Takes streams; those that are paused are subscribed later."""
        self.streams.update(dict.fromkeys(streams))
        for stream in streams:
            if stream in self.paused:
                excuse(self._producer, stream, *self.paused[stream])
        for subscriber in self._living():
            self._let_in(subscriber, streams)

    def leave(self, streams: list[Stream], cause: Cause, reason: str) -> None:
        """Lets streams go, for good. A seat without any streams ends."""
        for stream in streams:
            self.streams.pop(stream, None)
            self.paused.pop(stream, None)
            self.flagged.pop(stream, None)
        self._release(streams, cause, reason)

    def pause(self, streams: list[Stream], cause: Cause, reason: str) -> None:
        """Unsubscribes from streams until `resume`."""
        for stream in streams:
            self.paused[stream] = cause, reason
        self._release(streams, cause, reason)

    def _release(self, streams: list[Stream], cause: Cause, reason: str) -> None:
        living = self._living()
        for stream in streams:
            if not any(subscriber.holds(stream) for subscriber in living):
                excuse(self._producer, stream, cause, reason)
        for subscriber in living:
            subscriber.release(streams, cause, reason)

    def resume(self, streams: list[Stream]) -> None:
        """Subscribes to paused streams again."""
        for stream in streams:
            del self.paused[stream]
        for subscriber in self._living():
            subscriber.want(streams)

    def flag(self, stream: Stream, mark: Marked) -> None:
        """Marks a stream that goes on being recorded, until `unflag`."""
        self.flagged[stream] = mark
        for subscriber in self._living():
            subscriber.flag(stream, mark)

    def unflag(self, stream: Stream, to_ns: int) -> None:
        """Ends a stream's mark."""
        del self.flagged[stream]
        for subscriber in self._living():
            subscriber.unflag(stream, to_ns)

    def stepped(self, mark: Marked) -> None:
        """The clock was stepped: marks every stream, for a time that is over."""
        for subscriber in self._living():
            subscriber.stepped(self._loop.time())
        if self._current is not None:
            for stream in self.streams:
                self._current.mark(stream, mark)

    def cut(self, cause: Cause, reason: str, not_after_ns: int) -> None:
        """The connection cannot be trusted: it ends, its sessions at the latest at this moment, and begins anew."""
        if self._current is not None:
            self._cut = cause, reason, not_after_ns

    # Its life.

    async def run(self, stopping: asyncio.Event) -> None:
        """Connects and listens until `stopping`, or until it has no streams; then the last session is closed."""
        backoff = Backoff(self._settings.ingest.backoff_first_s, self._settings.ingest.backoff_max_s)
        stop = asyncio.create_task(stopping.wait())
        try:
            while not stop.done() and self.streams:
                began_s = self._loop.time()
                await self._connect(stop)
                while self._current is not None:
                    await self._live(self._current, stop)
                if self._loop.time() - began_s > self._settings.ingest.backoff_max_s:
                    backoff.reset()
                if not stop.done() and self.streams and not self._rotation.is_running:
                    await asyncio.wait([stop], timeout=backoff.next())
        finally:
            await self._rotation.stop("maintenance", STOPPED)
            stop.cancel()

    async def _connect(self, stop: "asyncio.Task[bool]") -> None:
        """Opens the first connection, or the first after a loss; none is there afterwards where that failed."""
        connecting = self._rotation.take_opening() or asyncio.create_task(
            self._subscribe(), name=f"{self.name} connect"
        )
        await asyncio.wait([stop, connecting], return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting])
        if connecting.cancelled():
            return
        try:
            subscriber = connecting.result()
        except ConnectFailed as error:
            self.failures += 1
            log.warning("%s: %s", self.name, error)
        else:
            self._begin(subscriber)
            self._let_in(subscriber)

    async def _subscribe(self) -> Subscriber:
        await self._attempts.turn()
        subscriber = await subscribe(
            self.name,
            self.route.url(self._settings),
            self.route.market,
            settings=self._settings.ingest,
            paces=self._paces,
            way=self._way,
            producer=self._producer,
        )
        self.connects += 1
        return subscriber

    def _let_in(self, subscriber: Subscriber, streams: Iterable[Stream] | None = None) -> None:
        """Subscribes streams, all of the seat where none are named, but those that are paused."""
        wanted = self.streams if streams is None else streams
        streams = [stream for stream in wanted if stream not in self.paused]
        silent_s = self._current.silent_s() if self._current is not None else {}
        subscriber.want(streams, frozenset(self.doubted()), silent_s)
        for stream in streams:
            if stream in self.flagged:
                mark = self.flagged[stream]
                subscriber.flag(stream, Marked(max(mark.at, now_ns() - SECOND_NS), mark.cause, reason=mark.reason))

    def _begin(self, subscriber: Subscriber) -> None:
        self._current = subscriber
        longest_s = self._settings.ingest.rotate_after_s
        self._rotate_s = subscriber.opened_s + longest_s * random.uniform(0.9, 1.0)
        self._lags_since_s = None

    async def _live(self, current: Subscriber, stop: "asyncio.Task[bool]") -> None:
        """One look at the connection; it may be another one afterwards, or none."""
        ends: list[asyncio.Future[Any]] = [stop, current.closed]
        await asyncio.wait(ends, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        now_s = self._loop.time()
        if stop.done() or not self.streams:
            self._supersede(current, self._rotation.next, "maintenance", STOPPED)
            await self._rotation.stop("maintenance", STOPPED)
            self._current = None
        elif self._cut is not None:
            cause, reason, not_after_ns = self._cut
            self._cut = None
            self._end(current, cause, reason, not_after_ns)
            await self._rotation.stop(cause, reason, not_after_ns)
            self._current = None
        elif current.closed.done():
            log.warning("%s: %s", self.name, current.closed.result())
            self._end(current, "disconnect", "the connection was lost")
            self._current = None
            if (successor := self._rotation.take()) is not None:
                self._begin(successor)
        else:
            for subscriber in self._living():
                subscriber.look(now_s)
            self._look(current, now_s)
            if (successor := self._rotation.step(current, now_s)) is not None:
                self._supersede(current, successor, "rotation", "the next connection has taken over")
                self._begin(successor)

    def _supersede(self, current: Subscriber, successor: Subscriber | None, cause: Cause, reason: str) -> None:
        """Ends a connection; what it still owes from before its successor began will never come."""
        if successor is not None and current.lacks_before(successor):
            cause, reason = "stale", "what it owes never came"
        self._end(current, cause, reason)

    def _look(self, current: Subscriber, now_s: float) -> None:
        """Whether the connection is to be replaced."""
        if current.lag_s < LAG_S:
            self._lags_since_s = None
        elif self._lags_since_s is None:
            self._lags_since_s = now_s
        if current.is_shutting_down:
            self._rotation.begin("the exchange shuts down", planned=True)
        elif now_s > self._rotate_s:
            self._rotation.begin(f"this one is {(now_s - current.opened_s) / 3600:.1f} h old", planned=True)
        elif current.is_sick(now_s):
            self._ailed_s = now_s
            doubted = [stream.key for stream in current.doubted()]
            self._rotation.begin(f"{len(doubted)} streams are silent, {doubted[0]} for one", planned=False)
        elif self._lags_since_s is not None and now_s - self._lags_since_s > LAGGED_S:
            self._ailed_s = now_s
            self._rotation.begin(f"it lags by {current.lag_s:.0f} s", planned=False)
        elif now_s - self._ailed_s > WELL_S and not self._rotation.is_running:
            self._rotation.prosper()

    def _end(self, subscriber: Subscriber, cause: Cause, reason: str, not_after_ns: int | None = None) -> None:
        subscriber.end(cause, reason, not_after_ns=not_after_ns)
        self._received += subscriber.lanes.counter
        self._dropped += subscriber.lanes.dropped
        self._resubscribed += subscriber.resubscribed
        for lane in subscriber.lanes:
            self._frames[lane.stream] = self._frames.get(lane.stream, 0) + lane.frames

    # What it says of itself.

    def _living(self) -> list[Subscriber]:
        return [each for each in (self._current, self._rotation.next) if each is not None]

    def beats(self) -> dict[str, str]:
        """Each living connection's sign of life."""
        return {subscriber.lanes.connection: subscriber.beat() for subscriber in self._living()}

    def delays(self) -> dict[str, int]:
        """Symbol to receive minus event time, in ns, on the current connection."""
        return self._current.delays() if self._current is not None else {}

    def doubted(self) -> list[Stream]:
        """Streams that are silent and should not be."""
        return self._current.doubted() if self._current is not None else []

    def frames(self) -> dict[Stream, int]:
        """Frames received so far, by stream."""
        counts = dict(self._frames)
        for subscriber in self._living():
            for lane in subscriber.lanes:
                counts[lane.stream] = counts.get(lane.stream, 0) + lane.frames
        return counts

    @property
    def received(self) -> int:
        """Frames received so far, of all streams."""
        return self._received + sum(subscriber.lanes.counter for subscriber in self._living())

    @property
    def alive_ns(self) -> int:
        """When the exchange was last heard here, pings included; 0 without a connection."""
        return max((subscriber.alive_ns for subscriber in self._living()), default=0)

    @property
    def dropped(self) -> int:
        """Frames received and not kept."""
        return self._dropped + sum(subscriber.lanes.dropped for subscriber in self._living())

    @property
    def rotations(self) -> int:
        return self._rotation.rotations

    @property
    def failed_rotations(self) -> int:
        """How often the next connection could not be opened, or did not deliver and was given up."""
        return self._rotation.failures

    @property
    def resubscribed(self) -> int:
        """How often a stream was subscribed again for its silence."""
        return self._resubscribed + sum(subscriber.resubscribed for subscriber in self._living())

    @property
    def lag_s(self) -> float:
        return self._current.lag_s if self._current is not None else 0.0

    @property
    def connected(self) -> bool:
        return self._current is not None
