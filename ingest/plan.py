"""Which exchange streams go over which connection: pure, from the settings alone.

One connection serves one route: a stream asked for on the wrong one is acknowledged and stays silent
(reference/binance-protocol.md section 1.2).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from common.channels import CHANNELS
from common.settings import Settings
from common.streams import Stream

NAMES_PER_MESSAGE = 100
MESSAGE_BYTES = 4000
"""A SUBSCRIBE text above about 4,096 bytes is neither answered nor executed (reference section 1.4)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One connection.

    Attributes:
        market: `um` or `spot`.
        route: `public` or `market` on USD-M, empty on spot.
        url: Where to connect; combined frames, no stream named yet.
        streams: What to subscribe to.
    """

    market: str
    route: str
    url: str
    streams: tuple[Stream, ...]

    @property
    def name(self) -> str:
        """For logs: `um/public (400 streams)`."""
        return f"{self.market}{'/' * bool(self.route)}{self.route} ({len(self.streams)} streams)"


def recorded(settings: Settings) -> list[Stream]:
    """Every stream that the settings ask for. A channel that a market does not have is left out there."""
    return [
        Stream(market, channel, symbol)
        for market in settings.markets
        for channel in settings.channels
        if market in CHANNELS[channel].routes
        for symbol in settings.symbols
    ]


def plans(settings: Settings) -> list[Plan]:
    """The connections for all streams: one route each, at most `ingest.streams_per_connection` streams each."""
    by_route: dict[tuple[str, str], list[Stream]] = {}
    for stream in recorded(settings):
        route = CHANNELS[stream.channel].routes[stream.market]
        by_route.setdefault((stream.market, route), []).append(stream)
    bases = {"um": settings.um_ws_url, "spot": settings.spot_ws_url}
    return [
        Plan(market, route, "/".join(filter(None, (bases[market].rstrip("/"), route, "stream"))), part)
        for (market, route), streams in by_route.items()
        for part in _even_parts(streams, settings.ingest.streams_per_connection)
    ]


def _even_parts(streams: Sequence[Stream], most: int) -> Iterator[tuple[Stream, ...]]:
    """As few parts as will do, of nearly the same size, each a mix of what stands apart in the list."""
    count = -(-len(streams) // most)
    for start in range(count):
        yield tuple(streams[start::count])


def subscriptions(streams: Sequence[Stream]) -> list[tuple[bytes, list[Stream]]]:
    """The control messages that subscribe to the streams, each with its part of them; `id` counts from 1."""
    messages: list[tuple[bytes, list[Stream]]] = []
    part: list[Stream] = []
    for stream in streams:
        number = len(messages) + 1
        if len(part) == NAMES_PER_MESSAGE or len(_subscribe([*part, stream], number)) > MESSAGE_BYTES:
            messages.append((_subscribe(part, number), part))
            part = []
        part.append(stream)
    if part:
        messages.append((_subscribe(part, len(messages) + 1), part))
    return messages


def _subscribe(streams: Sequence[Stream], number: int) -> bytes:
    names = [stream.exchange_name for stream in streams]
    return msgspec.json.encode({"method": "SUBSCRIBE", "params": names, "id": number})
