"""A minute is a set of frames, and writing it is a union: the one rule for redelivery, parts, late frames, twins.

DESIGN section 5, "Identity". Pure. Guarantees: a frame is dropped only where an equal one is kept, never for its time;
the order and the grouping of the parts do not matter, and uniting again what was united changes nothing. The one limit:
where a connection sent equal frames several times, and its twin too, a winner's frames stand for the loser's only as
long as each connection's equal frames are in one part (the archive does not remember how many a loser had).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter, le, lt

import msgspec

from common.channels import CHANNELS, is_timed
from common.frame import Frame
from common.streams import Stream

_NEAR_NS = 5_000_000_000
_LATE_NS = 60_000_000_000
"""A stall may hold a connection's frames back for so long, and then deliver them (`ingest.idle_ping_s`, twice)."""

Identity = Callable[[bytes], int | bytes]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a union gave.

    Attributes:
        frames: Sorted by (receive time, connection, counter).
        doubled: How many of the frames given were dropped, because an equal one is kept.
        mismatched: How many of the kept have the connection and the counter, but not the payload, of another.
    """

    frames: Sequence[Frame]
    doubled: int = 0
    mismatched: int = 0


def unite(
    identity_key: str | None,
    *parts: Iterable[Frame],
    archived: Iterable[Frame] = (),
    neighbours: Iterable[Frame] = (),
) -> Merged:
    """Unites frames of one minute.

    Redelivery (same connection, counter and payload) becomes one. Of copies on different connections (same exchange's
    id, or same payload) the connection that has most of them wins, then the smallest (receive time, connection,
    counter), and all frames of the winner are kept: equal frames on one connection are different frames.

    Args:
        identity_key: The key of the exchange's own id in the payload; None where the payload is the identity.
        parts: Frames of the minute, in any order.
        archived: The frames that the minute's file holds; never dropped for the sake of a neighbour.
        neighbours: Frames that the files of the neighbouring minutes hold: their copies here are dropped.
    """
    archived, neighbours = list(archived), list(neighbours)
    given = list(chain(archived, *parts))
    if not neighbours and in_order(given):
        return Merged(given)
    unique: dict[tuple[str, int, bytes], Frame] = {}
    for frame in given:
        old = unique.setdefault(frame[1:], frame)
        if frame < old:
            unique[frame[1:]] = frame
    frames = sorted(unique.values())
    if neighbours or len({frame.connection for frame in frames}) > 1:
        frames = _without_copies(identity(identity_key), frames, {frame[1:] for frame in archived}, neighbours)
    mismatched = len(frames) - len({frame[1:3] for frame in frames})
    return Merged(frames, len(given) - len(frames), mismatched)


def in_order(frames: Sequence[Frame]) -> bool:
    """Whether the frames are of one connection, each once, and sorted: then there is nothing to unite."""
    counters = list(map(itemgetter(2), frames))
    times = list(map(itemgetter(0), frames))
    return (
        len(set(map(itemgetter(1), frames))) <= 1
        and all(map(lt, counters, islice(counters, 1, None)))
        and all(map(le, times, islice(times, 1, None)))
    )


def _without_copies(
    identify: Identity, frames: list[Frame], archived: set[tuple[str, int, bytes]], neighbours: list[Frame]
) -> list[Frame]:
    near: dict[int | bytes, list[Frame]] = {}
    for frame in neighbours:
        near.setdefault(identify(frame.payload), []).append(frame)
    equal: dict[int | bytes, list[Frame]] = {}
    for frame in frames:
        equal.setdefault(identify(frame.payload), []).append(frame)
    kept: list[Frame] = []
    for key, copies in equal.items():
        winners = _winners(copies)
        if key in near:
            winners = _without_neighbours(copies, winners, near[key], archived)
        kept += winners
    kept.sort()
    return kept


def _winners(copies: list[Frame]) -> list[Frame]:
    if len(copies) == 1:
        return copies
    by_connection: dict[str, list[Frame]] = {}
    for frame in copies:
        by_connection.setdefault(frame.connection, []).append(frame)
    return min(by_connection.values(), key=lambda each: (-len(each), each[0]))


def _without_neighbours(
    copies: list[Frame], winners: list[Frame], near: list[Frame], archived: set[tuple[str, int, bytes]]
) -> list[Frame]:
    """The winners without those that the neighbours' copies stand for.

    The frame was sent as often as the one connection that has most of it, here and there together, says.
    """
    seen = {frame[1:] for frame in near}
    copies = [frame for frame in copies if frame[1:] not in seen]
    sent = Counter(frame.connection for frame in copies) + Counter(frame.connection for frame in near)
    spare = len(winners) - max(0, max(sent.values()) - len(near))
    nearest_first = winners if near[0] <= winners[0] else winners[::-1]
    dropped = [frame for frame in nearest_first if frame[1:] not in archived][: max(0, spare)]
    return [frame for frame in winners if frame not in dropped]


def near_ns(stream: Stream) -> int:
    """How far into the neighbouring minutes copies of a minute's frames are looked for.

    Frames with an event time are filed by that, copies of them too, however late; others when they came.
    """
    return _NEAR_NS if is_timed(stream.market, stream.channel) else _LATE_NS


def identity_key(stream: Stream) -> str | None:
    """The key of the exchange's own id in the stream's payloads; None where it has none."""
    channel = CHANNELS.get(stream.channel)
    return channel.identity.get(stream.market) if channel else None


def identity(key: str | None) -> Identity:
    """What two frames of a stream have in common when they are copies: the exchange's id, or else the payload.

    Only a top-level integer of a payload that is JSON counts: a damaged frame must not pass for the whole one.
    """
    if key is None:
        return _payload
    quoted = b'"%b":' % key.encode()
    number = re.compile(rb"(?:0|[1-9][0-9]{0,18})(?=[,}])")

    def identify(payload: bytes) -> int | bytes:
        try:
            _RAW.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return payload
        at = payload.find(quoted)
        if at > 0 and payload.find(b"{", 1, at) < 0 and payload.find(b"[", 0, at) < 0:
            match = number.match(payload, at + len(quoted))
            if match:
                return int(match[0])
        return _parsed(payload, key)

    return identify


_RAW = msgspec.json.Decoder(msgspec.Raw)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})")


def _parsed(payload: bytes, key: str) -> int | bytes:
    try:
        value = _OBJECT.decode(payload).get(key)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload
    return int(bytes(value)) if value is not None and _INTEGER.fullmatch(value) else payload


def _payload(payload: bytes) -> bytes:
    return payload
