"""One connection and what is subscribed on it: from its handshake to its end, with a session for each stream.

It watches each stream for silence, measures how late frames come, and knows up to when each stream is covered. Coverage
is told in the exchange's time: a frame that comes late was covered when it was sent, and what a lagging connection had
not delivered when it died was not.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.channels import CHANNELS, Channel
from common.clock import SECOND_NS, now_ns
from common.frame import event_time_ms, new_connection_id
from common.lag import Way
from common.producer import Producer
from common.session import Cause, Marked
from common.settings import IngestSettings
from common.streams import Stream
from ingest.connection import Connection, connect
from ingest.control import Control
from ingest.freshness import RESUBSCRIBED_S, is_due, limit_s
from ingest.lanes import Lane, Lanes, excuse
from ingest.pace import FLOOR_S, Pace

log = logging.getLogger(__name__)

LATE_NS = SECOND_NS // 4
"""Lag below this is the network's ordinary trembling."""


BURST_S = 0.5
"""So long after a stream without event times speaks again, as many frames have come as a stall held back."""


@dataclass(slots=True)
class _Watch:
    """What a look at a lane needs to know of the look before; monotonic seconds."""

    lane: Lane
    channel: Channel
    frames: int
    moved_s: float
    doubted_s: float | None = None


@dataclass(slots=True)
class _Leaving:
    """A stream that is unsubscribed: why, since when as the exchange says, until when its last frames may come; and
    whether it is wanted again before the exchange has said anything."""

    cause: Cause
    reason: str
    at_ns: int | None = None
    due_s: float = 0.0
    wanted: bool = False


