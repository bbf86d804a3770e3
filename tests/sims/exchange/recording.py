"""Reads recordings: the formats of the shared data files, into frames with their time, market and stream. Pure but for
opening the file.

Known lines: `<ns or us> {combined}`, `<seconds.decimals>: {combined}`, `{combined}`, a bare payload (the stream's name
is made from `e`, `s` and what it holds), `{"market","frame"}` and `{"received_at_ns","payload"}`. REST answers,
URLs and configuration lines are no frames and are left out. The payload's bytes are kept as they are.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

MARKETS = ("um", "spot")
_GZIP = b"\x1f\x8b"
_COMBINED = re.compile(rb'\s*\{\s*"stream"\s*:\s*"([^"]+)"\s*,\s*"data"\s*:\s*(.*)\}\s*', re.DOTALL)
_TIMED = re.compile(rb"(\d{16,19}) (\{.*)|(\d{9,10}(?:\.\d+)?): (\{.*)", re.DOTALL)
_EVENT_TIME = re.compile(rb'"E"\s*:\s*(\d{13})(?!\d)')
_SHIFTED = re.compile(rb'("[ET]"\s*:\s*)(\d{13})(?!\d)')
_SHIFTED_IN_BARS = re.compile(rb'("[ETt]"\s*:\s*)(\d{13})(?!\d)')
_EVENTS = {"markPriceUpdate": "markPrice@1s", "bookTicker": "bookTicker", "aggTrade": "aggTrade", "trade": "trade"}


class UnreadableRecordingError(Exception):
    """A recording cannot be played; the text says which and why."""


class Recorded(NamedTuple):
    """One frame of a recording.

    Attributes:
        at_ns: Its receive time, or its event time where the recording has no other, in ns.
        market, stream: Where it belongs.
        payload: The bytes of the `data` member.
    """

    at_ns: int
    market: str
    stream: str
    payload: bytes


def read_all(files: tuple[Path, ...], window_s: tuple[float, float]) -> list[Recorded]:
    """All frames of several recordings, merged by time, those within the window.

    Args:
        files: The recordings; `um_*` and `spot_*` name their market.
        window_s: From and to, in seconds from the earliest frame of all.

    Raises:
        UnreadableRecordingError: A file cannot be read or holds no frame, or the window holds none.
    """
    frames = [frame for file in files for frame in read(file)]
    frames.sort(key=lambda frame: frame.at_ns)
    start_ns = frames[0].at_ns
    low, high = window_s
    chosen = [frame for frame in frames if low <= (frame.at_ns - start_ns) / 1e9 < high]
    if not chosen:
        length_s = (frames[-1].at_ns - start_ns) / 1e9
        raise UnreadableRecordingError(f"no frame within {low:g}:{high:g} s: the recording is {length_s:.1f} s long")
    return chosen


def read(file: Path) -> list[Recorded]:
    """The frames of one recording, in the order of the file.

    Raises:
        UnreadableRecordingError: The file cannot be read or holds no frame.
    """
    market = next((market for market in MARKETS if file.name.startswith(f"{market}_")), None)
    try:
        content = file.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableRecordingError(f"{file}: {error}") from error
    frames = list(_frames(io.BytesIO(content), market, str(file)))
    if not frames:
        raise UnreadableRecordingError(f"{file}: no line of it is a frame of a WebSocket stream")
    return frames


def _frames(lines: io.BytesIO, file_market: str | None, name: str) -> Iterator[Recorded]:
    last_ns = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        at_ns: int | None = None
        match = _TIMED.fullmatch(text)
        if match:
            at_ns, text = _receive_ns(match), match[2] or match[4]
        if not text.startswith(b"{"):
            continue
        market = file_market
        if text.startswith((b'{"market"', b'{"received_at_ns"')):
            text, market, at_ns = _unwrapped(text, market, name, number)
        found = _stream_and_payload(text)
        if found is None:
            continue
        if market is None:
            raise UnreadableRecordingError(f"{name}: of which market? Its name begins with neither um_ nor spot_")
        stream, payload = found
        if at_ns is None:
            event = _EVENT_TIME.search(payload)
            at_ns = int(event[1]) * 1_000_000 if event else last_ns
        last_ns = at_ns
        yield Recorded(at_ns, market, stream, payload)


def _receive_ns(match: re.Match[bytes]) -> int:
    if match[1]:
        return int(match[1]) * (1_000 if len(match[1]) == 16 else 1)
    seconds, _, decimals = match[3].partition(b".")
    return int(seconds) * 1_000_000_000 + int(decimals.ljust(9, b"0")[:9])


def _unwrapped(text: bytes, market: str | None, name: str, number: int) -> tuple[bytes, str | None, int | None]:
    try:
        wrapper = json.loads(text)
    except ValueError as error:
        raise UnreadableRecordingError(f"{name}:{number}: {error}") from error
    inner = wrapper.get("frame", wrapper.get("payload", ""))
    received_ns = wrapper.get("received_at_ns")
    return str(inner).encode(), wrapper.get("market", market), int(received_ns) if received_ns else None


def _stream_and_payload(text: bytes) -> tuple[str, bytes] | None:
    match = _COMBINED.fullmatch(text)
    if match:
        return match[1].decode(), match[2]
    try:
        payload = json.loads(text)
    except ValueError:
        return None
    name = stream_name(payload) if isinstance(payload, dict) else None
    return (name, text) if name else None


def stream_name(payload: dict[str, Any]) -> str | None:
    """The stream that a bare payload came on, from what it holds; None where it is no frame or does not say."""
    event = payload.get("e")
    symbol = str(
        payload.get("s", payload.get("o", {}).get("s", "") if isinstance(payload.get("o"), dict) else "")
    ).lower()
    if not event or not symbol:
        return None
    if event == "forceOrder":
        return f"{symbol}@forceOrder"
    if event == "kline":
        return f"{symbol}@kline_{payload['k']['i']}"
    if event == "depthUpdate":
        is_partial = len(payload.get("b", ())) == 20 and len(payload.get("a", ())) == 20
        return f"{symbol}@{'depth20' if is_partial else 'depth'}@100ms"
    return f"{symbol}@{_EVENTS[event]}" if event in _EVENTS else None


def shifted(payload: bytes, by_ms: int) -> bytes:
    """The payload with its times moved: `E` and `T`, and `t` of a bar; all else is kept byte for byte."""
    pattern = _SHIFTED_IN_BARS if b'"e":"kline"' in payload[:20] else _SHIFTED
    return pattern.sub(lambda match: match[1] + b"%d" % (int(match[2]) + by_ms), payload)


def first_event_ms(frames: list[Recorded]) -> tuple[int, int] | None:
    """Event time in ms of the first frame that has one, and its receive time in ns."""
    for frame in frames:
        match = _EVENT_TIME.search(frame.payload)
        if match:
            return int(match[1]), frame.at_ns
    return None
