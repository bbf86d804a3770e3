"""When each connection was really served with a stream: the exchange's own word on who could have received what.

A span is an interval in which a connection was subscribed to a stream and everything generated for it went out to that
connection, at once or later. What was generated outside of all spans of a stream, nobody can have.
"""

from typing import NamedTuple


class Span(NamedTuple):
    """One connection served with one stream.

    Attributes:
        connection: The connection's number.
        from_ns: Its beginning, on the exchange's true clock.
        to_ns: Its end; None while it lasts.
    """

    connection: int
    from_ns: int
    to_ns: int | None


class _Served:
    __slots__ = ("connection", "from_ns", "to_ns")

    def __init__(self, connection: int, from_ns: int) -> None:
        self.connection = connection
        self.from_ns = from_ns
        self.to_ns: int | None = None


class Spans:
    """All spans of all streams."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], list[_Served]] = {}
        self._connections: dict[int, list[_Served]] = {}
        self._open: dict[tuple[int, str], _Served] = {}

    def begin(self, market: str, name: str, connection: int, at_ns: int) -> None:
        """The connection gets the stream from now on."""
        served = self._open[connection, name] = _Served(connection, at_ns)
        self._streams.setdefault((market, name), []).append(served)
        self._connections.setdefault(connection, []).append(served)

    def end(self, name: str, connection: int, at_ns: int) -> None:
        """The connection gets the stream no more."""
        served = self._open.pop((connection, name), None)
        if served is not None:
            served.to_ns = at_ns

    def cut(self, connection: int, at_ns: int) -> None:
        """The connection ended, and what was generated for it since `at_ns` was never written.

        That may lie in the past, before the end of spans that have ended already: their last frames were on their way.
        """
        for served in self._connections.pop(connection, ()):
            if served.to_ns is None or served.to_ns > at_ns:
                served.to_ns = max(served.from_ns, at_ns)
        for key in [key for key in self._open if key[0] == connection]:
            del self._open[key]

    def of(self, market: str, name: str) -> list[Span]:
        """The spans of one stream, by their beginning."""
        return [Span(one.connection, one.from_ns, one.to_ns) for one in self._streams.get((market, name), ())]

    def names(self, market: str) -> list[str]:
        """The streams that have spans."""
        return [name for found, name in self._streams if found == market]
