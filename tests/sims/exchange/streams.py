"""The exchange streams: who is subscribed to them, what was sent on them, and the faults that befall single frames."""

from collections.abc import Callable, Iterable
from typing import Protocol

from common.clock import now_ns
from tests.sims.exchange import sent
from tests.sims.exchange.alterations import Plan
from tests.sims.exchange.wire import text_frame


class Receiver(Protocol):
    """What a stream needs to know of a connection."""

    combined: bool

    def push(self, frame: bytes, records: bytearray | None, at_bytes: int) -> bool:
        """Takes a frame; False where it is not written now (it is held back, or never will be)."""


class ExchangeStream:
    """One stream of one market, from its first subscription on.

    Attributes:
        name: As on the wire, `btcusdt@depth20@100ms`.
        subscribers: The connections that its frames go to.
        records: The sent record (`sent.py`); None where the exchange keeps none.
        is_silent: Whether its frames are generated and not sent, because a test wants it so.
    """

    __slots__ = ("_held", "_plans", "_prefix", "is_silent", "market", "name", "records", "subscribers")

    def __init__(self, market: str, name: str, *, keeps_record: bool) -> None:
        self.market = market
        self.name = name
        self.subscribers: list[Receiver] = []
        self.records: bytearray | None = bytearray() if keeps_record else None
        self.is_silent = False
        self._prefix = f'{{"stream":"{name}","data":'.encode()
        self._plans: list[Plan] = []
        self._held: tuple[bytes, int] | None = None

    def plan(self, plan: Plan) -> None:
        """Puts a fault of single frames behind those that are planned already."""
        self._plans.append(plan)

    def publish(self, payload: bytes, flags: int = 0) -> None:
        """Sends a frame to all subscribers and records it."""
        if self._plans or self._held is not None:
            self._publish_by_plan(payload, flags)
            return
        records = self.records
        if records is None:
            if self.subscribers and not self.is_silent:
                self._send(payload, None, 0)
            return
        at_bytes = len(records)
        records += sent.pack(now_ns(), sent.digest(payload), 0, flags)
        if self.subscribers and not self.is_silent:
            self._send(payload, records, at_bytes)

    def wrap(self, payload: bytes) -> bytes:
        """The payload as a combined frame's text."""
        return self._prefix + payload + b"}"

    def _send(self, payload: bytes, records: bytearray | None, at_bytes: int, times: int = 1) -> None:
        wrapped = raw = None
        for receiver in self.subscribers:
            if receiver.combined:
                frame = wrapped = wrapped or text_frame(self._prefix + payload + b"}")
            else:
                frame = raw = raw or text_frame(payload)
            if receiver.push(frame, records, at_bytes) and records is not None:
                sent.add_delivery(records, at_bytes)
            for _ in range(times - 1):
                receiver.push(frame, None, 0)

    def _publish_by_plan(self, payload: bytes, flags: int) -> None:
        """The slow path: a frame that a fault may befall, or that follows one which is held back."""
        plan = next((plan for plan in self._plans if plan.meets(payload)), None)
        if plan is not None:
            flags |= plan.flag
            payload = plan.alter(payload)
            if plan.is_spent:
                self._plans.remove(plan)
        records = self.records
        at_bytes = len(records) if records is not None else 0
        if records is not None:
            records += sent.pack(now_ns(), sent.digest(payload), 0, flags)
        if self.is_silent or flags & sent.SKIPPED:
            return
        if flags & sent.REORDERED and self._held is None:
            self._held = (payload, at_bytes)
            return
        self._send(payload, records, at_bytes, 2 if flags & sent.REPEATED else 1)
        if self._held is not None:
            late, late_at_bytes = self._held
            self._held = None
            self._send(late, records, late_at_bytes)


class Streams:
    """All streams of both markets.

    Args:
        find: Says whether the exchange has such a stream; asked at its first subscription, from when on it feeds it.
        keeps_records: Whether a sent record is kept.
    """

    def __init__(self, find: Callable[[ExchangeStream], bool], *, keeps_records: bool = True) -> None:
        self._find = find
        self._keeps_records = keeps_records
        self._streams: dict[tuple[str, str], ExchangeStream] = {}

    def get(self, market: str, name: str) -> ExchangeStream | None:
        """The stream, brought to life by the first who asks; None where the exchange has none of this name."""
        stream = self._streams.get((market, name))
        if stream is not None:
            return stream
        stream = ExchangeStream(market, name, keeps_record=self._keeps_records)
        if not self._find(stream):
            return None
        self._streams[market, name] = stream
        return stream

    def find_living(self, market: str, name: str) -> ExchangeStream | None:
        """The stream if somebody has asked for it before."""
        return self._streams.get((market, name))

    def force(self, market: str, name: str) -> ExchangeStream:
        """The stream, made up where there is none: for frames that a test injects."""
        stream = self.get(market, name)
        if stream is None:
            stream = self._streams[market, name] = ExchangeStream(market, name, keeps_record=self._keeps_records)
        return stream

    def of(self, market: str) -> Iterable[ExchangeStream]:
        return (stream for stream in self._streams.values() if stream.market == market)
