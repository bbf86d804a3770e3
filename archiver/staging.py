"""What was read and is not yet in the archive: a bucket of lines for each minute of each stream, and when it is over.

Staging is disposable: Redis is the log, and whatever lies here is still there. Lines are gathered in memory and
appended to a file when there are enough. Of the entries only the place before a bucket's first is kept: the oldest such
place of a stream is how far all of it is durable.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from archiver.bucket import Bucket, When, is_over, is_past
from archiver.ids import Ids, trade_id
from archiver.stage_folder import StageFolder
from common import session
from common.channels import is_timed
from common.clock import MINUTE_NS, SECOND_NS
from common.frame import Frame, event_time_ms, filed_ns, is_connection, to_staged_line
from common.paths import Minute
from common.position import BEGINNING, Place
from common.reader import Entry
from common.session import Event
from common.streams import Stream

SPILL_BYTES = 32_768
MOST_NS = 2**63 - 1
"""No time and no number in the archive is larger: Parquet, the ledger and calendars end there."""

KEPT_CONNECTIONS = 256
"""So many of the newest connections of a stream are remembered by when they were last heard."""


class Said(NamedTuple):
    """A session event that was read."""

    stream: Stream
    connection: str
    event: Event
    entry_id: bytes


@dataclass(slots=True, eq=False)
class _Lane:
    """One stream's state while it is read.

    Attributes:
        last_id: The last entry that was read, the `count`th; `before_id` is the one before it.
        owed: Minutes in parts without a Parquet file, to when something of them came last (monotonic).
        undurable: Bucket, or id of a session event, to the place before its first entry, until it is durable.
    """

    stream: Stream
    timed: bool
    ids: Ids | None
    before_id: bytes = BEGINNING
    last_id: bytes = BEGINNING
    count: int = 0
    undurable: dict[Bucket | bytes, Place] = field(default_factory=dict)
    watermark_ns: int = 0
    buckets: dict[int, Bucket] = field(default_factory=dict)
    owed: dict[int, float] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)


class Stage:
    """All buckets of one archiver.

    Args:
        folder: Its own. Folders beside it that no living archiver holds are removed.
        grace_s: How long after a minute's end its frames may still come.
    """

    def __init__(self, folder: Path, *, grace_s: float) -> None:
        self._files = StageFolder(folder)
        self._grace_s = grace_s
        self._lanes: dict[Stream, _Lane] = {}
        self.said: list[Said] = []
        self.holed: set[Stream] = set()
        """Streams in whose ids a hole was found, became smaller or was filled."""
        self.foreign = 0

    @property
    def size_bytes(self) -> int:
        """Everything staged, in memory and on disk."""
        return sum(bucket.size_bytes for bucket in self._all())

    def _all(self) -> Iterator[Bucket]:
        return (bucket for lane in self._lanes.values() for bucket in lane.buckets.values())

    def add(self, stream: Stream, entries: Iterable[Entry], now_s: float) -> None:
        """Takes entries in the order in which they were read."""
        lane = self._lanes.get(stream) or self._lane(stream)
        heard, timed, ids = lane.heard, lane.timed, lane.ids
        while len(heard) > KEPT_CONNECTIONS:
            del heard[min(heard, key=heard.__getitem__)]
        known, name = b"", ""
        minute, bucket = -1, None
        for entry_id, fields in entries:
            lane.before_id, lane.last_id = lane.last_id, entry_id
            lane.count += 1
            try:
                _, connection, _, receive, _, counter, kind, payload = fields
                receive_ns, number = int(receive), int(counter)
            except ValueError:
                self._foreign(lane, entry_id, fields, now_s)
                continue
            if connection != known:
                known, name = connection, connection.decode("ascii", "replace")
            if receive_ns >> 63 or number >> 63 or (name not in heard and not is_connection(name)):
                self._foreign(lane, entry_id, fields, now_s)
                continue
            if kind == b"e":
                self._event(lane, entry_id, name, payload, fields, now_s)
                continue
            heard[name] = receive_ns
            event_ms = event_time_ms(payload) if timed else None
            at_ns = receive_ns if event_ms is None else filed_ns(receive_ns, event_ms)
            if bucket is None or at_ns // MINUTE_NS != minute:
                minute = at_ns // MINUTE_NS
                bucket = lane.buckets.get(minute) or self._bucket(lane, minute, now_s)
            if b"\n" in payload:
                line = to_staged_line(Frame(receive_ns, name, number, payload)) + b"\n"
            else:
                line = b'{"t":%d,"c":"%b","n":%d,"d":%b}\n' % (receive_ns, connection, number, payload)
            bucket.add(line, now_s)
            if event_ms is not None and at_ns != receive_ns and at_ns > lane.watermark_ns:
                lane.watermark_ns = at_ns
            if ids is not None:
                self._follow(lane, payload, receive_ns, event_ms if at_ns != receive_ns else None, now_s)

    def _lane(self, stream: Stream) -> _Lane:
        timed = is_timed(stream.market, stream.channel)
        lane = self._lanes[stream] = _Lane(stream, timed, Ids() if stream.channel == "aggTrade" else None)
        return lane

    def _bucket(self, lane: _Lane, number: int, now_s: float) -> Bucket:
        minute = Minute(lane.stream, number)
        late = lane.watermark_ns >= minute.end_ns + int(self._grace_s * SECOND_NS)
        bucket = Bucket(minute, self._files.file(), late, now_s, now_s)
        lane.buckets[number] = bucket
        lane.undurable[bucket] = Place(lane.before_id, lane.count - 1)
        return bucket

    def _event(
        self, lane: _Lane, entry_id: bytes, connection: str, text: bytes, fields: list[bytes], now_s: float
    ) -> None:
        try:
            event = session.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            event = None
        if event is not None and 0 <= event.at <= MOST_NS and 0 <= (getattr(event, "to", None) or 0) <= MOST_NS:
            self.said.append(Said(lane.stream, connection, event, entry_id))
            lane.undurable[entry_id] = Place(lane.before_id, lane.count - 1)
        else:
            self._foreign(lane, entry_id, fields, now_s)

    def _foreign(self, lane: _Lane, entry_id: bytes, fields: list[bytes], now_s: float) -> None:
        """An entry that no collector of ours writes is archived as it is, under the time that Redis gave it."""
        self.foreign += 1
        milliseconds, _, sequence = entry_id.partition(b"-")
        at_ns, number = min(int(milliseconds) * 1_000_000, MOST_NS), min(int(sequence or 0) + 1, MOST_NS)
        frame = Frame(at_ns, "foreign", number, b"\n".join(fields))
        minute = at_ns // MINUTE_NS
        bucket = lane.buckets.get(minute) or self._bucket(lane, minute, now_s)
        bucket.add(to_staged_line(frame) + b"\n", now_s)

    def _follow(self, lane: _Lane, payload: bytes, receive_ns: int, event_ms: int | None, now_s: float) -> None:
        """aggTrade ids rise by one (reference/binance-protocol.md section 3.3): a jump is frames that never came."""
        number = trade_id(payload)
        if number is not None and lane.ids is not None and lane.ids.add(number, receive_ns, now_s, event_ms):
            self.holed.add(lane.stream)

    def ids(self, stream: Stream) -> Ids | None:
        """What is known of the stream's ids; None for a channel that has none without gaps."""
        lane = self._lanes.get(stream)
        return lane.ids if lane else None

    def spill(self, over_bytes: int = SPILL_BYTES) -> None:
        """Writes out the buckets that have gathered more than `over_bytes` in memory.

        Raises:
            OSError: The disk does not take it; nothing is lost, try again.
        """
        for bucket in self._all():
            if bucket.buffered_bytes > over_bytes:
                bucket.spill()

    def over(self, now_s: float, wall_ns: int, unread: frozenset[Stream]) -> list[Bucket]:
        """The buckets whose minute can be written; `unread` are the streams that were not read to their end."""
        return [
            bucket
            for lane in self._lanes.values()
            for when in [self._when(lane, now_s, wall_ns, unread)]
            for bucket in lane.buckets.values()
            if is_over(bucket, **when)
        ]

    def _when(self, lane: _Lane, now_s: float, wall_ns: int, unread: frozenset[Stream]) -> When:
        return When(
            watermark_ns=lane.watermark_ns,
            caught_up=lane.stream not in unread,
            now_s=now_s,
            wall_ns=wall_ns,
            grace_s=self._grace_s,
        )

    def owe(self, minute: Minute, now_s: float) -> None:
        """The minute has no Parquet file, because it was written in parts by somebody who was killed."""
        (self._lanes.get(minute.stream) or self._lane(minute.stream)).owed.setdefault(minute.number, now_s)

    def owed(self, now_s: float, wall_ns: int, unread: frozenset[Stream], *, most: int) -> list[Minute]:
        """Minutes in parts that are over, all of whose lines are in the archive: their Parquet files can be made.

        Each is given once; who starts anew finds those without a file (`layout.without_parquet`).
        """
        return list(islice(self._pop_owed(now_s, wall_ns, unread), most))

    def _pop_owed(self, now_s: float, wall_ns: int, unread: frozenset[Stream]) -> Iterator[Minute]:
        for lane in self._lanes.values():
            if not lane.owed:
                continue
            busy = {one.minute.number for one in lane.undurable if isinstance(one, Bucket)}
            when = self._when(lane, now_s, wall_ns, unread)
            for number, last_s in [*lane.owed.items()]:
                minute = Minute(lane.stream, number)
                if number not in busy and is_past(minute, last_s, **when):
                    del lane.owed[number]
                    yield minute

    def largest(self, share: float) -> list[Bucket]:
        """The largest buckets that together hold `share` of all bytes: to be written in parts when memory is short."""
        wanted = self.size_bytes * share
        chosen = []
        for bucket in sorted(self._all(), key=lambda one: one.size_bytes, reverse=True):
            if wanted <= 0:
                break
            wanted -= bucket.size_bytes
            chosen.append(bucket)
        return chosen

    def take(self, bucket: Bucket, *, in_parts: bool = False) -> None:
        """The bucket is on its way into the archive; frames of its minute that come now begin a new one.

        Of a minute in parts the last lines are a part too: its Parquet file takes the longest, and Redis need not keep
        the lines for it.

        Args:
            bucket: One that `over` or `largest` gave.
            in_parts: Whether its minute is not over. One that is late is written as a whole all the same.

        Raises:
            OSError: Its last lines could not be written out; it stays.
        """
        bucket.spill()
        lane, number = self._lanes[bucket.minute.stream], bucket.minute.number
        del lane.buckets[number]
        bucket.is_part = not bucket.is_late and (in_parts or number in lane.owed)
        if bucket.is_part:
            lane.owed[number] = bucket.last_s
        else:
            lane.owed.pop(number, None)

    def became_durable(self, stream: Stream, what: Iterable[Bucket | bytes]) -> Place | None:
        """Takes note of what of a stream became durable: buckets that were taken, ids of session events.

        Returns:
            The place up to which now all is durable; None where it is where reading began, or where the stream was
            dropped since: what is durable then will be read again.
        """
        lane = self._lanes.get(stream)
        if lane is None:
            return None
        for one in what:
            lane.undurable.pop(one, None)
        end = Place(lane.last_id, lane.count)
        place = min(lane.undurable.values(), key=lambda before: before.number, default=end)
        return place if place.number else None

    def heard(self, stream: Stream) -> dict[str, int]:
        """Connection to the receive time, in ns, of the last frame of the stream that was read."""
        lane = self._lanes.get(stream)
        return lane.heard if lane else {}

    def drop(self, stream: Stream) -> None:
        """Forgets what was read of a stream: somebody else reads it now, from what is durable."""
        lane = self._lanes.pop(stream, None)
        for bucket in lane.buckets.values() if lane else ():
            self._files.release(bucket.path)

    def release(self, bucket: Bucket) -> None:
        """A bucket that was taken, and is in the archive: its file is free."""
        self._files.release(bucket.path)

    def close(self) -> None:
        """Removes the folder: what is in it is still in Redis."""
        self._files.close()
