"""The chain of aggTrade's ids: each is the one before plus one, so a break is a loss and can be named.

Source: reference/binance-protocol.md section 3. A break counts only where one connection delivered both sides of it:
what falls between two connections is the business of their sessions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from archiver.merge import Identity, identity, identity_key
from common.frame import Frame
from common.streams import Stream


@dataclass(frozen=True, slots=True)
class Break:
    """Ids that are missing between two frames, although one connection delivered both sides; receive times in ns."""

    previous_id: int
    next_id: int
    previous_receive_ns: int
    next_receive_ns: int


@dataclass(frozen=True, slots=True)
class Chain:
    """The smallest and the largest id of a minute, and the breaks between them."""

    ids: tuple[int, int]
    breaks: list[Break]


def of(stream: Stream, frames: Sequence[Frame], delivered: Iterable[Frame]) -> Chain | None:
    """The chain of a minute's frames; None for another channel than aggTrade, or without an id.

    Args:
        stream: The frames' stream.
        frames: The united frames of a minute.
        delivered: What came, copies included: says which connection saw what.
    """
    if stream.channel != "aggTrade":
        return None
    identify = identity(identity_key(stream))
    times: dict[int, int] = {}
    for frame in frames:
        number = identify(frame.payload)
        if isinstance(number, int):
            times.setdefault(number, frame.receive_ns)
    if not times:
        return None
    ids = sorted(times)
    breaks = [Break(a, b, times[a], times[b]) for a, b in pairwise(ids) if b != a + 1]
    if breaks:
        reach = _reach(delivered, identify)
        breaks = [each for each in breaks if any(a <= each.previous_id and each.next_id <= b for a, b in reach)]
    return Chain((ids[0], ids[-1]), breaks)


def _reach(delivered: Iterable[Frame], identify: Identity) -> list[tuple[int, int]]:
    """The smallest and the largest id of each connection."""
    reach: dict[str, tuple[int, int]] = {}
    for frame in delivered:
        number = identify(frame.payload)
        if isinstance(number, int):
            low, high = reach.get(frame.connection, (number, number))
            reach[frame.connection] = min(low, number), max(high, number)
    return list(reach.values())
