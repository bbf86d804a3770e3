"""The watch over a connection's streams: which deliver, at what pace, which are silent and should not be; no I/O."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from common.channels import CHANNELS, Channel
from common.streams import Stream
from ingest.freshness import RESUBSCRIBED_S, is_due, limit_s
from ingest.lanes import Lane
from ingest.pace import FLOOR_S, Pace

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""So often all is looked at."""


@dataclass(slots=True)
class Sight:
    """What a look at a lane needs to know of the look before; monotonic seconds.

    Attributes:
        lane: What is looked at.
        channel: Its kind.
        frames: How many it had delivered.
        moved_s: When it was last seen to deliver, or its subscription began.
        before_s: How long it had been silent on the connection that this one is to replace; 0 once it delivered here.
        doubted_s: Since when it is silent and should not be; None where it is not.
    """

    lane: Lane
    channel: Channel
    frames: int
    moved_s: float
    before_s: float = 0.0
    doubted_s: float | None = None

    def silent_s(self, now_s: float) -> float:
        """For how long it has delivered nothing, here or there."""
        return self.before_s + now_s - self.moved_s


class Silence(NamedTuple):
    """A stream that has just been found silent, and why that should not be, in words."""

    lane: Lane
    reason: str


class Watch:
    """The watch.

    Args:
        name: Of the connection's seat, for logs.
        paces: What is known of each stream's pace; it learns.
    """

    def __init__(self, name: str, paces: Mapping[Stream, Pace]) -> None:
        self._name = name
        self._paces = paces
        self._sights: dict[Stream, Sight] = {}

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._sights

    def __iter__(self) -> Iterator[Sight]:
        return iter(self._sights.values())

    def add(self, lane: Lane, now_s: float, *, before_s: float = 0.0, is_doubted: bool = False) -> None:
        """Watches a stream from now on, which was silent elsewhere for `before_s`."""
        channel = CHANNELS[lane.stream.channel]
        doubted_s = now_s if is_doubted else None
        self._sights[lane.stream] = Sight(lane, channel, lane.frames, now_s, before_s, doubted_s)

    def drop(self, stream: Stream) -> None:
        """Watches a stream no more."""
        self._sights.pop(stream, None)

    def begins(self, stream: Stream, now_s: float) -> None:
        """A stream's subscription has begun."""
        self._sights[stream].moved_s = now_s

    def doubt(self, stream: Stream, now_s: float) -> None:
        """A stream is known not to deliver."""
        self._sights[stream].doubted_s = now_s

    # A look.

    def moved(self, now_s: float) -> list[tuple[Lane, Channel]]:
        """The lanes that delivered since the last look; their pace is learned."""
        found = self._sights_unseen()
        for sight in found:
            self._learn(sight, now_s)
        return [(sight.lane, sight.channel) for sight in found]

    def unseen(self) -> list[tuple[Lane, Channel]]:
        """The lanes that delivered since the last look, between two of them: it is left to the next to learn."""
        return [(sight.lane, sight.channel) for sight in self._sights_unseen()]

    def _sights_unseen(self) -> list[Sight]:
        return [sight for sight in self._sights.values() if sight.lane.frames != sight.frames]

    def _learn(self, sight: Sight, now_s: float) -> None:
        lane = sight.lane
        pace, count = self._paces[lane.stream], lane.frames - sight.frames
        passed_s = now_s - sight.moved_s
        if sight.doubted_s is not None:  # a pause that should not have been is no pace
            log.info("%s: %s delivers again", self._name, lane.stream.key)
        elif passed_s > 1.0:  # silent at the look before
            pace.add(passed_s)
            pace.add(1.0 / count, count - 1)
        else:
            pace.add(passed_s / count, count)
        sight.frames, sight.moved_s, sight.before_s, sight.doubted_s = lane.frames, now_s, 0.0, None

    def silences(self, now_s: float) -> list[Silence]:
        """Streams that are silent for too long, each told once: they are in doubt from now on."""
        silent = [
            sight
            for sight in self._sights.values()
            if sight.silent_s(now_s) > FLOOR_S and sight.lane.is_open and not sight.channel.is_sparse
        ]
        if not silent:
            return []
        newest_s: dict[str, float] = {}
        for sight in self._sights.values():
            name = sight.channel.name
            newest_s[name] = max(sight.moved_s, newest_s.get(name, 0.0))
        found = []
        for sight in silent:
            stream, silent_s = sight.lane.stream, sight.silent_s(now_s)
            kin_deliver = newest_s[sight.channel.name] > sight.moved_s
            limit = limit_s(sight.channel, self._paces[stream], kin_deliver=kin_deliver)
            if limit is not None and silent_s > limit:
                sight.doubted_s = now_s
                reason = f"nothing for {silent_s:.0f} s, {limit:.0f} s are the most that it may be silent"
                log.warning("%s: %s is silent: %s; subscribing again", self._name, stream.key, reason)
                found.append(Silence(sight.lane, reason))
        return found

    # What it says.

    def doubted(self) -> list[Stream]:
        """The streams that are silent and should not be."""
        return [stream for stream, sight in self._sights.items() if sight.doubted_s is not None]

    def silent_s(self, now_s: float) -> dict[Stream, float]:
        """For how long each stream has delivered nothing."""
        return {stream: sight.silent_s(now_s) for stream, sight in self._sights.items()}

    def is_sick(self, now_s: float) -> bool:
        """Whether a stream stays silent although it was subscribed again, or all fall silent together."""
        doubted = [sight.doubted_s for sight in self._sights.values() if sight.doubted_s is not None]
        return bool(doubted) and (self.are_all_silent(now_s) or now_s - min(doubted) > RESUBSCRIBED_S)

    def are_all_silent(self, now_s: float, for_s: float = FLOOR_S) -> bool:
        """Whether none of the streams that must deliver every few seconds has done so, for so long."""
        due = [self._sights[stream] for stream in self.due(FLOOR_S)]
        return len(due) > 0 and all(
            now_s - sight.moved_s > for_s and sight.lane.frames == sight.frames for sight in due
        )

    def due(self, within_s: float) -> set[Stream]:
        """The streams that must deliver within so many seconds, if they live."""
        return {
            stream for stream, sight in self._sights.items() if is_due(sight.channel, self._paces[stream], within_s)
        }

    def delivered_since(self, stream: Stream, since_s: float) -> bool:
        """Whether a stream delivered since a monotonic moment."""
        sight = self._sights.get(stream)
        return sight is not None and sight.doubted_s is None and sight.lane.frames > 0 and sight.moved_s >= since_s
