"""Which exchange streams go over which connection: pure.

One connection serves one route: a stream asked for on the wrong one is acknowledged and stays silent
(reference/binance-protocol.md section 1.2).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from common.channels import CHANNELS
from common.settings import Settings
from common.streams import Stream


class Route(NamedTuple):
    """Where streams are served.

    Attributes:
        market: `um` or `spot`.
        name: `public` or `market` on USD-M, empty on spot.
    """

    market: str
    name: str

    def url(self, settings: Settings) -> str:
        """Where to connect: combined frames, no stream named yet."""
        base = {"um": settings.um_ws_url, "spot": settings.spot_ws_url}[self.market]
        return "/".join(filter(None, (base.rstrip("/"), self.name, "stream")))

    def __str__(self) -> str:
        return f"{self.market}{'/' * bool(self.name)}{self.name}"


def route_of(stream: Stream) -> Route:
    """Where a stream is served."""
    return Route(stream.market, CHANNELS[stream.channel].routes[stream.market])


def recorded(channels: Iterable[str], symbols: Mapping[str, Iterable[str]]) -> list[Stream]:
    """Every stream to record: market to its symbols. A channel that a market does not have is left out there."""
    return [
        Stream(market, channel, symbol)
        for market, listed in symbols.items()
        for channel in channels
        if market in CHANNELS[channel].routes
        for symbol in listed
    ]


def seats(streams: Iterable[Stream], most: int) -> list[tuple[Route, tuple[Stream, ...]]]:
    """The connections for all streams: one route each, at most `most` streams each."""
    by_route: dict[Route, list[Stream]] = {}
    for stream in streams:
        by_route.setdefault(route_of(stream), []).append(stream)
    return [(route, part) for route, each in by_route.items() for part in _even_parts(each, most)]


def _even_parts(streams: Sequence[Stream], most: int) -> Iterator[tuple[Stream, ...]]:
    """As few parts as will do, of nearly the same size, each a mix of what stands apart in the list."""
    count = -(-len(streams) // most)
    for start in range(count):
        yield tuple(streams[start::count])
