"""What one connection was told it is subscribed to, and what of that it is really served with."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from common.clock import now_ns
from tests.sims.exchange.streams import ExchangeStream

if TYPE_CHECKING:
    from tests.sims.exchange.connection import Connection
    from tests.sims.exchange.server import Server


class Subscriptions:
    """The streams of one connection.

    Whatever changes (a subscription, a route, a listing, the connection's health), `review` joins and leaves streams,
    and writes down when. So sending asks for nothing but a stream's list of subscribers.

    Attributes:
        names: All streams that it was told are subscribed, also those that never deliver.
    """

    def __init__(self, server: "Server", connection: "Connection") -> None:
        self._server = server
        self._connection = connection
        self.names: dict[str, None] = {}
        self._served: dict[str, ExchangeStream] = {}
        self._silenced: dict[str, bool] = {}

    def add(self, names: Iterable[str]) -> None:
        """Subscribes; a silence that is not sticky ends with it."""
        for name in names:
            self.names[name] = None
            if self._silenced.get(name) is False:
                del self._silenced[name]
        self.review(names)

    def remove(self, names: Iterable[str]) -> None:
        """Unsubscribes."""
        for name in names:
            self.names.pop(name, None)
        self.review(names)

    def silence(self, name: str, *, sticky: bool) -> None:
        """This connection gets nothing of the stream any more, until it subscribes anew, or for good if `sticky`."""
        self._silenced[name] = sticky
        self.review((name,))

    def speak(self, name: str) -> None:
        """Takes a silence back."""
        self._silenced.pop(name, None)
        self.review((name,))

    def review(self, names: Iterable[str] | None = None) -> None:
        """Joins what it should be served with, and leaves the rest."""
        for name in list(self.names) if names is None else names:
            stream = self._served.get(name)
            if self._is_due(name):
                if stream is None:
                    self._join(name)
            elif stream is not None:
                self._leave(name)

    def _is_due(self, name: str) -> bool:
        connection = self._connection
        return (
            name in self.names
            and name not in self._silenced
            and connection.is_served
            and self._server.serves(connection.market, connection.route, name)
        )

    def _join(self, name: str) -> None:
        connection = self._connection
        stream = self._server.streams.get(connection.market, name)
        if stream is not None:
            self._served[name] = stream
            stream.subscribers.append(connection)
            self._server.spans.begin(connection.market, name, connection.id, now_ns())

    def _leave(self, name: str) -> None:
        self._served.pop(name).subscribers.remove(self._connection)
        self._server.spans.end(name, self._connection.id, now_ns())

    def end(self, lost_from_ns: int | None) -> None:
        """Leaves all streams for good.

        Args:
            lost_from_ns: What was generated from then on was never written; None where all of it was.
        """
        for name in list(self._served):
            self._leave(name)
        self._server.spans.cut(self._connection.id, now_ns() if lost_from_ns is None else lost_from_ns)
