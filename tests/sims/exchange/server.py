"""The WebSocket side: both markets' ports, all connections, their keep-alive, bans and age."""

import asyncio
import sys
import time
from collections.abc import Callable
from ssl import SSLContext

from picows import WSListener, WSUpgradeRequest, WSUpgradeResponseWithListener, ws_create_server

from tests.sims.exchange.connection import Connection
from tests.sims.exchange.handshakes import Answer, Deferred
from tests.sims.exchange.names import parse_address
from tests.sims.exchange.options import Options
from tests.sims.exchange.rules import Rules
from tests.sims.exchange.spans import Spans
from tests.sims.exchange.streams import ExchangeStream, Streams

PING_S = {"um": 180.0, "spot": 20.0}
PONG_S = {"um": 600.0, "spot": 60.0}
"""Reference 1.1: how often the server pings, and how long it waits for the pong."""
_NOT_FOUND = Answer(status=404, body="")


class Server:
    """All connections of both markets.

    Attributes:
        streams: The exchange streams.
        spans: When each connection was served with what.
        rules: What holds at the moment.
        flows: Whether a stream of a market may have data at the moment, whoever is subscribed.
        connections: Those that are open.
        dirty: Those that have something to flush.
        answers: Planned answers to the next handshakes.
        has_flat_errors: Whether error replies have the flat shape of the documentation.
        needs_same_pong: Whether a pong must repeat the ping's payload.
        drained: Set when a full socket takes data again.
    """

    def __init__(self, options: Options, find: Callable[[ExchangeStream], bool]) -> None:
        self._options = options
        self.rules = Rules(options.max_age_s)
        self.spans = Spans()
        self.flows: Callable[[str, str], bool] = lambda market, name: True
        self.streams = Streams(find, keeps_records=not options.no_record)
        self.connections: dict[int, Connection] = {}
        self.dirty: list[Connection] = []
        self.answers: list[Answer] = []
        self.has_flat_errors = options.flat_errors
        self.needs_same_pong = options.same_pong
        self.max_buffered_bytes = int(options.max_buffer_mb * 1_048_576)
        self.drained = asyncio.Event()
        self.on_subscribed: Callable[[], None] = lambda: None
        self._banned: dict[str, float] = {}
        self._listeners: dict[str, asyncio.Server] = {}
        self.ports: dict[str, int] = {}

    # -- ports ---------------------------------------------------------------------------------------------------------

    async def listen(self, market: str, port: int, tls: SSLContext | None) -> None:
        """Opens a market's port; 0 takes any free one."""

        def accept(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
            return Deferred.to(Connection(self, market, parse_address(market, request.path.decode("latin-1"))))

        listener = await ws_create_server(
            accept,
            self._options.host,
            port,
            ssl=tls,
            enable_auto_pong=False,
            max_frame_size=1_048_576,
            logger_name="exchange",
        )
        self._listeners[market] = listener
        self.ports[market] = listener.sockets[0].getsockname()[1]

    def stop_listening(self, market: str) -> None:
        """Closes a market's port: connections are refused from now on, those that are open stay."""
        self._listeners.pop(market).close()

    def shut(self) -> None:
        """Closes the ports and all connections, as an exchange that goes down does."""
        for market in list(self._listeners):
            self.stop_listening(market)
        for connection in list(self.connections.values()):
            connection.close(1001, "going away")

    # -- what connections tell -----------------------------------------------------------------------------------------

    def answer_handshake(self, connection: Connection) -> Answer | None:
        """The refusal of a handshake; None lets it through."""
        for answer in self.answers:
            if answer.left > 0 and answer.market in (None, connection.market):
                answer.left -= 1
                if answer.left < 1:
                    self.answers.remove(answer)
                return answer
        until = self._banned.get(connection.peer)
        if until is not None:
            left_s = until - time.monotonic()
            if left_s > 0:
                return Answer(status=429, body='{"code":-1003,"msg":"Too many requests."}')
            del self._banned[connection.peer]
        return None if connection.has_address else _NOT_FOUND

    def opened(self, connection: Connection) -> None:
        self.connections[connection.id] = connection
        self.log(f"connection {connection.id} opened on {connection.market}/{connection.route} from {connection.peer}")

    def closed(self, connection: Connection) -> None:
        self.connections.pop(connection.id, None)
        self.drained.set()
        self.log(f"connection {connection.id} closed after {connection.frames_sent} frames")

    def subscribed(self) -> None:
        self.on_subscribed()

    def serves(self, market: str, route: str, name: str) -> bool:
        """Whether connections on a route get this stream's data."""
        stream = self.streams.find_living(market, name)
        is_silent = stream is not None and stream.is_silent
        return not is_silent and self.rules.serves(market, route, name) and self.flows(market, name)

    def review(self, market: str) -> None:
        """After a change: all connections of a market join and leave streams as it is right now."""
        for connection in list(self.connections.values()):
            if connection.market == market:
                connection.subscriptions.review()

    def ban(self, peer: str) -> None:
        """Refuses an IP's handshakes for a while."""
        self._banned[peer] = time.monotonic() + self._options.ban_s
        self.log(f"{peer} sent too many messages and is refused for {self._options.ban_s:g} s")

    def is_ack_late(self, number: int) -> bool:
        """Whether this acknowledgement of a connection comes behind the first data."""
        acks = self._options.acks
        return acks == "late" or (acks == "mixed" and number % 2 == 0)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay_s, call)

    def log(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    # -- what goes out -------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes out what this tick has made, one write a connection."""
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            connection.flush()

    async def writable(self) -> bool:
        """Waits until no subscriber's socket is full; False where there is no connection."""
        while any(connection.is_full and not connection.is_half_open for connection in self.connections.values()):
            self.drained.clear()
            await self.drained.wait()
        return bool(self.connections)

    async def keep_alive(self) -> None:
        """Pings, cuts who does not answer, and who is too old; for ever."""
        options = self._options
        while True:
            ages_s = [age.seconds for age in self.rules.max_ages.values()]
            shortest = min(options.ping_s or min(PING_S.values()), options.pong_s or 60.0, *ages_s, 1.0)
            await asyncio.sleep(max(0.02, shortest / 4))
            now = time.monotonic()
            for connection in list(self.connections.values()):
                if connection.is_half_open or connection.is_closing:
                    continue
                age = self.rules.max_ages[connection.market]
                if now - connection.opened_at >= age.seconds:
                    self.log(f"connection {connection.id} is {age.seconds:g} s old and is cut")
                    connection.cut(age.how)
                else:
                    market = connection.market
                    connection.keep_alive(options.ping_s or PING_S[market], options.pong_s or PONG_S[market])