class _Resumed(NamedTuple):
    """A stream without event times that spoke again: when, and how many frames it had delivered before."""

    receive_ns: int
    frames: int
    at_s: float


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
        self._paces = paces
        self._way = way
        self._producer = producer
        self._watches: dict[Stream, _Watch] = {}
        self._fresh: set[Stream] = set()
        self._leaving: dict[Stream, _Leaving] = {}
        self._resumed: dict[Stream, _Resumed] = {}
        self._resumed_lag_ns = 0
        self._marks: dict[Stream, Marked] = {}
        self._listed: frozenset[str] | None = None
        self._asks_for_list = False
        self._lag_ns = 0
        self._connection: Connection
        self._control = Control(lambda text: self._connection.send(text))
        self._asking = asyncio.create_task(self._control.run(), name=f"{name} control")
        self.name = name
        self.lanes = Lanes(new_connection_id(), market, (), producer, self._answered, self._shutting_down, self._begins)
        self.opened_s = self._loop.time()
        self._heard_ns, self._heard_s = 0, self.opened_s
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
        self._open_resumed(math.inf)
        for stream in list(self._marks):
            self.unflag(stream, heard_ns)
        for stream, leaving in self._leaving.items():
            if not leaving.wanted:
                self._part(self.lanes.add(stream), leaving, not_after_ns)
        for lane in self.lanes:
            at_ns = self._covered_ns(lane, heard_ns)
            self.lanes.close(lane, min(at_ns, not_after_ns or at_ns), cause, reason)

    def _covered_ns(self, lane: Lane, heard_ns: int) -> int:
        """Up to when what the exchange sent has come: less what is still on its way, and not into a silence."""
        last_ns = max(lane.heard_ns, lane.opened_ns)
        usual_s = self._longest_s(lane)
        if usual_s is None or heard_ns - last_ns < usual_s * SECOND_NS:
            last_ns = heard_ns
        lag_ns = self._lag_of(lane, heard_ns)
        return last_ns - (lag_ns if lag_ns > LATE_NS else 0)

    def _longest_s(self, lane: Lane) -> float | None:
        """A longer pause of the stream was a silence, in s; None where that is not known."""
        pace, channel = self._paces.get(lane.stream), CHANNELS.get(lane.stream.channel)
        usual_s = pace.usual_s if pace is not None else None
        if channel is None or (usual_s is None and channel.pace_s is None):
            return None
        return max(1.0, 3 * (usual_s or 0.0)) if channel.pace_s is None else usual_s or 3 * channel.pace_s

    def _lag_of(self, lane: Lane, heard_ns: int) -> int:
        """How late the lane's last frame was, in ns; where it does not say, or came long ago, how late others are."""
        event_ns = _event_ns(lane) if heard_ns - lane.heard_ns < SECOND_NS else None
        return self._way.lag_ns(lane.heard_ns - event_ns) if event_ns is not None else self._lag_ns

    def _begins(self, lane: Lane, receive_ns: int) -> int | None:
        """Where the session begins that a frame opens: when it was sent; right at the end of the session before, where
        nothing can be missing between the two. None: that is told later."""
        event_ns = _event_ns(lane)
        if event_ns is None and lane.session:
            self._resumed[lane.stream] = _Resumed(receive_ns, lane.frames, self._loop.time())
            return None
        if event_ns is not None:
            self._resumed_lag_ns = max(self._resumed_lag_ns, self._way.lag_ns(receive_ns - event_ns))
            self._lag_ns = self._way.lag_ns(receive_ns - event_ns)
        return self._joined(lane, receive_ns - (self._lag_ns if self._lag_ns > LATE_NS else 0))

    def _joined(self, lane: Lane, at_ns: int) -> int:
        """The end of the lane's session before, where only a usual pause lies between the two, else `at_ns`."""
        if not lane.session:
            return at_ns
        pace_s = CHANNELS[lane.stream.channel].pace_s
        usual_s = max(0.3, 1.5 * pace_s) if pace_s is not None else max(1.0, self._paces[lane.stream].usual_s or 0.0)
        return lane.closed_ns if at_ns - lane.closed_ns <= usual_s * SECOND_NS else at_ns

    def _open_resumed(self, now_s: float) -> None:
        """Opens the sessions of streams without event times: a stall that ended brings as many frames as it lacked."""
        for stream, resumed in list(self._resumed.items()):
            if now_s - resumed.at_s < BURST_S:
                continue  # a burst is still coming
            del self._resumed[stream]
            lane, pace_s = self.lanes.add(stream), CHANNELS[stream.channel].pace_s
            lacked_s = (resumed.receive_ns - lane.closed_ns) / SECOND_NS
            if pace_s is not None and (lane.frames - resumed.frames) * pace_s >= 0.9 * lacked_s:
                self.lanes.open(lane, lane.closed_ns)
            else:
                self.lanes.open(lane, self._joined(lane, resumed.receive_ns - self._resumed_lag_ns))
        if not self._resumed:
            self._resumed_lag_ns = 0

    # What is subscribed.

    def want(self, streams: Iterable[Stream], doubted: Container[Stream] = ()) -> None:
        """Subscribes to streams; of those that are in doubt a frame opens the session, not the exchange's word."""
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
            self._watches[stream] = _Watch(
                lane, CHANNELS[stream.channel], lane.frames, now_s, now_s if stream in doubted else None
            )
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
            self._watches.pop(stream, None)
        self._control.ask("UNSUBSCRIBE", asked)

    def holds(self, stream: Stream) -> bool:
        """Whether the stream is subscribed here, or about to be, or its last frames may still come."""
        return stream in self._watches or stream in self._leaving

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
        ends_ns = (self._covered_ns(lane, self._connection.heard_ns), leaving.at_ns, not_after_ns)
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
                self._watches[stream].moved_s = self._loop.time()
                if lane.waits:
                    self.lanes.open(lane, at_ns)
            elif request.method == "UNSUBSCRIBE" and stream in self._leaving:
                self._released(lane, self._leaving[stream], at_ns)

    def _released(self, lane: Lane, leaving: _Leaving, at_ns: int) -> None:
        """The exchange has unsubscribed a stream; its last frames may still be on their way."""
        now_s = self._loop.time()
        leaving.at_ns, leaving.due_s = at_ns, now_s + 2 * self.lag_s
        self._resumed.pop(lane.stream, None)
        lane.waits = False
        if leaving.wanted:
            self.want([lane.stream])
        self._let_go(now_s)

    def _refused(self, stream: Stream, *, is_wish: bool, why: str) -> None:
        """A stream that the exchange would not subscribe is in doubt: the next connection tries again."""
        watch, leaving = self._watches.get(stream), self._leaving.get(stream)
        if is_wish and watch is not None and not watch.lane.is_open:
            self._fresh.discard(stream)
            excuse(self._producer, stream, "rejected", why)
            watch.doubted_s = self._loop.time()
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
        if self._connection.heard_ns != self._heard_ns:
            self._heard_ns, self._heard_s = self._connection.heard_ns, now_s
        if overdue := self._control.overdue(self._heard_s):  # of a stall that may still end an answer proves nothing
            self._connection.close(f"no answer to {overdue[0].method} within {now_s - overdue[0].sent_s:.0f} s")
        self._open_resumed(now_s)
        self._let_go(now_s)
        silent, lags_ns = [], []
        for watch in self._watches.values():
            lane = watch.lane
            if lane.frames != watch.frames:
                self._moved(watch, now_s)
                lags_ns += self._lags_ns(lane, watch.channel, now_s)
            elif now_s - watch.moved_s > FLOOR_S and lane.is_open and not watch.channel.is_sparse:
                silent.append(watch)
        if lags_ns:
            self._lag_ns = max(lags_ns)
        if silent:
            newest_s: dict[str, float] = {}
            for watch in self._watches.values():
                name = watch.channel.name
                newest_s[name] = max(watch.moved_s, newest_s.get(name, 0.0))
            for watch in silent:
                self._suspect(watch, now_s, kin_deliver=newest_s[watch.channel.name] > watch.moved_s)

    def stepped(self, now_s: float) -> None:
        """The clock was stepped: what came before says nothing of lag any more."""
        for watch in self._watches.values():
            if watch.lane.frames != watch.frames:
                self._moved(watch, now_s)
        self._lag_ns = self._resumed_lag_ns = 0

    def _moved(self, watch: _Watch, now_s: float) -> None:
        lane = watch.lane
        pace, count = self._paces[lane.stream], lane.frames - watch.frames
        passed_s = now_s - watch.moved_s
        if watch.doubted_s is not None:  # a pause that should not have been is no pace
            log.info("%s: %s delivers again", self.name, lane.stream.key)
        elif passed_s > 1.0:  # silent at the look before
            pace.add(passed_s)
            pace.add(1.0 / count, count - 1)
        else:
            pace.add(passed_s / count, count)
        watch.frames, watch.moved_s, watch.doubted_s = lane.frames, now_s, None

    def _lags_ns(self, lane: Lane, channel: Channel, now_s: float) -> list[int]:
        """How late the lane's last frame was; nothing where it does not say."""
        event_ms = event_time_ms(lane.last) if lane.stream.market in channel.timed else None
        if event_ms is None:
            return []
        delay_ns = lane.heard_ns - event_ms * 1_000_000
        self._way.add(delay_ns, now_s)
        return [self._way.lag_ns(delay_ns)] if channel.name in _PUNCTUAL else []

    def _suspect(self, watch: _Watch, now_s: float, *, kin_deliver: bool) -> None:
        lane, stream = watch.lane, watch.lane.stream
        limit = limit_s(watch.channel, self._paces[stream], kin_deliver=kin_deliver)
        silent_s = now_s - watch.moved_s
        if limit is None or silent_s <= limit:
            return
        watch.doubted_s = now_s
        words = f"nothing for {silent_s:.0f} s, {limit:.0f} s are the most that it may be silent"
        log.warning("%s: %s is silent: %s; subscribing again", self.name, stream.key, words)
        at_ns = self._covered_ns(lane, lane.heard_ns) if lane.frames else lane.opened_ns
        self.lanes.close(lane, at_ns, "stale", words, waits=True)
        self.resubscribed += 1
        self._control.ask("SUBSCRIBE", [stream])

    # What it says of itself.

    def doubted(self) -> list[Stream]:
        """The streams that are silent and should not be."""
        return [stream for stream, watch in self._watches.items() if watch.doubted_s is not None]

    def is_sick(self, now_s: float) -> bool:
        """Whether a stream stays silent although it was subscribed again, or all fall silent together."""
        doubted = [watch.doubted_s for watch in self._watches.values() if watch.doubted_s is not None]
        if not doubted:
            return False
        due = [one for one in self._watches.values() if is_due(one.channel, self._paces[one.lane.stream], FLOOR_S)]
        all_silent = len(due) > 0 and all(now_s - watch.moved_s > FLOOR_S for watch in due)
        return all_silent or now_s - min(doubted) > RESUBSCRIBED_S

    def unproven(self, within_s: float) -> list[Stream]:
        """The streams that are not known to live on this connection: those that are due within so long have delivered,
        the others are subscribed by the exchange's own word, and a neighbour delivers."""
        if not self._control.is_done:
            return list(self._watches)
        somebody = self.lanes.counter > self.lanes.unknown.frames
        due = {
            stream for stream, watch in self._watches.items() if is_due(watch.channel, self._paces[stream], within_s)
        }
        found = []
        for stream, watch in self._watches.items():
            if watch.lane.frames:
                continue
            listed = self._listed is not None and stream.exchange_name in self._listed
            if stream in due or not listed or not (somebody or not due):
                found.append(stream)
        return found

    def delivered_since(self, stream: Stream, since_s: float) -> bool:
        """Whether the stream delivered here since a monotonic moment."""
        watch = self._watches.get(stream)
        return watch is not None and watch.doubted_s is None and watch.lane.frames > 0 and watch.moved_s >= since_s

    def lacks_before(self, other: "Subscriber") -> bool:
        """Whether frames may still be on their way here that were sent before another connection began: this one lags,
        or is stalled."""
        heard_ns = self._connection.heard_ns
        for stream, watch in self._watches.items():
            lane, twin = watch.lane, other.lanes.of(stream)
            if twin is None or not twin.is_open:
                continue
            if (
                watch.doubted_s is not None
                or stream in self._resumed
                or self._covered_ns(lane, heard_ns) < twin.opened_ns
            ):
                return True
        return False

    @property
    def lag_s(self) -> float:
        """How late the last frames were, beyond the market's way."""
        return self._lag_ns / SECOND_NS

    def beat(self) -> str:
        """For `producer.BEATS`: up to when the connection's frames are covered, and now."""
        lag_ns = self._lag_ns if self._lag_ns > LATE_NS else 0
        return f"{self._connection.heard_ns - lag_ns} {now_ns()}"

    def delays(self) -> dict[str, int]:
        """Symbol to receive minus event time, in ns, of the newest frame; the largest of its streams."""
        found: dict[str, int] = {}
        newest_ns = now_ns() - 2 * SECOND_NS
        for stream, watch in self._watches.items():
            lane = watch.lane
            if lane.heard_ns > newest_ns and stream.channel in _PUNCTUAL:
                event_ns = _event_ns(lane)
                if event_ns is not None:
                    delay_ns = lane.heard_ns - event_ns
                    found[stream.symbol] = max(delay_ns, found.get(stream.symbol, delay_ns))
        return found


_PUNCTUAL = frozenset({"depth20", "bookTicker", "aggTrade", "kline_1m"})
"""Their event time is when the exchange sent them; that of markPrice is the whole second."""


def _event_ns(lane: Lane) -> int | None:
    channel = CHANNELS.get(lane.stream.channel)
    if channel is None or lane.stream.market not in channel.timed or not lane.last:
        return None
    event_ms = event_time_ms(lane.last)
    return event_ms * 1_000_000 if event_ms is not None else None


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
