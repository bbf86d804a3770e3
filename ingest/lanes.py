"""The frame path: one message of a connection becomes one packed XADD of its stream.

Nothing is parsed but the name in front of a combined frame, `{"stream":"<name>","data":<payload>}`; the payload is cut
out as it is. Whatever has another shape is looked at slowly: a control reply is answered to, all else is kept as
`unknown`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from common import session
from common.producer import Producer
from common.session import Event
from common.streams import Stream, unknown
from common.wire import pack

_PREFIX = b'{"stream":"'
_MIDDLE = b'","data":'
_REPLY_KEYS = frozenset({"result", "error", "code"})


class Lane:
    """One stream on one connection."""

    __slots__ = ("cause", "dropped", "dropped_from_ns", "dropped_to_ns", "frames", "head", "opened", "stream")

    def __init__(self, stream: Stream, connection: str) -> None:
        # XADD key * c <connection> t <receive ns> n <counter> d <payload>, up to the digits of the receive time
        self.head = b"*11" + pack("XADD", stream.key, "*", "c", connection, "t")[2:] + b"$19\r\n"
        self.stream = stream
        self.opened = False
        self.frames = 0
        self.dropped = 0
        self.dropped_from_ns = 0
        self.dropped_to_ns = 0
        self.cause: session.Cause = "overflow"


class Lanes:
    """All streams of one connection, and the counter of its frames.

    Args:
        connection: The connection's id.
        market: `um` or `spot`.
        streams: What is subscribed on it.
        producer: Where the commands go.
        on_control: Gets each control reply: a mapping with `result`, `error` or `code`.
    """

    def __init__(
        self,
        connection: str,
        market: str,
        streams: Iterable[Stream],
        producer: Producer,
        on_control: Callable[[dict[str, Any]], None],
    ) -> None:
        self.connection = connection
        self.counter = 0
        self.dropped = 0
        self.by_name = {stream.exchange_name.encode(): Lane(stream, connection) for stream in streams}
        self.unknown = Lane(unknown(market), connection)
        self._append = producer.append
        self._producer = producer
        self._on_control = on_control

    def __iter__(self) -> Any:
        yield from self.by_name.values()
        yield self.unknown

    def message(self, receive_ns: int, message: bytes) -> None:
        """Takes one message; called for each, so short."""
        end = message.find(b'"', 11)
        lane = self.by_name.get(message[11:end])
        if (
            lane is None
            or not message.startswith(_PREFIX)
            or not message.startswith(_MIDDLE, end)
            or not message.endswith(b"}")
        ):
            self._odd(receive_ns, message)
        else:
            self._keep(lane, receive_ns, message[end + 9 : -1])

    def _keep(self, lane: Lane, receive_ns: int, payload: bytes) -> None:
        if not lane.opened:
            self.open(lane, receive_ns)
        if lane.dropped and self._producer.has_room():
            self.settle(lane)  # before the frame: a reader knows then why ids are missing
        self.counter += 1
        counter = b"%d" % self.counter
        kept = self._append(
            b"%b%019d\r\n$1\r\nn\r\n$%d\r\n%b\r\n$1\r\nd\r\n$%d\r\n%b\r\n"
            % (lane.head, receive_ns, len(counter), counter, len(payload), payload)
        )
        lane.frames += 1
        if not kept:
            self._drop(lane, receive_ns)

    def _drop(self, lane: Lane, receive_ns: int) -> None:
        self.dropped += 1
        lane.dropped += 1
        lane.dropped_to_ns = receive_ns
        if lane.dropped == 1:
            lane.dropped_from_ns = receive_ns
            lane.cause = "overflow" if self._producer.taken else "redis"

    def _odd(self, receive_ns: int, message: bytes) -> None:
        try:
            found = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = None
        if isinstance(found, dict):
            if "stream" not in found and not _REPLY_KEYS.isdisjoint(found) and "e" not in found:
                self._on_control(found)
                return
            lane = self._lane_of(found.get("stream"))
            if lane is not None and set(found) == {"stream", "data"}:
                # A combined frame with blanks, or its keys turned round: the payload is still cut out verbatim.
                self._keep(lane, receive_ns, bytes(msgspec.json.decode(message, type=_Combined).data))
                return
        self._keep(self.unknown, receive_ns, message)

    def _lane_of(self, name: object) -> Lane | None:
        return self.by_name.get(name.encode()) if isinstance(name, str) else None

    # What the collector says about the lanes.

    def open(self, lane: Lane, at_ns: int) -> None:
        """The stream is covered from here on."""
        lane.opened = True
        if lane is not self.unknown:
            self._say(lane, at_ns, session.Opened(at_ns))

    def close(self, at_ns: int, cause: session.Cause, reason: str) -> None:
        """The connection is gone: every stream that was covered is so no more."""
        for lane in self:
            self.settle(lane)
            if lane.opened and lane is not self.unknown:
                self._say(lane, at_ns, session.Closed(at_ns, cause, reason))
            lane.opened = False

    def settle(self, lane: Lane) -> None:
        """Says how many frames were dropped, when there were any."""
        if lane.dropped:
            event = session.Dropped(lane.dropped_from_ns, lane.dropped_to_ns, lane.dropped, lane.cause)
            self._say(lane, lane.dropped_to_ns, event)
            lane.dropped = 0

    def _say(self, lane: Lane, at_ns: int, event: Event) -> None:
        text = session.encode(event)
        words = lane.stream.key, "*", "c", self.connection, "t", f"{at_ns:019d}", "n", self.counter, "e", text
        self._append(pack("XADD", *words), always=True)


class _Combined(msgspec.Struct):
    stream: str
    data: msgspec.Raw
