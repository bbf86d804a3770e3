"""The rules that a test may change while the exchange runs: routes, age, pings, how slow the network is. Pure."""

from dataclasses import dataclass

from tests.sims.exchange.names import ROUTES, serves


@dataclass(frozen=True, slots=True)
class MaxAge:
    """When a connection is too old, and how it then ends.

    Attributes:
        seconds: Its greatest age.
        how: One of the ways of a `cut`.
    """

    seconds: float
    how: str = "close"


@dataclass(frozen=True, slots=True)
class _Latency:
    market: str | None
    route: str | None
    seconds: float
    jitter_s: float


class Rules:
    """What holds at the moment.

    Args:
        max_age_s: The greatest age of a connection, of both markets.
    """

    def __init__(self, max_age_s: float) -> None:
        self._first_age = MaxAge(max_age_s)
        self.max_ages = dict.fromkeys(ROUTES, self._first_age)
        self.answers_pings = dict.fromkeys(ROUTES, True)
        self._latencies: list[_Latency] = []
        self._routes: dict[tuple[str, str], str] = {}

    def set_max_age(self, market: str, seconds: float | None, how: str) -> None:
        """Another greatest age; None for the one that it began with."""
        self.max_ages[market] = self._first_age if seconds is None else MaxAge(seconds, how)

    def set_latency(self, market: str | None, route: str | None, seconds: float, jitter_s: float) -> None:
        """How late data is on connections of this market and route; None means all. The last word counts."""
        if market is None and route is None:
            self._latencies.clear()
        self._latencies.append(_Latency(market, route, seconds, jitter_s))

    def latency(self, market: str, route: str) -> tuple[float, float]:
        """Seconds and jitter for a connection that opens now."""
        for one in reversed(self._latencies):
            if one.market in (None, market) and one.route in (None, route):
                return one.seconds, one.jitter_s
        return 0.0, 0.0

    def reroute(self, market: str, name: str, route: str | None) -> None:
        """Moves a stream to another route alone, as 2026-04-23 did; None moves it back.

        Args:
            market: The market.
            name: A stream, `btcusdt@aggTrade`, or what follows the symbol in many, `aggTrade`.
            route: The only one that serves it from now on.
        """
        if route is None:
            self._routes.pop((market, name), None)
        else:
            self._routes[market, name] = route

    def serves(self, market: str, route: str, name: str) -> bool:
        """Whether connections on `route` get this stream's data."""
        if self._routes:
            moved = self._routes.get((market, name), self._routes.get((market, name.partition("@")[2])))
            if moved is not None:
                return moved == (route or "public")
        return serves(market, route, name)
