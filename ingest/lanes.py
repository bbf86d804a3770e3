"""The frame path: one message of a connection becomes one packed XADD of its stream.

Nothing is parsed but the name in front of a combined frame, `{"stream":"<name>","data":<payload>}`; the payload is cut
out as it is. Whatever has another shape is looked at slowly: a control reply is answered to, all else is kept as
`unknown`. What a lane says of its sessions goes into the stream itself, in order with its frames.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from common import session
from common.channels import CHANNELS
from common.clock import now_ns
from common.frame import new_connection_id
from common.producer import Producer
from common.session import Event
from common.streams import Stream, unknown
from common.wire import pack

_PREFIX, _MIDDLE = b'{"stream":"', b'","data":'
_NAME_AT, _DATA_AT = len(_PREFIX), len(_MIDDLE)
_BRACE = ord("}")
_REPLY_KEYS = frozenset({"result", "error", "code"})
_SHUTDOWN = "serverShutdown"
_BEGINNING_BYTES = 256


class Lane:
    """One stream on one connection.

    Attributes:
        stream: Which.
        head: The command up to the digits of the receive time.
        waits: Whether the next frame opens a session.
        is_open: Whether a session is open.
        session: The number of the session that is open, or was last.
        opened_ns: Where it began.
        closed_ns: Where the one before ended.
        frames: Frames received.
        heard_ns: Receive time of the last of them; 0 before the first.
        last: The beginning of its payload, where the event time is: whole payloads, one a lane, would be a working set
            that no cache holds.
        dropped: Frames received and not kept since the last that was.
    """

    __slots__ = (
        "cause", "closed_ns", "dropped", "dropped_from_ns", "dropped_to_ns", "frames", "head", "heard_ns", "is_open",
        "last", "opened_ns", "session", "stream", "waits",
    )  # fmt: skip

    def __init__(self, stream: Stream, connection: str) -> None:
        # XADD key * c <connection> t <receive ns> n <counter> d <payload>, up to the digits of the receive time
        self.head = b"*11" + pack("XADD", stream.key, "*", "c", connection, "t")[2:] + b"$19\r\n"
        self.stream = stream
        self.waits = stream.channel in CHANNELS  # `unknown` has no sessions
        self.is_open = False
        self.session = 0
        self.opened_ns = 0
        self.closed_ns = 0
        self.frames = 0
        self.heard_ns = 0
        self.last = b""
        self.dropped = 0
        self.dropped_from_ns = 0
        self.dropped_to_ns = 0
        self.cause: session.Cause = "overflow"


def _beginning(name: str) -> bytes:
    """What each message of the stream with this name begins with."""
    return _PREFIX + name.encode() + _MIDDLE


class Lanes:
    """All streams of one connection, and the counter of its frames.

    Args:
        connection: The connection's id.
        market: `um` or `spot`.
        streams: What is subscribed on it at first.
        producer: Where the commands go.
        on_control: Gets each control reply: a mapping with `result`, `error` or `code`.
        on_shutdown: Called when the exchange says that it goes down.
        begins: Where the session begins that a frame opens: (lane, receive time in ns) to wall clock in ns; the frame
            is in `lane.last` then. None from it: the session is opened later. Without it, the receive time.
    """

    def __init__(
        self,
        connection: str,
        market: str,
        streams: Iterable[Stream],
        producer: Producer,
        on_control: Callable[[dict[str, Any]], None],
        on_shutdown: Callable[[], None] = lambda: None,
        begins: Callable[[Lane, int], int | None] | None = None,
    ) -> None:
        self.connection = connection
        self.counter = 0
        self.dropped = 0
        self._by_beginning = {_beginning(stream.exchange_name): Lane(stream, connection) for stream in streams}
        """The lanes by what their messages begin with, up to the payload."""
        self.unknown = Lane(unknown(market), connection)
        self._append = producer.append
        self._producer = producer
        self._on_control = on_control
        self._on_shutdown = on_shutdown
        self._begins = begins or (lambda lane, receive_ns: receive_ns)

    def __iter__(self) -> Iterator[Lane]:
        yield from self._by_beginning.values()
        yield self.unknown

    def add(self, stream: Stream) -> Lane:
        """The lane of a stream, made where there is none."""
        beginning = _beginning(stream.exchange_name)
        lane = self._by_beginning.get(beginning)
        if lane is None:
            lane = self._by_beginning[beginning] = Lane(stream, self.connection)
        return lane

    def of(self, stream: Stream) -> Lane | None:
        """The lane of a stream; None where the connection has none."""
        return self._by_beginning.get(_beginning(stream.exchange_name))

    def message(self, receive_ns: int, message: bytes) -> None:
        """Takes one message; called for each, so short."""
        at = message.find(b'"', _NAME_AT) + _DATA_AT
        lane = self._by_beginning.get(message[:at])
        if lane is None or message[-1] != _BRACE:
            lane, payload = self._odd(message)
            if lane is None:
                return
        else:
            payload = message[at:-1]
        lane.last = payload[:_BEGINNING_BYTES]
        if lane.waits:
            self._begin(lane, receive_ns)
        if lane.dropped and self._producer.has_room():
            self.settle(lane)  # before the frame: a reader knows then why ids are missing
        lane.heard_ns = receive_ns
        lane.frames += 1
        self.counter += 1
        counter = b"%d" % self.counter
        kept = self._append(
            b"%b%019d\r\n$1\r\nn\r\n$%d\r\n%b\r\n$1\r\nd\r\n$%d\r\n%b\r\n"
            % (lane.head, receive_ns, len(counter), counter, len(payload), payload)
        )
        if not kept:
            self._drop(lane, receive_ns)

    def _begin(self, lane: Lane, receive_ns: int) -> None:
        at_ns = self._begins(lane, receive_ns)
        lane.waits = False
        if at_ns is not None:
            self.open(lane, at_ns)

    def _drop(self, lane: Lane, receive_ns: int) -> None:
        self.dropped += 1
        lane.dropped += 1
        lane.dropped_to_ns = receive_ns
        if lane.dropped == 1:
            lane.dropped_from_ns = receive_ns
            lane.cause = self._producer.cause

    def _odd(self, message: bytes) -> tuple[Lane | None, bytes]:
        """Looks closer at a message of another shape; gives its lane, None where nothing is to be kept, and payload."""
        try:
            found = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = None
        if isinstance(found, dict):
            if "stream" not in found and not _REPLY_KEYS.isdisjoint(found) and "e" not in found:
                self._on_control(found)
                return None, b""
            lane = self._lane_of(found.get("stream"))
            if lane is not None and set(found) == {"stream", "data"}:
                # A combined frame with blanks, or its keys turned round: the payload is still cut out verbatim.
                return lane, bytes(msgspec.json.decode(message, type=_Combined).data)
            if _SHUTDOWN in (found.get("e"), str(found.get("stream")).removeprefix("!")):
                self._on_shutdown()
        return self.unknown, message

    def _lane_of(self, name: object) -> Lane | None:
        return self._by_beginning.get(_beginning(name)) if isinstance(name, str) else None

    # What the subscriber says about the lanes.

    def open(self, lane: Lane, at_ns: int) -> None:
        """The stream is covered from here on."""
        lane.waits = False
        lane.is_open = True
        lane.session += 1
        lane.opened_ns = at_ns
        self._say(lane, at_ns, session.Opened(at_ns, lane.session))

    def close(self, lane: Lane, at_ns: int, cause: session.Cause, reason: str, *, waits: bool = False) -> None:
        """The stream is covered no more; `waits`: but it will be when a frame comes."""
        self.settle(lane)
        lane.waits = waits
        if lane.is_open:
            lane.is_open = False
            lane.closed_ns = at_ns = max(at_ns, lane.opened_ns)
            self._say(lane, at_ns, session.Closed(at_ns, cause, reason, lane.session))

    def mark(self, lane: Lane, mark: session.Marked) -> None:
        """Says something about a stream that is recorded."""
        self._say(lane, mark.at, mark)

    def settle(self, lane: Lane) -> None:
        """Says how many frames were dropped, when there were any."""
        if lane.dropped:
            event = session.Dropped(lane.dropped_from_ns, lane.dropped_to_ns, lane.dropped, lane.cause)
            self._say(lane, lane.dropped_to_ns, event)
            lane.dropped = 0

    def _say(self, lane: Lane, at_ns: int, event: Event) -> None:
        self._append(_packed(lane.stream, self.connection, at_ns, self.counter, event), always=True)


def excuse(producer: Producer, stream: Stream, cause: session.Cause, reason: str) -> None:
    """Says why a stream that no connection covers is not covered: a session that covers nothing, of no connection."""
    at_ns, connection = now_ns(), new_connection_id()
    for event in (session.Opened(at_ns, 0), session.Closed(at_ns, cause, reason, 0)):
        producer.append(_packed(stream, connection, at_ns, 0, event), always=True)


def _packed(stream: Stream, connection: str, at_ns: int, counter: int, event: Event) -> bytes:
    text = session.encode(event)
    return pack("XADD", stream.key, "*", "c", connection, "t", f"{at_ns:019d}", "n", counter, "e", text)


class _Combined(msgspec.Struct):
    stream: str
    data: msgspec.Raw
