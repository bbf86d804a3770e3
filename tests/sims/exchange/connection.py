"""One client's connection: its handshake, its subscriptions, its rights and its limits.

Its streams are in `Subscriptions`; what is late or held back is in `Transit`. All that is sent goes through
`underlying_transport` as finished WebSocket frames, so that a tick's frames are one write; picows does the parsing of
what comes in.
"""

import itertools
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from tests.sims.exchange import requests, sent, wire
from tests.sims.exchange.handshakes import Deferred
from tests.sims.exchange.names import Address, is_possible
from tests.sims.exchange.pings import Pings
from tests.sims.exchange.subscriptions import Subscriptions
from tests.sims.exchange.transit import Transit

if TYPE_CHECKING:
    from tests.sims.exchange.server import Server

MESSAGES_PER_S = {"um": 10, "spot": 5}
"""Reference 1.6: pings, pongs and control messages that a client may send within a second."""
CUTS = ("fin", "rst", "close", "half_open")
"""The ways in which a connection can be cut."""
_LATEST_ACK_S = 0.3
_LINGER_ZERO = struct.pack("ii", 1, 0)

_ids = itertools.count(1)


class Connection(WSListener):
    """One WebSocket connection.

    Attributes:
        id: Its number, from 1, in the order of the connections.
        market, route: Where it connected.
        combined: Whether its frames are wrapped; the property of that name.
        subscriptions: Its streams.
        frames_sent: Data frames written.
        peer: The client's IP.
        opened_at: Monotonic, in s.
        is_full: Whether the socket takes no more for now.
        is_closing: Whether its end has begun.
        is_half_open: Whether it is dead without the client knowing: nothing is sent any more.
        is_dead: Whether it gets no data any more, while pings and replies go on.
    """

    def __init__(self, server: "Server", market: str, address: Address | None) -> None:
        self._server = server
        self.id = next(_ids)
        self.market = market
        self.route = address.route if address else ""
        self.combined = address.combined if address else False
        self.subscriptions = Subscriptions(server, self)
        self.frames_sent = 0
        self.peer = ""
        self.opened_at = time.monotonic()
        self.is_full = False
        self.is_half_open = False
        self.is_closing = False
        self.is_dead = False
        self._address = address
        self._out: list[bytes] = []
        self._transit: Transit | None = None
        self._late_acks: list[str] = []
        self._acks = 0
        self._heard: deque[float] = deque()
        self._pings = Pings()
        self._transport: WSTransport | None = None
        self._is_open = False

    @property
    def has_address(self) -> bool:
        """Whether the exchange has anything under the path that was asked for."""
        return self._address is not None

    @property
    def is_served(self) -> bool:
        """Whether data goes out on it, now or, after a stall, later."""
        return not (self.is_half_open or self.is_closing or self.is_dead)

    # -- the handshake -------------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        peer = transport.underlying_transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        answer = self._server.answer_handshake(self)
        if answer is not None:
            if answer.resets:
                self.reset()
                return
            transport.underlying_transport.write(answer.to_bytes())
            if not answer.stays_open:
                transport.disconnect()
            return
        response = transport.response
        assert isinstance(response, Deferred)
        transport.underlying_transport.write(bytes(response.real_bytes()))
        self._is_open = True
        seconds, jitter_s = self._server.rules.latency(self.market, self.route)
        if seconds or jitter_s:
            self.delay(seconds, jitter_s)
        self._server.opened(self)
        assert self._address is not None
        if not all(is_possible(name) for name in self._address.names):
            self._refuse(requests.Refusal(2, "Invalid request: invalid stream", closes=True))
        elif self._address.names:
            self.subscriptions.add(self._address.names)
            self._server.subscribed()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._is_open:
            self._is_open = False
            self._end()
            self._server.closed(self)

    # -- what comes in -------------------------------------------------------------------------------------------------

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._is_open or self.is_half_open:
            return
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self.flush()
            self._end()
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        if self._is_too_much():
            self._server.ban(self.peer)
            self.close(1008, "Too many requests")
            return
        if kind == WSMsgType.PING:
            if self._server.rules.answers_pings[self.market]:
                self.write(wire.frame(wire.PONG, frame.get_payload_as_bytes()))
        elif kind == WSMsgType.PONG:
            self._pings.take_pong(frame.get_payload_as_bytes(), needs_same=self._server.needs_same_pong)
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY) and frame.payload_size <= requests.MAX_TEXT_BYTES:
            self._carry_out(frame.get_payload_as_bytes())

    def _is_too_much(self) -> bool:
        now = time.monotonic()
        heard = self._heard
        heard.append(now)
        while heard[0] <= now - 1.0:
            heard.popleft()
        return len(heard) > MESSAGES_PER_S[self.market]

    def _carry_out(self, message: bytes) -> None:
        try:
            text = message.decode()
        except UnicodeDecodeError:
            self._refuse(requests.Refusal(3, "Invalid JSON: expected value at line 1 column 1"))
            return
        request = requests.parse(self.market, text)
        if isinstance(request, requests.Refusal):
            self._refuse(request)
            return
        match request.method:
            case "SUBSCRIBE":
                if len(self.subscriptions.names.keys() | set(request.names)) > requests.MAX_STREAMS:
                    self._refuse(requests.Refusal(4, "Too many subscriptions", request.id))
                    return
                self.subscriptions.add(request.names)
                self._server.subscribed()
                self._acknowledge(requests.result(None, request.id))
            case "UNSUBSCRIBE":
                self.subscriptions.remove(request.names)
                self._reply(requests.result(None, request.id))
            case "LIST_SUBSCRIPTIONS":
                self._reply(requests.result(list(self.subscriptions.names), request.id))
            case "SET_PROPERTY":
                self.combined = request.value
                self._reply(requests.result(None, request.id))
            case _:
                self._reply(requests.result(self.combined, request.id))

    # -- what goes out -------------------------------------------------------------------------------------------------

    def push(self, frame: bytes, records: bytearray | None, at_bytes: int) -> bool:
        """Takes a data frame; it is written at the next flush, or when it has arrived, or never on a half-open one."""
        if self._transit is not None:
            self._transit.take(frame, records, at_bytes)
            return False
        if self.is_half_open or self.is_closing:
            return False
        if not self._out:
            self._server.dirty.append(self)
        self._out.append(frame)
        self.frames_sent += 1
        return True

    def flush(self) -> None:
        """Writes what was pushed, and then the acknowledgements that were waiting for data to go first."""
        out = self._out
        if self._transport is None or not out:
            return
        self._transport.underlying_transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()
        if self._late_acks:
            self._send_late_acks()
        if self.buffered_bytes > self._server.max_buffered_bytes:
            self._server.log(f"connection {self.id} reads too slowly and is cut")
            self.reset()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the socket to take them."""
        return self._transport.underlying_transport.get_write_buffer_size() if self._transport else 0

    def write(self, frame: bytes) -> None:
        """Writes a finished frame that is no data, behind the data that was pushed before."""
        if self._transit is not None and self._transit.is_stalled:
            self._transit.take(frame, None, -1)
        elif self._transport is not None and not self.is_half_open:
            self.flush()
            self._transport.underlying_transport.write(frame)

    def _reply(self, text: str) -> None:
        self._send_late_acks()
        self.write(wire.text_frame(text.encode()))

    def _refuse(self, refusal: requests.Refusal) -> None:
        self._reply(refusal.to_text(flat=self._server.has_flat_errors))
        if refusal.closes:
            self.close(1008, "invalid stream")

    def _acknowledge(self, text: str) -> None:
        """Every second acknowledgement comes behind the first data, as it happens on the real exchange."""
        self._acks += 1
        if not self._server.is_ack_late(self._acks):
            self._reply(text)
            return
        self._late_acks.append(text)
        self._server.later(_LATEST_ACK_S, self._send_late_acks)

    def _send_late_acks(self) -> None:
        acks, self._late_acks = self._late_acks, []
        for text in acks:
            self.write(wire.text_frame(text.encode()))

    def keep_alive(self, ping_s: float, pong_s: float) -> None:
        """Pings each `ping_s`; and cuts a client that has owed a pong for `pong_s`."""
        if self._pings.is_overdue(pong_s):
            self._server.log(f"connection {self.id} has owed a pong for {pong_s:g} s and is cut")
            self.close(1008, "Pong timeout")
        elif (payload := self._pings.due(ping_s)) is not None:
            self.write(wire.frame(wire.PING, payload))

    # -- faults --------------------------------------------------------------------------------------------------------

    def delay(self, seconds: float, jitter_s: float) -> None:
        """From now on data arrives so much later, pings and replies do not."""
        self._way().delay(seconds, jitter_s)
        self._arrived()

    def stall(self) -> None:
        """Holds back everything until `resume`."""
        self._way().stall()

    def resume(self) -> None:
        """Sends in one burst what was held back."""
        if self._transit is not None:
            self._transit.resume()

    def _way(self) -> Transit:
        """The way to the client, on which things are held back."""
        self.flush()
        if self._transit is None:
            self._transit = Transit(self._deliver, self._arrived, self._server.later, self.id)
        return self._transit

    def _deliver(self, frame: bytes, records: bytearray | None, at_bytes: int) -> None:
        """Takes what has arrived; `_arrived` writes it."""
        if not (self.is_half_open or self.is_closing):
            self._hand_over(frame, records, at_bytes)

    def _hand_over(self, frame: bytes, records: bytearray | None, at_bytes: int) -> None:
        self._out.append(frame)
        if at_bytes >= 0:
            self.frames_sent += 1
            if records is not None:
                sent.add_delivery(records, at_bytes)

    def _arrived(self) -> None:
        self.flush()
        if self._transit is not None and self._transit.is_idle:
            self._transit = None

    def die(self) -> None:
        """No data any more; pings and replies go on."""
        self.is_dead = True
        self.subscriptions.review()

    def cut(self, how: str, code: int = 1001, reason: str = "going away", late_s: float = 0.0) -> None:
        """Ends it in one of the ways of `CUTS`; `code` and `reason` are of a close frame, `late_s` of `fin`."""
        if how == "fin" and late_s:
            self.finish_late(late_s)
        elif how == "fin":
            self.finish()
        elif how == "rst":
            self.flush()
            self.reset()
        elif how == "close":
            self.close(code, reason)
        else:
            self.flush()
            self.is_half_open = True
            self._end()

    def _end(self) -> None:
        """It gets nothing any more; what is still on its way never arrives."""
        if not self.is_half_open:
            self.is_closing = True
        self.subscriptions.end(self._transit.lost_from_ns if self._transit is not None else None)
        self._transit = None

    def close(self, code: int, reason: str) -> None:
        """Closes with a close frame."""
        self.flush()
        self._end()
        if self._transport is not None:
            self._transport.underlying_transport.write(wire.close_frame(code, reason))
            self._transport.disconnect()

    def finish(self) -> None:
        """Ends the TCP connection in order, without a close frame: 1006 for the client."""
        self.flush()
        self._end()
        if self._transport is not None:
            self._transport.disconnect()

    def finish_late(self, seconds: float) -> None:
        """As `finish`, on a network that was away: what is held back is not lost, and comes with the end, so late."""
        self.stall()
        held, self._transit = self._way(), None
        self._end()

        def arrive() -> None:
            for frame, records, at_bytes in held.drain():
                self._hand_over(frame, records, at_bytes)
            self.flush()
            if self._transport is not None:
                self._transport.disconnect()

        self._server.later(seconds, arrive)

    def reset(self) -> None:
        """Ends the TCP connection with RST; what was not read yet may be lost."""
        self._end()
        if self._transport is not None:
            handle = self._transport.underlying_transport.get_extra_info("socket")
            if handle is not None:
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._transport.disconnect(graceful=False)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._server.drained.set()
