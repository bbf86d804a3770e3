"""The control endpoint: what a test asks the running exchange for, and the faults that it orders."""

import json
import time
from typing import Any

from aiohttp import web

from common.clock import now_ns
from tests.sims.exchange.faults import Faults
from tests.sims.exchange.replay import Player
from tests.sims.exchange.sent import RECORD_BYTES
from tests.sims.exchange.server import Server
from tests.sims.exchange.streams import ExchangeStream


class Control:
    """`/control/...`; errors are `{"error": text}` with 400 or 404."""

    def __init__(self, server: Server, faults: Faults, player: Player | None) -> None:
        self._server = server
        self._faults = faults
        self._player = player

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/control/state", self._state),
            web.get("/control/sent", self._streams),
            web.get("/control/sent/{market}/{stream:.+}", self._sent),
            web.get("/control/spans", self._all_spans),
            web.get("/control/spans/{market}/{stream:.+}", self._spans),
            web.post("/control/fault", self._fault),
            web.post("/control/replay/start", self._start),
        ]

    async def _state(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        connections = [
            {
                "id": connection.id,
                "market": connection.market,
                "route": connection.route,
                "combined": connection.combined,
                "streams": list(connection.subscriptions.names),
                "frames_sent": connection.frames_sent,
                "buffered_bytes": connection.buffered_bytes,
                "age_s": round(now - connection.opened_at, 3),
                "peer": connection.peer,
                "half_open": connection.is_half_open,
                "dead": connection.is_dead,
            }
            for connection in self._server.connections.values()
        ]
        replay = self._player.state() if self._player else None
        return web.json_response({"now_ns": now_ns(), "connections": connections, "replay": replay})

    async def _streams(self, request: web.Request) -> web.Response:
        market = request.query.get("market", "um")
        found = {stream.name: _counts(stream) for stream in self._server.streams.of(market)}
        return web.json_response({"market": market, "streams": found})

    async def _sent(self, request: web.Request) -> web.Response:
        market, name = request.match_info["market"], request.match_info["stream"]
        stream = self._server.streams.find_living(market, name)
        if stream is None or stream.records is None:
            why = "nobody has subscribed to" if stream is None else "--no-record keeps no record of"
            return web.json_response({"error": f"{why} {name!r} on {market}"}, status=404)
        return web.Response(body=bytes(stream.records), content_type="application/octet-stream")

    async def _all_spans(self, request: web.Request) -> web.Response:
        market, spans = request.query.get("market", "um"), self._server.spans
        return web.json_response(
            {"market": market, "spans": {name: spans.of(market, name) for name in spans.names(market)}}
        )

    async def _spans(self, request: web.Request) -> web.Response:
        market, name = request.match_info["market"], request.match_info["stream"]
        return web.json_response({"market": market, "stream": name, "spans": self._server.spans.of(market, name)})

    async def _fault(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(self._faults.apply(json.loads(await request.text())))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

    async def _start(self, request: web.Request) -> web.Response:
        if self._player is None:
            return web.json_response({"error": "there is no recording: start the exchange with --replay"}, status=400)
        self._player.start()
        return web.json_response(self._player.state())


def _counts(stream: ExchangeStream) -> dict[str, Any]:
    records = stream.records
    return {
        "frames": len(records) // RECORD_BYTES if records is not None else None,
        "subscribers": len(stream.subscribers),
        "silent": stream.is_silent,
    }
