"""The channels that Maserver records: their names on the wire, their routes, and what identifies a frame.

Source: reference/binance-protocol.md sections 1.2 (routes of USD-M since 2026-04-23), 2.1 and 2.2 (payloads), 3 (ids).
"""

from dataclasses import dataclass

MARKETS = ("um", "spot")

UNKNOWN = "unknown"
"""The channel of frames that belong to no known stream; its symbol is `_`."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of exchange stream.

    Attributes:
        name: The channel's name in keys, paths and settings.
        suffix: What follows `<symbol>@` in the exchange's stream name.
        routes: Market to route. USD-M serves each stream on one route only, and is silent on the other.
        identity: Market to the key of the exchange's own id in the payload; None where there is none.
        pace_s: Seconds between two frames, where the exchange sends them on a beat; None where they are irregular.
        timed: The markets whose payload carries the event time `E`.
        is_sparse: Whether the exchange may send nothing for hours, so that silence never proves anything.
    """

    name: str
    suffix: str
    routes: dict[str, str]
    identity: dict[str, str | None]
    pace_s: float | None = None
    timed: tuple[str, ...] = MARKETS
    is_sparse: bool = False


_ALL = (
    Channel(
        "depth20", "depth20@100ms", {"um": "public", "spot": ""}, {"um": "u", "spot": "lastUpdateId"}, 0.1, ("um",)
    ),
    Channel("aggTrade", "aggTrade", {"um": "market", "spot": ""}, {"um": "a", "spot": "a"}),
    Channel("markPrice", "markPrice@1s", {"um": "market"}, {"um": None}, 1.0),
    Channel("forceOrder", "forceOrder", {"um": "market"}, {"um": None}, is_sparse=True),
    Channel("bookTicker", "bookTicker", {"um": "public", "spot": ""}, {"um": "u", "spot": "u"}, timed=("um",)),
    Channel("kline_1m", "kline_1m", {"um": "market", "spot": ""}, {"um": None, "spot": None}),
)

CHANNELS: dict[str, Channel] = {channel.name: channel for channel in _ALL}


def is_timed(market: str, channel: str) -> bool:
    """Whether the event time `E` is to be looked for in the payloads; of an unknown channel too."""
    known = CHANNELS.get(channel)
    return known is None or market in known.timed
