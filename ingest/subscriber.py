"""One connection and what is subscribed on it: from its handshake to its end, with a session for each stream.

What it covers is told in the exchange's time (`extent.py`); which streams are silent and should not be is watched
(`watch.py`).
"""

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from common.clock import SECOND_NS, now_ns
from common.frame import new_connection_id
from common.lag import Way
from common.producer import Producer
from common.session import Cause, Marked
from common.settings import IngestSettings
from common.streams import Stream
from ingest.connection import Connection, connect
from ingest.control import Control
from ingest.extent import PUNCTUAL, Extent, delay_ns
from ingest.lanes import Lane, Lanes, excuse
from ingest.pace import Pace
from ingest.watch import Watch

log = logging.getLogger(__name__)

STOOD_STILL_S = 2.0
"""A look that comes so long after the one before says that this process, or its machine, stood still."""

FELL_SILENT_S = 10.0
"""A connection that delivered and is silent for so long has died, or its network has."""


@dataclass(slots=True)
class _Leaving:
    """A stream that is unsubscribed: why, since when as the exchange says, until when its last frames may come; and
    whether it is wanted again before the exchange has said anything."""

    cause: Cause
    reason: str
    at_ns: int | None = None
    due_s: float = 0.0
    wanted: bool = False


class Subscriber:
    """A live connection. Made by `subscribe`.

    Args:
        name: Of its seat, for logs.
        market: `um` or `spot`.
        paces: What is known of each stream's pace.
        way: What is known of the market's way.
        producer: Where frames go.
    """

    def __init__(self, name: str, market: str, paces: Mapping[Stream, Pace], way: Way, producer: Producer) -> None:
        self._loop = asyncio.get_running_loop()
        self._producer = producer
        self._watch = Watch(name, paces)
        self._extent = Extent(paces, way)
        self._fresh: set[Stream] = set()
        self._leaving: dict[Stream, _Leaving] = {}
        self._marks: dict[Stream, Marked] = {}
        self._listed: frozenset[str] | None = None
        self._asks_for_list = False
        self._connection: Connection
        self._control = Control(lambda text: self._connection.send(text))
        self._asking = asyncio.create_task(self._control.run(), name=f"{name} control")
        self.name = name
        self.lanes = Lanes(new_connection_id(), market, (), producer, self._answered, self._shutting_down, self._begins)
        self.opened_s = self._loop.time()
        self._heard_ns, self._heard_s = 0, self.opened_s
        self._looked_s = self._awake_s = self.opened_s
        self.is_shutting_down = False
        self.resubscribed = 0

    # Its end.

    @property
    def closed(self) -> "asyncio.Future[str]":
        """Done when the connection is gone, with the reason in words."""
        return self._connection.closed

    def end(self, cause: Cause, reason: str, *, not_after_ns: int | None = None) -> None:
        """Lets the connection go and closes every session, each where its coverage ended.

        Args:
            cause: Why; where the connection was lost before, its reason is told too.
            reason: The same in words.
            not_after_ns: No session covers anything after this, whatever came.
        """
        self._asking.cancel()
        lost = self.closed.done()
        self._connection.close(reason)
        reason = self.closed.result() if lost else reason
        heard_ns = self._connection.heard_ns
        self._learn_lag()
        for lane, at_ns in self._extent.resumed():
            self.lanes.open(lane, at_ns)
        for stream in list(self._marks):
            self.unflag(stream, heard_ns)
        for stream, leaving in self._leaving.items():
            if not leaving.wanted:
                self._part(self.lanes.add(stream), leaving, not_after_ns)
        if cause == "maintenance" and self.fell_silent(self._loop.time()):
            cause, reason = "stale", f"it had fallen silent before: {reason}"
        for lane in self.lanes:
            at_ns = self._extent.covered_ns(lane, heard_ns)
            self.lanes.close(lane, min(at_ns, not_after_ns or at_ns), cause, reason)

    def _begins(self, lane: Lane, receive_ns: int) -> int | None:
        return self._extent.begins_ns(lane, receive_ns, self._loop.time())

    # What is subscribed.

    def want(
        self,
        streams: Iterable[Stream],
        doubted: Container[Stream] = (),
        silent_s: Mapping[Stream, float] = MappingProxyType({}),
    ) -> None:
        """Subscribes to streams.

        Args:
            streams: Which.
            doubted: Of these a frame opens the session, not the exchange's word.
            silent_s: For how long they have been silent on the connection that this one is to replace.
        """
        now_s, asked = self._loop.time(), []
        self._asks_for_list = False
        for stream in streams:
            lane = self.lanes.add(stream)
            leaving = self._leaving.get(stream)
            if leaving is not None and leaving.at_ns is None:
                leaving.wanted = True  # asked for when the exchange has let it go
                continue
            if leaving is not None:
                self._part(lane, self._leaving.pop(stream))
            if not lane.is_open:
                lane.waits = True
                if stream not in doubted:
                    self._fresh.add(stream)
            self._watch.add(lane, now_s, before_s=silent_s.get(stream, 0.0), is_doubted=stream in doubted)
            asked.append(stream)
        self._control.ask("SUBSCRIBE", asked)

    def release(self, streams: Iterable[Stream], cause: Cause, reason: str) -> None:
        """Unsubscribes from streams; a session ends when the exchange has said that it did."""
        asked = []
        for stream in filter(self.holds, streams):
            leaving = self._leaving.get(stream)
            if leaving is None or leaving.at_ns is not None:
                asked.append(stream)
            self._leaving[stream] = _Leaving(cause, reason)
            self._fresh.discard(stream)
            self._watch.drop(stream)
        self._control.ask("UNSUBSCRIBE", asked)

    def holds(self, stream: Stream) -> bool:
        """Whether the stream is subscribed here, or about to be, or its last frames may still come."""
        return stream in self._watch or stream in self._leaving

    def _let_go(self, now_s: float) -> None:
        """Closes the sessions of unsubscribed streams whose last frames have had time to come."""
        for stream, leaving in list(self._leaving.items()):
            if leaving.at_ns is not None and now_s >= leaving.due_s:
                self._part(self.lanes.add(stream), self._leaving.pop(stream))

    def _part(self, lane: Lane, leaving: _Leaving, not_after_ns: int | None = None) -> None:
        """Ends the session of an unsubscribed stream; one that had none at that time has its reason to have none."""
        if not lane.is_open:
            lane.waits = False
            excuse(self._producer, lane.stream, leaving.cause, leaving.reason)
            return
        ends_ns = (self._extent.covered_ns(lane, self._connection.heard_ns), leaving.at_ns, not_after_ns)
        self.lanes.close(lane, min(filter(None, ends_ns)), leaving.cause, leaving.reason)

    def flag(self, stream: Stream, mark: Marked) -> None:
        """Marks a stream that goes on being recorded, until `unflag`."""
        lane = self.lanes.of(stream)
        if lane is not None and stream not in self._marks:
            self._marks[stream] = mark
            self.lanes.mark(lane, mark)

    def unflag(self, stream: Stream, to_ns: int) -> None:
        """Ends a stream's mark, where it has one here."""
        mark = self._marks.pop(stream, None)
        if mark is not None:
            self.mark(stream, Marked(mark.at, mark.cause, max(to_ns, mark.at), mark.reason))

    def mark(self, stream: Stream, mark: Marked) -> None:
        """Says something about a time in which a stream was recorded."""
        lane = self.lanes.of(stream)
        if lane is not None:
            self.lanes.mark(lane, mark)

    def ask_what_is_subscribed(self) -> None:
        """The answer proves streams that may be silent for hours; asked once, and again when there are more streams."""
        if not self._asks_for_list:
            self._asks_for_list, self._listed = True, None
            self._control.ask("LIST_SUBSCRIPTIONS")

    def _answered(self, reply: dict[str, Any]) -> None:
        """A control reply: nested and flat errors both occur (reference section 1.4)."""
        request = self._control.answered(reply)
        at_ns = now_ns()
        if "result" not in reply:
            log.error("%s: the exchange refuses a control message: %s", self.name, reply)
            for stream in request.streams if request is not None else ():
                self._refused(stream, is_wish=request is not None and request.method == "SUBSCRIBE", why=str(reply))
            return
        if request is None:
            return
        if request.method == "LIST_SUBSCRIPTIONS":
            self._listed = frozenset(map(str, reply["result"] or ()))
        for stream in request.streams:
            lane = self.lanes.add(stream)
            if request.method == "SUBSCRIBE" and stream in self._fresh:
                self._fresh.discard(stream)
                self._watch.begins(stream, self._loop.time())
                if lane.waits:
                    self.lanes.open(lane, at_ns)
            elif request.method == "UNSUBSCRIBE" and stream in self._leaving:
                self._released(lane, self._leaving[stream], at_ns)

    def _released(self, lane: Lane, leaving: _Leaving, at_ns: int) -> None:
        """The exchange has unsubscribed a stream; its last frames may still be on their way."""
        now_s = self._loop.time()
        leaving.at_ns, leaving.due_s = at_ns, now_s + 2 * self.lag_s
        self._extent.drop(lane.stream)
        lane.waits = False
        if leaving.wanted:
            self.want([lane.stream])
        self._let_go(now_s)

    def _refused(self, stream: Stream, *, is_wish: bool, why: str) -> None:
        """A stream that the exchange would not subscribe is in doubt: the next connection tries again."""
        leaving = self._leaving.get(stream)
        if is_wish and stream in self._watch and not self.lanes.add(stream).is_open:
            self._fresh.discard(stream)
            excuse(self._producer, stream, "rejected", why)
            self._watch.doubt(stream, self._loop.time())
        elif not is_wish and leaving is not None and leaving.wanted:
            del self._leaving[stream]
            self.want([stream])

    def _shutting_down(self) -> None:
        if not self.is_shutting_down:
            log.warning("%s: the exchange says that it shuts down", self.name)
        self.is_shutting_down = True

    # The watch.

    def look(self, now_s: float) -> None:
        """Looks at every stream: learns its pace and its lag, and doubts those that are silent too long."""
        if self._asking.done() and not self._asking.cancelled():
            self._asking.result()  # it ends by a fault of ours alone
        self._connection.look()
        before_ns = self._heard_before_ns
        if self._connection.heard_ns != self._heard_ns:
            self._heard_ns, self._heard_s = self._connection.heard_ns, now_s
        if overdue := self._control.overdue(self._heard_s):  # of a stall that may still end an answer proves nothing
            self._connection.close(f"no answer to {overdue[0].method} within {now_s - overdue[0].sent_s:.0f} s")
        for lane, at_ns in self._extent.resumed(now_s):
            self.lanes.open(lane, at_ns)
        self._let_go(now_s)
        self._extent.learn(self._watch.moved(now_s), before_ns, self._connection.heard_ns, now_s)
        stood_still, self._looked_s = now_s - self._looked_s > STOOD_STILL_S, now_s
        if stood_still:
            self._awake_s = now_s
        # then it was we who heard nothing: what came lies in the socket still, and of a sleep we are told in a moment
        for lane, reason in () if stood_still else self._watch.silences(now_s):
            at_ns = self._extent.covered_ns(lane, lane.heard_ns) if lane.frames else lane.opened_ns
            self.lanes.close(lane, at_ns, "stale", reason, waits=True)
            self.resubscribed += 1
            self._control.ask("SUBSCRIBE", [lane.stream])

    @property
    def _heard_before_ns(self) -> int:
        """When the connection had last been heard at the last look."""
        return self._heard_ns or self._connection.heard_ns

    def _learn_lag(self) -> None:
        """Between two looks: learns how late it is what came since the last one."""
        lanes = self._watch.unseen()
        self._extent.learn(lanes, self._heard_before_ns, self._connection.heard_ns, self._loop.time())

    def stepped(self, now_s: float) -> None:
        """The clock was stepped: what came before says nothing of lag any more."""
        self._watch.moved(now_s)
        self._heard_ns = 0
        self._extent.forget_lag()

    # What it says of itself.

    @property
    def alive_ns(self) -> int:
        """When the exchange was last heard, pings included."""
        return self._connection.alive_ns

    def doubted(self) -> list[Stream]:
        """The streams that are silent and should not be."""
        return self._watch.doubted()

    def silent_s(self) -> dict[Stream, float]:
        """For how long each stream has delivered nothing."""
        return self._watch.silent_s(self._loop.time())

    def is_sick(self, now_s: float) -> bool:
        """Whether its streams, or one of them, are silent in a way that only another connection mends."""
        return self._watch.is_sick(now_s)

    def fell_silent(self, now_s: float) -> bool:
        """Whether it delivered, and nothing comes any more of what must come every few seconds."""
        delivered = self.lanes.counter > self.lanes.unknown.frames
        is_awake = now_s - self._awake_s > FELL_SILENT_S  # else it was we who did not hear
        return delivered and is_awake and self._watch.are_all_silent(now_s, FELL_SILENT_S)

    def unproven(self, within_s: float) -> list[Stream]:
        """The streams that are not known to live on this connection: those that are due within so long have delivered,
        the others are subscribed by the exchange's own word, and a neighbour delivers."""
        if not self._control.is_done:
            return [sight.lane.stream for sight in self._watch]
        somebody = self.lanes.counter > self.lanes.unknown.frames
        due = self._watch.due(within_s)
        found = []
        for lane in (sight.lane for sight in self._watch if not sight.lane.frames):
            listed = self._listed is not None and lane.stream.exchange_name in self._listed
            if lane.stream in due or not listed or not (somebody or not due):
                found.append(lane.stream)
        return found

    def delivered_since(self, stream: Stream, since_s: float) -> bool:
        """Whether the stream delivered here since a monotonic moment."""
        return self._watch.delivered_since(stream, since_s)

    def lacks_before(self, other: "Subscriber") -> bool:
        """Whether frames may still be on their way here that were sent before another connection began: this one lags,
        or is stalled."""
        heard_ns = self._connection.heard_ns
        self._learn_lag()
        for sight in self._watch:
            lane, twin = sight.lane, other.lanes.of(sight.lane.stream)
            if twin is None or not twin.is_open:
                continue
            if (
                sight.doubted_s is not None
                or self._extent.is_resuming(lane.stream)
                or self._extent.covered_ns(lane, heard_ns) < twin.opened_ns
            ):
                return True
        return False

    @property
    def lag_s(self) -> float:
        """How late the last frames were, beyond the market's way."""
        return self._extent.lag_ns / SECOND_NS

    def beat(self) -> str:
        """For `producer.BEATS`: up to when the connection's frames are covered, and now."""
        self._learn_lag()
        return f"{self._extent.reached_ns(self._connection.heard_ns)} {now_ns()}"

    def delays(self) -> dict[str, int]:
        """Symbol to receive minus event time, in ns, of the newest frame; the largest of its streams."""
        found: dict[str, int] = {}
        newest_ns = now_ns() - 2 * SECOND_NS
        for lane, channel in ((sight.lane, sight.channel) for sight in self._watch):
            if lane.heard_ns > newest_ns and channel.name in PUNCTUAL:
                delayed_ns = delay_ns(lane, channel)
                if delayed_ns is not None:
                    symbol = lane.stream.symbol
                    found[symbol] = max(delayed_ns, found.get(symbol, delayed_ns))
        return found


async def subscribe(
    name: str,
    url: str,
    market: str,
    *,
    settings: IngestSettings,
    paces: Mapping[Stream, Pace],
    way: Way,
    producer: Producer,
) -> Subscriber:
    """Connects; nothing is subscribed yet.

    Raises:
        ConnectFailed: No connection, or the exchange refuses it.
    """
    made = Subscriber(name, market, paces, way, producer)
    on_message: Callable[[int, bytes], None] = made.lanes.message
    try:
        made._connection = await connect(
            url,
            on_message,
            timeout_s=settings.connect_timeout_s,
            idle_ping_s=settings.idle_ping_s,
            max_frame_bytes=settings.max_frame_bytes,
        )
    except BaseException:
        made._asking.cancel()
        raise
    return made
