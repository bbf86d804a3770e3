"""The faults that a test can switch on while the exchange runs."""

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Any

from common.clock import now_ns
from tests.sims.exchange import sent, wire
from tests.sims.exchange.alterations import FLAGS, Plan
from tests.sims.exchange.clocks import Clocks
from tests.sims.exchange.conditions import DETAILS as CONDITIONS
from tests.sims.exchange.conditions import Conditions
from tests.sims.exchange.connection import CUTS, Connection
from tests.sims.exchange.details import WHICH, Details, chosen
from tests.sims.exchange.handshakes import Answer
from tests.sims.exchange.names import ROUTES
from tests.sims.exchange.rest import Rest
from tests.sims.exchange.server import Server

_DETAILS = {
    "cut": f"how code reason late_s {WHICH}",
    "handshake": "status n body content_length retry_after market refuse seconds",
    "stall": f"seconds {WHICH}",
    "inject": "market stream payload payload_b64 wrap binary route n",
    "server_shutdown": "cut_after_s market",
    "errors": "flat",
    "rest": "status n retry_after ban_ms",
    **CONDITIONS,
} | dict.fromkeys(FLAGS, "market stream n where how")
"""Kind of fault to the details that it understands."""


class Faults:
    """Carries out what `POST /control/fault` asks for.

    Args:
        server: The WebSocket side.
        rest: The REST side.
        clocks: What time it is in each market.
        conditions: The faults that last.
        listen: Opens a market's port again after a refusal.
    """

    def __init__(
        self, server: Server, rest: Rest, clocks: Clocks, conditions: Conditions, listen: Callable[[str], Any]
    ) -> None:
        self._server = server
        self._rest = rest
        self._clocks = clocks
        self._listen = listen
        self._tasks: set[asyncio.Task[None]] = set()
        self._kinds: dict[str, Callable[[Details], dict[str, Any]]] = {
            "cut": self._cut,
            "handshake": self._handshake,
            "stall": self._stall,
            "inject": self._inject,
            "server_shutdown": self._server_shutdown,
            "errors": self._errors,
            "rest": self._rest_fault,
            **conditions.kinds,
        } | dict.fromkeys(FLAGS, self._frames)

    def apply(self, fault: Any) -> dict[str, Any]:
        """Switches a fault on; returns what it hit.

        Raises:
            ValueError: The fault is unknown, or a detail is missing, unknown or makes no sense.
        """
        if not isinstance(fault, dict):
            raise ValueError('a fault is an object with a "kind"')
        kind = fault.get("kind")
        if kind not in self._kinds:
            raise ValueError(f"kind is {kind!r}, and must be one of {', '.join(sorted(self._kinds))}")
        unknown = fault.keys() - {"kind", *_DETAILS[kind].split()}
        if unknown:
            raise ValueError(
                f"unknown details of {kind}: {', '.join(sorted(unknown))}; it has {_DETAILS[kind] or 'none'}"
            )
        return self._kinds[kind](Details(fault))

    def _cut(self, details: "Details") -> dict[str, Any]:
        how = details.take("how", str, "fin")
        code, reason = details.take("code", int, 1001), details.take("reason", str, "going away")
        late_s = details.take_seconds("late_s", 0.0)
        if how not in CUTS:
            raise ValueError(f"how is {how!r}, and must be one of {', '.join(CUTS)}")
        if late_s and how != "fin":
            raise ValueError("late_s goes with fin")
        hit = chosen(self._server, details)
        for connection in hit:
            connection.cut(how, code, reason, late_s)
        return {"connections": [connection.id for connection in hit]}

    def _handshake(self, details: "Details") -> dict[str, Any]:
        refuse, seconds = details.take("refuse", bool, False), details.take_number("seconds", None)
        market = details.take("market", str, None)
        answer = Answer(
            status=details.take("status", int, 429),
            resets=refuse,
            body=details.take("body", str, None),
            content_length=details.take("content_length", int, None),
            retry_after_s=details.take("retry_after", int, None),
            left=details.take("n", int, 1),
            market=market,
        )
        if seconds is not None:
            if not refuse:
                raise ValueError("seconds goes with refuse")
            for closing in ROUTES if market is None else (market,):
                self._server.stop_listening(closing)
                self._begin(seconds, self._listen, closing)
            return {"seconds": seconds}
        answer.to_bytes()
        self._server.answers.append(answer)
        return {"n": answer.left}

    def _stall(self, details: "Details") -> dict[str, Any]:
        seconds = details.take_number("seconds")
        hit = chosen(self._server, details)
        for connection in hit:
            connection.stall()
            self._server.later(seconds, connection.resume)
        return {"connections": [connection.id for connection in hit]}

    def _inject(self, details: "Details") -> dict[str, Any]:
        market, name = details.take("market", str, "um"), details.take("stream", str, None)
        wraps, is_binary = details.take("wrap", bool, True), details.take("binary", bool, False)
        route, times = details.take("route", str, None), details.take("n", int, 1)
        text, encoded = details.take("payload", str, None), details.take("payload_b64", str, None)
        if (text is None) == (encoded is None):
            raise ValueError("inject needs payload or payload_b64")
        try:
            payload = text.encode() if text is not None else base64.b64decode(encoded or "", validate=True)
        except binascii.Error as error:
            raise ValueError(f"payload_b64: {error}") from error
        if wraps and name is None:
            raise ValueError("inject needs a stream, or wrap false")
        receivers = [
            connection
            for connection in self._server.connections.values()
            if connection.market == market and route in (None, connection.route)
        ]
        subscribed = [connection for connection in receivers if name in connection.subscriptions.names]
        for _ in range(times):
            self._send(subscribed or receivers, market, name if wraps else None, payload, is_binary=is_binary)
        self._server.flush()
        return {"connections": [connection.id for connection in subscribed or receivers]}

    def _send(
        self, receivers: list[Connection], market: str, name: str | None, payload: bytes, *, is_binary: bool
    ) -> None:
        opcode = wire.BINARY if is_binary else wire.TEXT
        records, at_bytes, wrapped = None, 0, payload
        if name is not None:
            stream = self._server.streams.force(market, name)
            records, wrapped = stream.records, stream.wrap(payload)
            if records is not None:
                at_bytes = len(records)
                records += sent.pack(now_ns(), sent.digest(payload), 0, sent.INJECTED)
        for connection in receivers:
            frame = wire.frame(opcode, wrapped if connection.combined else payload)
            if connection.push(frame, records, at_bytes) and records is not None:
                sent.add_delivery(records, at_bytes)

    def _frames(self, details: "Details") -> dict[str, Any]:
        market, name = details.take("market", str, "um"), details.take("stream", str)
        plan = Plan(
            details.take("kind", str),
            details.take("n", int, 1),
            details.take("where", str, ""),
            details.take("how", str, ""),
        )
        stream = self._server.streams.get(market, name)
        if stream is None:
            raise ValueError(f"the exchange has no stream {name!r} on {market}")
        stream.plan(plan)
        return {"stream": name}

    def _server_shutdown(self, details: Details) -> dict[str, Any]:
        """A market says that it goes down, to all, without any subscription; then it does, if asked (reference 1.5).

        Documented for spot alone; whether um says it is not known, so a recorder must take it there too.
        """
        cut_after_s, markets = details.take_seconds("cut_after_s", None), details.markets()
        told = [connection for connection in self._server.connections.values() if connection.market in markets]
        for connection in told:
            payload = f'{{"e":"serverShutdown","E":{self._clocks.now_ms(connection.market)}}}'
            text = f'{{"stream":"!serverShutdown","data":{payload}}}' if connection.combined else payload
            connection.write(wire.text_frame(text.encode()))
            if cut_after_s is not None:
                self._server.later(cut_after_s, connection.finish)
        return {"connections": [connection.id for connection in told]}

    def _errors(self, details: "Details") -> dict[str, Any]:
        self._server.has_flat_errors = details.take("flat", bool)
        return {"flat": self._server.has_flat_errors}

    def _rest_fault(self, details: "Details") -> dict[str, Any]:
        left = details.take("n", int, 1)
        self._rest.plan(
            details.take("status", int), left, details.take("retry_after", int, None), details.take("ban_ms", int, None)
        )
        return {"n": left}

    def _begin(self, seconds: float, call: Callable[[str], Any], market: str) -> None:
        async def run() -> None:
            await asyncio.sleep(seconds)
            await call(market)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
