"""From a message to a packed command, and what is said about it."""

from typing import Any

import hiredis
import msgspec
import pytest

from common import session
from common.session import Closed, Dropped, Opened
from common.streams import Stream
from ingest.lanes import Lanes

STREAM = Stream("um", "depth20", "BTCUSDT")
NS = 1_790_526_538_985_123_456
PAYLOAD = b'{"e":"depthUpdate","E":1790526538985, "x":"\xc3\xa9"}'
FRAME = b'{"stream":"btcusdt@depth20@100ms","data":' + PAYLOAD + b"}"


class Hand:
    """Stands where the producer stands, to see what it is given."""

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.full = False
        self.cause = "overflow"

    def append(self, packed: bytes, *, always: bool = False) -> bool:
        if self.full and not always:
            return False
        self.packed.append(packed)
        return True

    def has_room(self) -> bool:
        return not self.full

    def entries(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The stream's key and the fields of each command, as Redis reads them."""
        reader = hiredis.Reader()
        reader.feed(b"".join(self.packed))
        found = []
        while (words := reader.gets()) is not False:
            assert words[0] == b"XADD"
            assert words[2] == b"*"
            found.append((words[1], dict(zip(words[3::2], words[4::2], strict=True))))
        return found


@pytest.fixture
def hand() -> Hand:
    return Hand()


def lanes(hand: Hand, replies: list[Any] | None = None) -> Lanes:
    on_control = (replies if replies is not None else []).append
    return Lanes("18e9f24b1004894f-4adb", "um", [STREAM], hand, on_control)  # type: ignore[arg-type]


def events(hand: Hand) -> list[session.Event]:
    return [session.decode(fields[b"e"]) for _, fields in hand.entries() if b"e" in fields]


def frames(hand: Hand) -> list[tuple[bytes, bytes]]:
    return [(key, fields[b"d"]) for key, fields in hand.entries() if b"d" in fields]


def test_a_frame_is_packed_verbatim(hand: Hand) -> None:
    """The payload is cut out of the combined frame byte for byte, with time, connection and counter."""
    built = lanes(hand)
    built.message(NS, FRAME)
    built.message(NS + 1, FRAME)
    assert [fields for _, fields in hand.entries()][1:] == [
        {b"c": b"18e9f24b1004894f-4adb", b"t": b"%d" % NS, b"n": b"1", b"d": PAYLOAD},
        {b"c": b"18e9f24b1004894f-4adb", b"t": b"%d" % (NS + 1), b"n": b"2", b"d": PAYLOAD},
    ]


def test_the_first_frame_opens_the_session(hand: Hand) -> None:
    """Data may come before the acknowledgement: the session is open from the first frame on, once."""
    built = lanes(hand)
    built.message(NS, FRAME)
    built.message(NS + 5, FRAME)
    built.close(built.add(STREAM), NS + 9, "disconnect", "gone")
    assert events(hand) == [Opened(NS), Closed(NS + 9, "disconnect", "gone")]


@pytest.mark.parametrize(
    "message",
    [
        b'{"stream":"ethusdt@depth20@100ms","data":{}}',
        b'{"stream":"btcusdt@depth20@100ms","data":{"a":1',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
        b'{"e":"serverShutdown","E":1}',
        b"not json",
        b"\xff\xfe",
        b"",
        b"[1,2]",
        b'{"stream":7,"data":1}',
    ],
)
def test_what_belongs_to_no_stream_is_kept_as_unknown(hand: Hand, message: bytes) -> None:
    """What is no frame of a stream of ours goes whole to the market's unknown stream, and opens no session."""
    lanes(hand).message(NS, message)
    assert frames(hand) == [(b"md:um:unknown:_", message)]
    assert events(hand) == []


@pytest.mark.parametrize(
    "message",
    [
        b'{ "stream" : "btcusdt@depth20@100ms", "data" : {"a" : [1, 2]} }',
        b'{"data":{"a" : [1, 2]},"stream":"btcusdt@depth20@100ms"}',
    ],
)
def test_a_frame_with_another_shape_is_still_its_streams(hand: Hand, message: bytes) -> None:
    """Blanks and another order of keys change nothing: the payload is the bytes of `data`."""
    lanes(hand).message(NS, message)
    assert frames(hand) == [(STREAM.key.encode(), b'{"a" : [1, 2]}')]


@pytest.mark.parametrize(
    "message",
    [
        b'{"result":null,"id":1}',
        b'{"error":{"code":2,"msg":"Invalid request"},"id":null}',
        b'{"code":2,"msg":"Invalid request"}',
    ],
)
def test_control_replies_are_no_frames(hand: Hand, message: bytes) -> None:
    """Nested and flat replies go to who asked, and are not counted."""
    replies: list[Any] = []
    built = lanes(hand, replies)
    built.message(NS, message)
    assert replies == [msgspec.json.decode(message)]
    assert (built.counter, hand.packed) == (0, [])


def test_what_is_dropped_is_said_before_the_next_frame(hand: Hand) -> None:
    """One event names first, last, number and cause; it stands before the frame that was kept again."""
    built = lanes(hand)
    built.message(NS, FRAME)
    hand.full, hand.cause = True, "redis"
    for number in range(3):
        built.message(NS + 10 + number, FRAME)
    hand.full, hand.cause = False, "overflow"
    built.message(NS + 20, FRAME)
    kinds = [b"e" if b"e" in fields else b"d" for _, fields in hand.entries()]
    assert kinds == [b"e", b"d", b"e", b"d"]
    assert events(hand)[1] == Dropped(NS + 10, NS + 12, 3, "redis")
    assert built.dropped == 3
