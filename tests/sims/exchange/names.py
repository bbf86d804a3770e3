"""The names of exchange streams and the routes that serve them.

Source: reference/binance-protocol.md sections 1.2 (routes of USD-M), 1.4 (what the acknowledgement checks), 2 (names).
"""

import re
from urllib.parse import parse_qs, unquote, urlsplit

ROUTES = {"um": ("public", "market", "private", ""), "spot": ("",)}
"""Market to its routes; `""` is the path without one, which USD-M still accepts and serves /public data on."""

_SYNTAX = re.compile(
    r"""[^@!\s/#?,"]+@[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*(@[A-Za-z0-9+:]+)*   # <symbol>@<channel>[_<i>][@<speed>]
        |![A-Za-z]+(_[0-9A-Za-z]+)?(@[A-Za-z0-9]+)*                            # !markPrice@arr@1s
        |tradingSession""",
    re.VERBOSE,
)


def is_possible(name: str) -> bool:
    """Whether the exchange acknowledges this name; whether there is such a symbol it does not check."""
    return _SYNTAX.fullmatch(name) is not None


def route_of(market: str, name: str) -> str:
    """The route that serves the stream: `public` or `market` on um, `""` on spot."""
    if market != "um":
        return ""
    channel = name[1:] if name.startswith("!") else name.partition("@")[2]
    return "public" if re.match(r"(depth\d*|bookTicker|trade|rpiDepth)(@|$)", channel) else "market"


def serves(market: str, route: str, name: str) -> bool:
    """Whether a connection on `route` gets the stream's data: an un-routed um connection gets what /public serves."""
    return market != "um" or route_of(market, name) == (route or "public")


class Address:
    """What a WebSocket URL asks for.

    Attributes:
        route: One of the market's `ROUTES`.
        combined: Whether frames are wrapped with the name of their stream.
        names: The streams in the URL, to be subscribed at once.
    """

    __slots__ = ("combined", "names", "route")

    def __init__(self, route: str, combined: bool, names: list[str]) -> None:
        self.route = route
        self.combined = combined
        self.names = names


def parse_address(market: str, target: str) -> Address | None:
    """Reads the request target of a handshake; None where the exchange has nothing under this path."""
    parts = urlsplit(target)
    segments = [unquote(segment) for segment in parts.path.split("/")[1:]]
    route = ""
    if segments and segments[0] and segments[0] in ROUTES[market]:
        route = segments.pop(0)
    if not segments:
        return None
    kind, *rest = segments
    if kind == "ws":
        return Address(route, False, [name for name in rest if name])
    if kind == "stream" and rest in ([], [""]):
        asked = parse_qs(parts.query).get("streams", [])
        return Address(route, True, [name for text in asked for name in text.split("/") if name])
    return None
