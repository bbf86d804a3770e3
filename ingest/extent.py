"""From when and until when a connection covers its streams, told in the exchange's time; no I/O.

A frame that comes late was covered when it was sent, and what a lagging connection had not delivered when it died was
not (decision 0006).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from common.channels import CHANNELS, Channel, is_timed
from common.clock import SECOND_NS
from common.frame import event_time_ms
from common.lag import Way
from common.streams import Stream
from ingest.lanes import Lane
from ingest.pace import Pace
from ingest.watch import LOOK_S

LATE_NS = SECOND_NS // 4
"""Lag below this is the network's ordinary trembling."""

TREMBLING_S = 0.1
"""Looks are late by so much now and then."""

CALM_S = 3.0
"""So long after an unusual pause of a connection what comes may still be what it held back."""

BURST_S = 0.5
"""So long after a stream without event times speaks again, as many frames have come as a stall held back."""

PUNCTUAL = frozenset({"depth20", "bookTicker", "aggTrade", "kline_1m"})
"""Their event time is when the exchange sent them; that of markPrice is the whole second."""


def delay_ns(lane: Lane, channel: Channel | None = None) -> int | None:
    """Receive minus event time of the lane's last frame; None where it does not say."""
    channel = channel or CHANNELS.get(lane.stream.channel)
    if channel is None or lane.stream.market not in channel.timed or not lane.last:
        return None
    event_ms = event_time_ms(lane.last)
    return lane.heard_ns - event_ms * 1_000_000 if event_ms is not None else None


class _Resumed(NamedTuple):
    """A stream without event times that spoke again: when, and how many frames it had delivered before."""

    lane: Lane
    receive_ns: int
    frames: int
    at_s: float


