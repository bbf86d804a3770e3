"""A stream of the gate's own on each market: what tells that the network is well again while everything is closed.

On um `markPrice@1s`, whose event time is a whole second; spot has no such stream, there it is `aggTrade` of a symbol
that is always traded. It is never recorded and never closed.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp

from common.backoff import Backoff
from common.clock import now_ns
from common.frame import event_time_ms
from common.settings import Settings
from common.streams import Stream
from gate.market import Market

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
SILENT_S = {"um": 10.0, "spot": 60.0}
"""Without a frame for so long the connection is opened anew."""
CONNECT_S = 10.0
LIVED_S = 60.0
"""A connection that lasted so long starts the backoff anew."""


class Canary:
    """The canary of one market.

    Args:
        market: Gets each frame's latency.
        settings: All settings.
        heard: Called when a frame came.
    """

    def __init__(self, market: Market, settings: Settings, heard: Callable[[], None]) -> None:
        channel, base = (
            ("markPrice", settings.um_ws_url + "/market") if market.name == "um" else ("aggTrade", settings.spot_ws_url)
        )
        name = Stream(market.name, channel, settings.gate.canary_symbol).exchange_name
        self._url = f"{base}/stream?streams={name}"
        self._market = market
        self._heard = heard
        self._is_gone = False
        self.connects = 0

    async def run(self) -> None:
        """Listens until it is cancelled."""
        backoff = Backoff(1.0, 60.0)
        async with aiohttp.ClientSession() as session:
            while True:
                began_s = time.monotonic()
                try:
                    async with asyncio.timeout(CONNECT_S):
                        # no compression: the exchange negotiates it badly (reference section 1.7)
                        socket = await session.ws_connect(self._url, compress=0, heartbeat=HEARTBEAT_S)
                    self.connects += 1
                    try:
                        why = await self._listen(socket)
                    finally:
                        await socket.close()
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    why = str(error) or "no answer"
                if time.monotonic() - began_s > LIVED_S:
                    backoff.reset()
                if not self._is_gone:
                    self._is_gone = True
                    log.warning("%s: the canary at %s is gone: %s", self._market.name, self._url, why)
                await asyncio.sleep(backoff.next())

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        """Takes frames until the connection ends; gives why it did."""
        while True:
            try:
                async with asyncio.timeout(SILENT_S[self._market.name]):
                    message = await socket.receive()
            except TimeoutError:
                return f"nothing came for {SILENT_S[self._market.name]:g} s"
            receive_ns, receive_s = now_ns(), time.monotonic()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return f"{message.type.name.lower()} {socket.close_code or ''}".strip()
            event_ms = event_time_ms(message.data.encode())
            if event_ms is not None:
                self._market.take_canary(receive_ns / 1e6 - event_ms, receive_s, receive_ns)
                self._heard()
                if self._is_gone:
                    self._is_gone = False
                    log.info("%s: the canary is back", self._market.name)
