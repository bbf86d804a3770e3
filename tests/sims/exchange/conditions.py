"""The faults that last: from now on, until a test takes them back, the exchange or the network is like this."""

from collections.abc import Callable
from typing import Any

from tests.sims.exchange.board import DELISTED, HALTED, TRADING, Board
from tests.sims.exchange.clocks import Clocks
from tests.sims.exchange.connection import CUTS, Connection
from tests.sims.exchange.details import WHICH, Details, chosen
from tests.sims.exchange.rest import Rest
from tests.sims.exchange.server import Server

DETAILS = {
    "latency": f"seconds jitter_s {WHICH}",
    "rest_latency": "seconds before market",
    "clock": "offset_s market",
    "list": "market symbols symbol status contract_type",
    "delist": "market symbols symbol gone",
    "halt": "market symbols symbol seconds",
    "pongs": "answers market",
    "max_age": "seconds market how",
    "reroute": "market streams suffix route",
    "silence": "market streams connection sticky",
    "speak": "market streams connection",
    "dead": WHICH,
}
"""Kind to the details that it understands."""


class Conditions:
    """Carries them out.

    Args:
        server: The WebSocket side.
        rest: The REST side.
        board: What the markets list.
        clocks: What time it is there.
    """

    def __init__(self, server: Server, rest: Rest, board: Board, clocks: Clocks) -> None:
        self._server = server
        self._rest = rest
        self._board = board
        self._clocks = clocks
        self.kinds: dict[str, Callable[[Details], dict[str, Any]]] = {
            "latency": self._latency,
            "rest_latency": self._rest_latency,
            "clock": self._clock,
            "list": self._list,
            "delist": self._delist,
            "halt": self._halt,
            "pongs": self._pongs,
            "max_age": self._max_age,
            "reroute": self._reroute,
            "silence": self._silence,
            "speak": self._silence,
            "dead": self._dead,
        }

    # -- the network ---------------------------------------------------------------------------------------------------

    def _latency(self, details: Details) -> dict[str, Any]:
        """Without `connection` and `stream` also those are late that open later."""
        seconds, jitter_s = details.take_seconds("seconds"), details.take_seconds("jitter_s", 0.0)
        slowed = chosen(self._server, details)
        if not (details.has("connection") or details.has("stream")):
            market, route = details.take_market(None), details.take("route", str, None)
            self._server.rules.set_latency(market, route, seconds, jitter_s)
        for connection in slowed:
            connection.delay(seconds, jitter_s)
        return _hit(slowed)

    def _rest_latency(self, details: Details) -> dict[str, Any]:
        seconds, before = details.take_seconds("seconds"), details.take_seconds("before", 0.5)
        if before > 1:
            raise ValueError(f"before is {before:g}, and must be a share of the seconds")
        for market in details.markets():
            self._rest.slow(market, seconds, before)
        return {"seconds": seconds}

    def _dead(self, details: Details) -> dict[str, Any]:
        dead = chosen(self._server, details)
        for connection in dead:
            connection.die()
        return _hit(dead)

    def _silence(self, details: Details) -> dict[str, Any]:
        is_silent = details.take("kind", str) == "silence"
        market, names = details.one_market(), details.texts("streams")
        if not details.has("connection"):
            if details.has("sticky"):
                raise ValueError("sticky goes with connection: a stream that is silent for all is not revived")
            for name in names:
                self._server.streams.force(market, name).is_silent = is_silent
            self._server.review(market)
            return {"streams": names}
        sticky = details.take("sticky", bool, False) if is_silent else False
        hit = [one for one in chosen(self._server, details) if one.market == market]
        for connection in hit:
            for name in names:
                if is_silent:
                    connection.subscriptions.silence(name, sticky=sticky)
                else:
                    connection.subscriptions.speak(name)
        return _hit(hit) | {"streams": names}

    # -- the exchange --------------------------------------------------------------------------------------------------

    def _clock(self, details: Details) -> dict[str, Any]:
        offset_s = details.take_number("offset_s")
        for market in details.markets():
            self._clocks.shift(market, offset_s)
        return {"offset_s": offset_s}

    def _list(self, details: Details) -> dict[str, Any]:
        market, symbols = details.one_market(), details.texts("symbols", "symbol")
        status, contract_type = details.take("status", str, TRADING), details.take("contract_type", str, "PERPETUAL")
        self._board.add(market, symbols, status, contract_type, self._clocks.now_ms(market))
        return {"symbols": symbols}

    def _delist(self, details: Details) -> dict[str, Any]:
        market, symbols = details.one_market(), details.texts("symbols", "symbol")
        self._board.set_status(market, symbols, DELISTED[market], gone=details.take("gone", bool, False))
        return {"symbols": symbols}

    def _halt(self, details: Details) -> dict[str, Any]:
        market, symbols = details.one_market(), details.texts("symbols", "symbol")
        halted = HALTED[market]

        def go_on() -> None:
            still = [one.symbol for one in self._board.shown(market) if one.symbol in symbols and one.status == halted]
            self._board.set_status(market, still, TRADING)

        seconds = details.take_seconds("seconds")
        self._board.set_status(market, symbols, halted)
        self._server.later(seconds, go_on)
        return {"symbols": symbols}

    def _pongs(self, details: Details) -> dict[str, Any]:
        answers = details.take("answers", bool)
        for market in details.markets():
            self._server.rules.answers_pings[market] = answers
        return {"answers": answers}

    def _max_age(self, details: Details) -> dict[str, Any]:
        seconds, how = details.take_seconds("seconds", None), details.take("how", str, "close")
        if how not in CUTS:
            raise ValueError(f"how is {how!r}, and must be one of {', '.join(CUTS)}")
        for market in details.markets():
            self._server.rules.set_max_age(market, seconds, how)
        return {"seconds": seconds}

    def _reroute(self, details: Details) -> dict[str, Any]:
        market, route = details.one_market(), details.take("route", str, None)
        names = details.texts("streams", "suffix")
        for name in names:
            self._server.rules.reroute(market, name, route)
        self._server.review(market)
        return {"streams": names}


def _hit(connections: list[Connection]) -> dict[str, Any]:
    return {"connections": [connection.id for connection in connections]}
