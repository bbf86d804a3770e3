"""REST of both markets: ping, time, exchangeInfo and um's books, with weights, and bans when a test wants them.

Source: reference/binance-protocol.md sections 4.2, 4.3 (weights, shapes), 5 (headers, statuses, error texts).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from common.clock import now_ns
from tests.sims.exchange.board import STATUSES, Board
from tests.sims.exchange.clocks import Clocks
from tests.sims.exchange.exchange_info import LIMITS, spot_exchange_info, um_exchange_info
from tests.sims.exchange.handshakes import BODIES

_TEAPOT = 418
_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
_SPOT_PARAMETERS = {"symbol", "symbols", "symbolStatus", "showPermissionSets"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Snapshot = Callable[[str, str, int], tuple[int, list[str], list[str]] | None]
"""Gives, for market, symbol and levels, the last update id, bids and asks as JSON texts."""


@dataclass(slots=True)
class _Plan:
    status: int
    left: int
    retry_after_s: int | None
    ban_ms: int | None


class Rest:
    """The REST side of the exchange.

    Args:
        board: What the markets list.
        clocks: What time it is there.
        snapshot: The books.
    """

    def __init__(self, board: Board, clocks: Clocks, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._board = board
        self._clocks = clocks
        self._delays_s = dict.fromkeys(LIMITS, (0.0, 0.0))
        self._plans: list[_Plan] = []
        self._weights: dict[tuple[str, str], tuple[int, int]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/fapi/v1/ping", self._um_ping),
            web.get("/fapi/v1/time", self._um_time),
            web.get("/fapi/v1/exchangeInfo", self._um_info),
            web.get("/fapi/v1/depth", self._um_depth),
            web.get("/api/v3/ping", self._spot_ping),
            web.get("/api/v3/time", self._spot_time),
            web.get("/api/v3/exchangeInfo", self._spot_info),
            web.route("*", "/fapi/{rest:.*}", self._unknown_um),
            web.route("*", "/api/{rest:.*}", self._unknown_spot),
        ]

    def plan(self, status: int, n: int, retry_after_s: int | None, ban_ms: int | None) -> None:
        """Answers the next `n` calls with this status; a 418 names the end of the ban, `ban_ms` from now."""
        self._plans.append(_Plan(status, n, retry_after_s, ban_ms))

    def slow(self, market: str, seconds: float, before: float) -> None:
        """Answers so much later from now on; `before` of it passes before the answer is made, the rest after."""
        self._delays_s[market] = seconds * before, seconds * (1 - before)

    @web.middleware
    async def delayed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: the network between client and REST is slow."""
        market = "um" if request.path.startswith("/fapi/") else "spot"
        if not request.path.startswith(("/fapi/", "/api/")) or not any(self._delays_s[market]):
            return await handler(request)
        before_s, after_s = self._delays_s[market]
        await asyncio.sleep(before_s)
        response = await handler(request)
        await asyncio.sleep(after_s)
        return response

    # -- endpoints -----------------------------------------------------------------------------------------------------

    async def _um_ping(self, request: web.Request) -> web.Response:
        return self._answer(request, "um", 1, {})

    async def _spot_ping(self, request: web.Request) -> web.Response:
        return self._answer(request, "spot", 1, {})

    async def _um_time(self, request: web.Request) -> web.Response:
        return self._answer(request, "um", 1, {"serverTime": self._clocks.now_ms("um")})

    async def _spot_time(self, request: web.Request) -> web.Response:
        is_us = request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"
        return self._answer(
            request, "spot", 1, {"serverTime": self._clocks.now_ns("spot") // (1_000 if is_us else 1_000_000)}
        )

    async def _um_info(self, request: web.Request) -> web.Response:
        return self._answer(request, "um", 1, um_exchange_info(self._board.shown("um"), self._clocks.now_ms("um")))

    async def _um_depth(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "500")
        levels = int(limit) if limit.isdigit() else 0
        if levels not in _DEPTH_WEIGHTS:
            return self._error(request, "um", 400, -4021, f"'{limit}' is not valid depth limit.")
        found = self._snapshot("um", request.query.get("symbol", ""), levels)
        if found is None:
            return self._error(request, "um", 400, -1121, "Invalid symbol.")
        update_id, *sides = found
        bids, asks = (json.loads(f"[{','.join(side)}]") for side in sides)
        at_ms = self._clocks.now_ms("um")
        body = {"lastUpdateId": update_id, "E": at_ms, "T": at_ms - 1, "bids": bids, "asks": asks}
        return self._answer(request, "um", _DEPTH_WEIGHTS[levels], body, {"symbol", "limit"})

    async def _spot_info(self, request: web.Request) -> web.Response:
        listed = self._board.shown("spot")
        asked = self._symbols_asked(request)
        if isinstance(asked, web.Response):
            return asked
        if asked is not None:
            known = {listing.symbol for listing in listed}
            if not asked <= known:
                return self._error(request, "spot", 400, -1121, "Invalid symbol.")
            listed = [listing for listing in listed if listing.symbol in asked]
        status = request.query.get("symbolStatus")
        if status is not None:
            if status not in STATUSES["spot"]:
                return self._error(request, "spot", 400, -1122, "Invalid symbolStatus.")
            listed = [listing for listing in listed if listing.status == status]
        info = spot_exchange_info(listed, self._clocks.now_ms("spot"))
        return self._answer(request, "spot", 20, info, _SPOT_PARAMETERS)

    def _symbols_asked(self, request: web.Request) -> set[str] | web.Response | None:
        if "symbol" in request.query:
            return {request.query["symbol"]}
        if "symbols" not in request.query:
            return None
        try:
            symbols = json.loads(request.query["symbols"])
            return {str(symbol) for symbol in symbols}
        except (ValueError, TypeError):
            legal = '^\\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\\]$'
            text = f"Illegal characters found in parameter 'symbols'; legal range is '{legal}'."
            return self._error(request, "spot", 400, -1100, text)

    async def _unknown_um(self, request: web.Request) -> web.Response:
        return self._error(request, "um", 404, -5000, f"Path {request.path}, Method {request.method} is invalid")

    async def _unknown_spot(self, request: web.Request) -> web.Response:
        html = "<html><head><title>404 Not found</title></head><body><h1>404 Not found</h1></body></html>\n"
        return web.Response(status=404, text=html, content_type="text/html")

    # -- weights and errors --------------------------------------------------------------------------------------------

    def _answer(
        self, request: web.Request, market: str, weight: int, body: Any, parameters: set[str] | None = None
    ) -> web.Response:
        planned = self._planned(request, market)
        if planned is not None:
            return planned
        unknown = request.query.keys() - (parameters or set())
        used = self._weigh(request, market, weight)
        if used > LIMITS[market]:
            return self._too_much(request, market, 429, 60 - now_ns() // 1_000_000_000 % 60, None)
        if unknown:
            allowed = len(request.query) - len(unknown)
            text = f"Too many parameters; expected '{allowed}' and received '{len(request.query)}'."
            return self._error(request, market, 400, -1101, text)
        return self._reply(request, market, 200, json.dumps(body, separators=(",", ":"), ensure_ascii=False))

    def _weigh(self, request: web.Request, market: str, weight: int) -> int:
        """The weight used by this IP in this minute, this call included; the window is aligned to the minute."""
        minute = now_ns() // 60_000_000_000
        key = (request.remote or "", market)
        since, used = self._weights.get(key, (minute, 0))
        used = used + weight if since == minute else weight
        self._weights[key] = (minute, used)
        return used

    def _planned(self, request: web.Request, market: str) -> web.Response | None:
        if not self._plans:
            return None
        plan = self._plans[0]
        plan.left -= 1
        if plan.left < 1:
            self._plans.pop(0)
        if plan.status in (429, _TEAPOT):
            return self._too_much(request, market, plan.status, plan.retry_after_s, plan.ban_ms)
        kind, body = BODIES.get(plan.status, ("application/json", '{"code":-1000,"msg":"An unknown error occurred."}'))
        return web.Response(status=plan.status, text=body, content_type=kind)

    def _too_much(
        self, request: web.Request, market: str, status: int, retry_after_s: int | None, ban_ms: int | None
    ) -> web.Response:
        until = now_ns() // 1_000_000 + (120_000 if ban_ms is None else ban_ms)
        if status == _TEAPOT and market == "um":
            text = (
                f"Way too many requests; IP({request.remote}) banned until {until}. "
                "Please use the websocket for live updates to avoid bans."
            )
        elif status == _TEAPOT:
            text = (
                f"Way too much request weight used; IP banned until {until}. "
                "Please use WebSocket Streams for live updates to avoid bans."
            )
        elif market == "um":
            text = (
                f"Too many requests; current limit of IP({request.remote}) is {LIMITS[market]} requests per minute. "
                "Please use the websocket for live updates to avoid polling the API."
            )
        else:
            text = (
                f"Too much request weight used; current limit is {LIMITS[market]} request weight per 1 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API."
            )
        response = self._error(request, market, status, -1003, text)
        if retry_after_s is not None:
            response.headers["Retry-After"] = str(retry_after_s)
        return response

    def _error(self, request: web.Request, market: str, status: int, code: int, text: str) -> web.Response:
        return self._reply(request, market, status, json.dumps({"code": code, "msg": text}, separators=(",", ":")))

    def _reply(self, request: web.Request, market: str, status: int, body: str) -> web.Response:
        used = self._weigh(request, market, 0)
        headers = {"X-MBX-USED-WEIGHT-1M": str(used)}
        if market == "spot":
            headers["X-MBX-USED-WEIGHT"] = str(used)
        return web.Response(status=status, text=body, content_type="application/json", headers=headers)