class Extent:
    """What one connection covers.

    Args:
        paces: What is known of each stream's pace.
        way: What is known of the market's way.

    Attributes:
        lag_ns: How late the last frames were, beyond the market's way.
    """

    def __init__(self, paces: Mapping[Stream, Pace], way: Way) -> None:
        self._paces = paces
        self._way = way
        self._resumed: dict[Stream, _Resumed] = {}
        self._resumed_lag_ns = 0
        self._paused_at_ns: int | None = None
        self._calm_s = 0.0
        self.lag_ns = 0

    # Lag.

    @property
    def late_ns(self) -> int:
        """The lag, where it is more than the network's trembling."""
        return _late_ns(self.lag_ns)

    def learn(self, lanes: Sequence[tuple[Lane, Channel]], before_ns: int, heard_ns: int, now_s: float) -> None:
        """Learns the way and the lag from the last frames of lanes that delivered since the last look.

        Where none of these frames tells a time, and the connection paused unusually before them, they may all be from
        before the pause; for a while what follows may be of the same burst.

        Args:
            lanes: Those.
            before_ns: When the connection had last been heard at that look.
            heard_ns: When it was last heard.
            now_s: Monotonic.
        """
        delayed = [
            (delayed_ns, channel) for lane, channel in lanes if (delayed_ns := delay_ns(lane, channel)) is not None
        ]
        if delayed:
            self._way.add(min(delayed_ns for delayed_ns, _ in delayed), now_s)
        punctual = [delayed_ns for delayed_ns, channel in delayed if channel.name in PUNCTUAL]
        if punctual:
            self.lag_ns, self._paused_at_ns = self._way.lag_ns(max(punctual)), None
        elif lanes:
            usual_s = LOOK_S + TREMBLING_S + min(self._usual_s(lane.stream) or 1.0 for lane, _ in lanes)
            if heard_ns - before_ns > usual_s * SECOND_NS:
                self._paused_at_ns = before_ns if self._paused_at_ns is None else min(before_ns, self._paused_at_ns)
                self._calm_s = now_s + CALM_S
            elif now_s > self._calm_s:
                self._paused_at_ns = None

    def forget_lag(self) -> None:
        """The clock was stepped: what was measured says nothing any more."""
        self.lag_ns = self._resumed_lag_ns = 0
        self._paused_at_ns = None

    # The end.

    def reached_ns(self, heard_ns: int) -> int:
        """Up to when what the exchange sent on the connection has come, if it was last heard at `heard_ns`."""
        reached_ns = heard_ns - _late_ns(self.lag_ns)
        return reached_ns if self._paused_at_ns is None else min(reached_ns, self._paused_at_ns)

    def covered_ns(self, lane: Lane, heard_ns: int) -> int:
        """Up to when what the exchange sent has come: less what is still on its way, and not into a silence.

        Args:
            lane: The stream's.
            heard_ns: When the exchange was last heard at all.
        """
        usual_s, own_ns = self._longest_s(lane), self._own_ns(lane)
        last_ns = max(lane.heard_ns, lane.opened_ns)
        has_come = lane.heard_ns >= lane.opened_ns  # else it may all be on its way still: nobody knows how late that is
        if usual_s is not None and (not has_come or heard_ns - last_ns >= usual_s * SECOND_NS):
            return own_ns or self.reached_ns(last_ns)
        if own_ns and heard_ns - lane.heard_ns < LATE_NS:
            return own_ns + heard_ns - lane.heard_ns
        return max(own_ns, self.reached_ns(heard_ns))

    def _own_ns(self, lane: Lane) -> int:
        """Up to when the session's last frame tells by itself that all has come; 0 where it does not."""
        delayed_ns = delay_ns(lane) if lane.heard_ns >= lane.opened_ns else None
        return lane.heard_ns - _late_ns(self._way.lag_ns(delayed_ns)) if delayed_ns is not None else 0

    def _longest_s(self, lane: Lane) -> float | None:
        """A longer pause of the stream was a silence, in s; None where that is not known."""
        usual_s, channel = self._usual_s(lane.stream), CHANNELS.get(lane.stream.channel)
        if channel is None or (usual_s is None and channel.pace_s is None):
            return None
        return max(1.0, 3 * (usual_s or 0.0)) if channel.pace_s is None else usual_s or 3 * channel.pace_s

    def _usual_s(self, stream: Stream) -> float | None:
        pace = self._paces.get(stream)
        return pace.usual_s if pace is not None else None

    # The beginning.

    def begins_ns(self, lane: Lane, receive_ns: int, now_s: float) -> int | None:
        """Where the session begins that a frame opens: when it was sent; right at the end of the session before, where
        nothing can be missing between the two. None: that is told by `resumed` later."""
        timed = is_timed(lane.stream.market, lane.stream.channel)
        event_ms = event_time_ms(lane.last) if timed else None
        if event_ms is None and lane.session:
            self._resumed[lane.stream] = _Resumed(lane, receive_ns, lane.frames, now_s)
            return None
        if event_ms is not None:
            self.lag_ns = self._way.lag_ns(receive_ns - event_ms * 1_000_000)
            self._resumed_lag_ns = max(self._resumed_lag_ns, self.lag_ns)
        return self._joined_ns(lane, receive_ns - self.late_ns)

    def _joined_ns(self, lane: Lane, at_ns: int) -> int:
        """The end of the lane's session before, where only a usual pause lies between the two, else `at_ns`."""
        if not lane.session:
            return at_ns
        pace_s = CHANNELS[lane.stream.channel].pace_s
        usual_s = max(0.3, 1.5 * pace_s) if pace_s is not None else max(3.0, self._paces[lane.stream].usual_s or 0.0)
        return lane.closed_ns if at_ns - lane.closed_ns <= usual_s * SECOND_NS else at_ns

    def resumed(self, now_s: float = math.inf) -> Iterator[tuple[Lane, int]]:
        """Lanes without event times that spoke again, and where their sessions begin: a stall that ended brings as many
        frames as it lacked."""
        for stream, one in list(self._resumed.items()):
            if now_s - one.at_s < BURST_S:
                continue  # a burst is still coming
            del self._resumed[stream]
            pace_s = CHANNELS[stream.channel].pace_s
            lacked_s = (one.receive_ns - one.lane.closed_ns) / SECOND_NS
            if pace_s is not None and (one.lane.frames - one.frames) * pace_s >= 0.9 * lacked_s:
                yield one.lane, one.lane.closed_ns
            else:
                yield one.lane, self._joined_ns(one.lane, one.receive_ns - self._resumed_lag_ns)
        if not self._resumed:
            self._resumed_lag_ns = 0

    def is_resuming(self, stream: Stream) -> bool:
        """Whether a stream spoke again, and where its session begins is not known yet."""
        return stream in self._resumed

    def drop(self, stream: Stream) -> None:
        """The stream is not to be covered any more."""
        self._resumed.pop(stream, None)


def _late_ns(lag_ns: int) -> int:
    return lag_ns if lag_ns > LATE_NS else 0
