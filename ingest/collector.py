"""A connection that is kept: connect, subscribe, listen, and when it ends say so in each stream and begin again."""

import asyncio
import logging
from typing import Any

from common.backoff import Backoff
from common.clock import now_ns
from common.frame import new_connection_id
from common.producer import Producer
from common.settings import IngestSettings
from common.streams import Stream
from ingest.connection import ConnectFailed, Connection, connect
from ingest.lanes import Lanes
from ingest.plan import Plan, subscriptions

log = logging.getLogger(__name__)

CONTROL_PAUSE_S = 0.4
"""Between two control messages of a connection: at most 3 a second are sent (DESIGN section 4)."""

ANSWER_WITHIN_S = 10.0


class Attempts:
    """How fast the house may connect: 300 attempts in 5 minutes are allowed for an address; half of it is used.

    Source: reference/binance-protocol.md section 1.6.
    """

    BURST = 20
    EVERY_S = 2.0

    def __init__(self) -> None:
        self._next_s = 0.0

    async def turn(self) -> None:
        """Waits until one more attempt is within the budget."""
        now_s = asyncio.get_running_loop().time()
        self._next_s = max(self._next_s, now_s - self.BURST * self.EVERY_S) + self.EVERY_S
        await asyncio.sleep(max(0.0, self._next_s - now_s))


class Collector:
    """Keeps one planned connection."""

    def __init__(self, plan: Plan, settings: IngestSettings, producer: Producer, attempts: Attempts) -> None:
        self._plan = plan
        self._settings = settings
        self._producer = producer
        self._attempts = attempts
        self._connection: Connection | None = None
        self._lanes: Lanes | None = None
        self._unanswered: dict[int, list[Stream]] = {}
        self.name = plan.name
        self.connects = 0
        self.failures = 0
        self._frames_before: dict[Stream, int] = {}
        self._received_before = 0
        self._dropped_before = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Connects and listens until `stopping`; returns when the last session is closed."""
        backoff = Backoff(self._settings.backoff_first_s, self._settings.backoff_max_s)
        loop = asyncio.get_running_loop()
        stop = asyncio.create_task(stopping.wait())
        try:
            while not stopping.is_set():
                began_s = loop.time()
                try:
                    await self._session(stop)
                except ConnectFailed as error:
                    self.failures += 1
                    log.warning("%s: %s", self.name, error)
                if loop.time() - began_s > self._settings.backoff_max_s:
                    backoff.reset()
                await asyncio.wait([stop], timeout=0 if stopping.is_set() else backoff.next())
        finally:
            stop.cancel()

    async def _session(self, stop: "asyncio.Task[bool]") -> None:
        await self._attempts.turn()
        lanes = Lanes(new_connection_id(), self._plan.market, self._plan.streams, self._producer, self._control)
        connection = await connect(
            self._plan.url,
            lanes.message,
            timeout_s=self._settings.connect_timeout_s,
            idle_ping_s=self._settings.idle_ping_s,
            max_frame_bytes=self._settings.max_frame_bytes,
        )
        self.connects += 1
        self._lanes, self._connection = lanes, connection
        subscribing = asyncio.create_task(self._subscribe(connection))
        try:
            ends: list[asyncio.Future[Any]] = [stop, connection.closed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            subscribing.cancel()
            stopped = not connection.closed.done()
            connection.close("stopped by the operator")
            reason = connection.closed.result()
            log.log(logging.INFO if stopped else logging.WARNING, "%s: %s", self.name, reason)
            lanes.close(connection.heard_ns, "maintenance" if stopped else "disconnect", reason)
            self._connection = self._lanes = None
            self._received_before += lanes.counter
            self._dropped_before += lanes.dropped
            for lane in lanes:
                self._frames_before[lane.stream] = self._frames_before.get(lane.stream, 0) + lane.frames

    async def _subscribe(self, connection: Connection) -> None:
        messages = subscriptions(self._plan.streams)
        self._unanswered = {}
        for number, (message, streams) in enumerate(messages, 1):
            self._unanswered[number] = streams
            connection.send(message)
            await asyncio.sleep(CONTROL_PAUSE_S)
        await asyncio.sleep(ANSWER_WITHIN_S)
        if self._unanswered:
            connection.close(f"no answer to {len(self._unanswered)} of {len(messages)} SUBSCRIBE messages")

    def _control(self, reply: dict[str, Any]) -> None:
        """A control reply: nested and flat errors both occur (reference section 1.4)."""
        number = reply.get("id")
        streams = self._unanswered.pop(number, []) if isinstance(number, int) else []
        if "result" not in reply:
            log.error("%s: the exchange refuses a control message: %s", self.name, reply)
            return
        if self._lanes is not None:
            at_ns = now_ns()
            for stream in streams:
                lane = self._lanes.by_name[stream.exchange_name.encode()]
                if not lane.opened:
                    self._lanes.open(lane, at_ns)

    def beat(self) -> tuple[str, int] | None:
        """The connection and when it was last heard of, in ns; None while there is none."""
        if self._connection is None or self._lanes is None:
            return None
        return self._lanes.connection, self._connection.heard_ns

    def frames(self) -> dict[Stream, int]:
        """Frames received so far, by stream."""
        counts = dict(self._frames_before)
        for lane in self._lanes or ():
            counts[lane.stream] = counts.get(lane.stream, 0) + lane.frames
        return counts

    @property
    def received(self) -> int:
        """Frames received so far, of all streams."""
        return self._received_before + (self._lanes.counter if self._lanes else 0)

    @property
    def dropped(self) -> int:
        """Frames received and not kept."""
        return self._dropped_before + (self._lanes.dropped if self._lanes else 0)

    @property
    def connected(self) -> bool:
        return self._connection is not None
