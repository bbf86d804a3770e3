"""A frame: one message as it was received, and how it is written down.

The payload is kept as bytes, verbatim: blanks, key order and trailing zeros are information. It is looked at in two
places only, for its event time and its identity, and both look at the few bytes they need.
"""

import base64
import binascii
import re
import secrets
from typing import NamedTuple

import msgspec

from common.clock import MINUTE_NS, now_ns


class Frame(NamedTuple):
    """One message of one stream.

    Attributes:
        receive_ns: Wall clock in ns, taken on the first line after the frame arrived.
        connection: The connection it came on; unique for ever.
        counter: Its place among the frames of that connection, from 1.
        payload: The bytes of the combined frame's `data` member, verbatim.
    """

    receive_ns: int
    connection: str
    counter: int
    payload: bytes


def new_connection_id() -> str:
    """An id that no other connection ever has: the start in ns and a random part, in hex, 21 characters."""
    return f"{now_ns():016x}-{secrets.token_hex(2)}"


def to_line(frame: Frame) -> bytes:
    """The frame as a line of a `.jsonl` file, without the line's end.

    A payload that is not valid JSON on one line is written as base64 under `b` in place of `d`.
    """
    return _line(frame, verbatim=is_json_line(frame.payload))


def to_staged_line(frame: Frame) -> bytes:
    """As `to_line`, but whether the payload is JSON is left to the reader: only a line break is encoded."""
    return _line(frame, verbatim=b"\n" not in frame.payload)


def _line(frame: Frame, *, verbatim: bool) -> bytes:
    receive_ns, connection, counter, payload = frame
    head = b'{"t":%d,"c":"%b","n":%d,' % (receive_ns, connection.encode(), counter)
    if verbatim:
        return b'%b"d":%b}' % (head, payload)
    return b'%b"b":"%b"}' % (head, base64.b64encode(payload))


_CONNECTION = re.compile(r"[0-9a-zA-Z_.-]{1,64}")


def is_connection(name: str) -> bool:
    """Whether a line of the archive can hold it as the id of a connection."""
    return _CONNECTION.fullmatch(name) is not None


_LINE = re.compile(rb'\{"t":(\d{1,20}),"c":"([0-9a-zA-Z_.-]{1,64})","n":(\d{1,20}),"([db])":(.*)\}', re.DOTALL)


def from_line(line: bytes) -> Frame:
    """The inverse of `to_line`.

    Raises:
        ValueError: The line is not one that `to_line` writes.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of the archive: {line[:80]!r}")
    receive_ns, connection, counter, kind, value = match.groups()
    if kind == b"b":
        try:
            value = base64.b64decode(value.strip(b'"'), validate=True)
        except binascii.Error as error:
            raise ValueError(f"bad base64 in a line of the archive: {line[:80]!r}") from error
    return Frame(int(receive_ns), connection.decode(), int(counter), value)


def is_json_line(payload: bytes) -> bool:
    """Whether the payload is valid UTF-8 JSON on one line, and so can stand in a `.jsonl` file as it is."""
    if b"\n" in payload or b"\r" in payload:
        return False
    try:
        payload.decode()
        msgspec.json.decode(payload)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return False
    return True


_EVENT_TIME = re.compile(rb'"E"\s*:\s*(\d{1,19})')


def event_time_ms(payload: bytes) -> int | None:
    """The exchange's event time `E` in ms, or None where the payload has none in its first 200 bytes."""
    at = payload.find(b'"E":', 0, 200)
    if at >= 0:
        digits = payload[at + 4 : at + 17]
        if digits.isdigit() and not payload[at + 17 : at + 18].isdigit():
            return int(digits)
    match = _EVENT_TIME.search(payload, 0, 200)
    return int(match[1]) if match else None


PLAUSIBLE_NS = 5 * MINUTE_NS
"""An event time further than this from the receive time is not believed."""


def filed_ns(receive_ns: int, event_ms: int | None) -> int:
    """The moment under which a frame is filed: its event time where it has a plausible one, else when it came."""
    if event_ms is None:
        return receive_ns
    event_ns = event_ms * 1_000_000
    return event_ns if -PLAUSIBLE_NS <= event_ns - receive_ns <= PLAUSIBLE_NS else receive_ns
