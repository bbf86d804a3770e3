"""One WebSocket to the exchange: the only module that knows which client library does it.

picows over uvloop costs a third of what `websockets` does per frame (make bench). It asks a silent peer with a ping,
and offers no compression: the exchange has negotiated it badly (reference/binance-protocol.md section 1.7). The
exchange's own pings are answered here: picows would do it without a word, and there may be no other sign of life.
"""

import asyncio
import logging
import math
import select
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from common import names
from common.clock import now_ns

OnMessage = Callable[[int, bytes], None]
"""Receive time in ns, and the whole message as it was received."""

logging.getLogger("picows").setLevel(logging.WARNING)  # it tells of each connection, and so do we

_DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


class ConnectFailed(Exception):
    """No WebSocket could be opened; the message says what the exchange answered."""


class Connection(WSListener):
    """An open WebSocket. Made by `connect`."""

    def __init__(self, on_message: OnMessage, idle_ping_s: float) -> None:
        self._on_message = on_message
        self._idle_ping_s = idle_ping_s
        self._transport: WSTransport | None = None
        self._errors = select.poll()
        self._fragments: list[bytes] = []
        self._fragments_ns = 0
        self._reason = ""
        self._asked_s = math.inf
        self._pinged_ns = 0
        self.heard_ns = now_ns()
        """When the exchange last sent a message. Pings do not count: they go on where the data has died."""
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done when the connection is gone, with the reason in words."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._errors.register(transport.underlying_transport.get_extra_info("socket").fileno(), 0)

    def look(self) -> None:
        """Reads on where the socket was reset; to be called now and then.

        libuv watches a socket with an error no longer (uv_poll, UV_EBADF), and calls its reader once more: where the
        reset came right behind data, what else lies in the socket, and its end, would never be read.
        """
        if self._transport is not None and not self.closed.done() and self._errors.poll(0):
            self._transport.underlying_transport.pause_reading()
            self._transport.underlying_transport.resume_reading()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        receive_ns = now_ns()
        kind = frame.msg_type
        if kind in _DATA and frame.fin:
            self.heard_ns = receive_ns
            self._on_message(receive_ns, frame.get_payload_as_bytes())
        elif kind in _DATA or kind == WSMsgType.CONTINUATION:
            self.heard_ns = receive_ns
            self._fragment(receive_ns, frame)
        elif kind == WSMsgType.PING:
            self._pinged_ns = receive_ns
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.CLOSE:
            self.heard_ns = receive_ns
            said = frame.get_payload_as_bytes()
            code = int.from_bytes(said[:2], "big") if len(said) >= 2 else "no code"
            words = f"the exchange closed it: {code} {said[2:].decode(errors='replace')}".rstrip()
            self._reason = self._unanswered() or words
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def send_user_specific_ping(self, transport: WSTransport) -> None:
        """Asks a silent peer; picows lets go of one that does not answer in time, and then of the connection."""
        self._asked_s = time.monotonic()
        transport.send_ping()

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """Asked of each frame after such a ping: the pong comes here and nowhere else."""
        is_pong = frame.msg_type == WSMsgType.PONG
        if is_pong:
            self._pinged_ns = now_ns()
            self._asked_s = math.inf
        return is_pong

    def _unanswered(self) -> str:
        """Why picows let go, if it did: its close frame may come back, as if the exchange had closed."""
        is_over = time.monotonic() - self._asked_s > self._idle_ping_s * 0.99  # the loop's clock is a little coarser
        return f"a ping was not answered within {self._idle_ping_s:g} s" if is_over else ""

    @property
    def alive_ns(self) -> int:
        """When the exchange was last heard at all, pings and pongs included."""
        return max(self.heard_ns, self._pinged_ns)

    def _fragment(self, receive_ns: int, frame: WSFrame) -> None:
        """A message in several frames: its receive time is that of the first of them."""
        if not self._fragments:
            self._fragments_ns = receive_ns
        self._fragments.append(frame.get_payload_as_bytes())
        if frame.fin:
            message, self._fragments = b"".join(self._fragments), []
            self._on_message(self._fragments_ns, message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.closed.done():
            words = "the connection was lost without a close frame"
            self.closed.set_result(self._reason or self._unanswered() or words)

    def send(self, text: bytes) -> None:
        """One control message."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, text)

    def close(self, reason: str) -> None:
        """Says goodbye and lets go; `closed` gets the reason."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect(graceful=False)
        if not self.closed.done():
            self.closed.set_result(self._reason)


async def connect(
    url: str, on_message: OnMessage, *, timeout_s: float, idle_ping_s: float, max_frame_bytes: int
) -> Connection:
    """Opens a WebSocket.

    Raises:
        ConnectFailed: No connection, or the exchange answered the handshake with something else than 101.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await names.look_up(urlsplit(url).hostname or "")
            _, listener = await ws_connect(
                lambda: Connection(on_message, idle_ping_s),
                url,
                websocket_handshake_timeout=timeout_s,
                enable_auto_pong=False,
                enable_auto_ping=True,
                auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
                auto_ping_idle_timeout=idle_ping_s,
                auto_ping_reply_timeout=idle_ping_s,
                max_frame_size=max_frame_bytes,
                max_redirects=0,
            )
    except WSHandshakeError as error:
        raise ConnectFailed(_refusal(error)) from error
    except (WSError, OSError, TimeoutError) as error:
        raise ConnectFailed(f"no connection: {str(error) or f'no answer in {timeout_s:g} s'}") from error
    if not isinstance(listener, Connection):  # reset within the handshake: picows raises nothing
        raise ConnectFailed("no connection: it was lost within the handshake")
    return listener


def _refusal(error: Any) -> str:
    """What the exchange answered: 429, 403, 451 and 503 may all answer a handshake (reference section 1.6)."""
    if error.response is None:
        return f"handshake failed: {error}"
    body = (error.raw_body or b"")[:200].decode(errors="replace").strip()
    return f"the exchange answered the handshake with HTTP {int(error.response.status)}{': ' * bool(body)}{body}"
