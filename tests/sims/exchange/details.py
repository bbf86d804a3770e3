"""The members of a fault, with their types, and which connections it means."""

import json
from typing import Any, TypeVar

from tests.sims.exchange.connection import Connection
from tests.sims.exchange.names import ROUTES
from tests.sims.exchange.server import Server

T = TypeVar("T")
WHICH = "market route connection stream"
"""The details that choose connections."""
_MISSING: Any = object()


class Details:
    """What `POST /control/fault` says of one fault. All methods raise ValueError where a member makes no sense."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self._fault = fault

    def has(self, name: str) -> bool:
        return self._fault.get(name) is not None

    def take(self, name: str, kind: type[T], default: Any = _MISSING) -> Any:
        value = self._fault.get(name, default)
        if value is _MISSING:
            raise ValueError(f"{name} is missing")
        if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise ValueError(f"{name} is {json.dumps(value)}, and must be {kind.__name__}")
        return value

    def take_number(self, name: str, default: Any = _MISSING) -> Any:
        value = self._fault.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return self.take(name, float, default)

    def take_seconds(self, name: str, default: Any = _MISSING) -> Any:
        """A number that is not negative."""
        value = self.take_number(name, default)
        if value is not None and value < 0:
            raise ValueError(f"{name} is {value:g}, and must not be negative")
        return value

    def take_market(self, default: str | None = "um") -> str | None:
        market: str | None = self.take("market", str, default)
        if market is not None and market not in ROUTES:
            raise ValueError(f"market is {market!r}, and must be one of {', '.join(ROUTES)}")
        return market

    def one_market(self) -> str:
        """The market; um where none is named."""
        return self.take_market() or "um"

    def markets(self) -> tuple[str, ...]:
        """The market; both where none is named."""
        market = self.take_market(None)
        return tuple(ROUTES) if market is None else (market,)

    def texts(self, plural: str, singular: str | None = None) -> list[str]:
        """A list of texts; also a single one under its singular name."""
        values = [self.take(singular, str)] if singular and self.has(singular) else self.take(plural, list)
        if not values or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{plural} is {json.dumps(values)}, and must be texts")
        return list(values)


def chosen(server: Server, details: Details) -> list[Connection]:
    """The open connections that `market`, `route`, `connection` and `stream` name; all where none does."""
    market, route = details.take_market(None), details.take("route", str, None)
    number, stream = details.take("connection", int, None), details.take("stream", str, None)
    return [
        connection
        for connection in list(server.connections.values())
        if (market is None or connection.market == market)
        and (route is None or connection.route == route)
        and (number is None or connection.id == number)
        and (stream is None or stream in connection.subscriptions.names)
    ]
