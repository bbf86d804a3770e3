"""What a connection asks of the exchange: SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS, in turn, at a pace, answered.

Source: reference/binance-protocol.md sections 1.4 and 1.6. The answer is no promise of data: an unknown symbol and a
stream on the wrong route are acknowledged like any other.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from common.streams import Stream

PAUSE_S = 0.4
"""Between two control messages of a connection: at most 3 a second are sent (DESIGN section 4)."""

ANSWER_WITHIN_S = 10.0
NAMES_PER_MESSAGE = 100
MESSAGE_BYTES = 4000
"""A text above about 4,096 bytes is neither answered nor executed (reference section 1.4)."""

Method = Literal["SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS"]


@dataclass(slots=True)
class Request:
    """One control message.

    Attributes:
        method: What it asks.
        streams: What it asks it for.
        number: Its `id`, from 1; 0 until it is sent.
        sent_s: When it was sent, monotonic.
    """

    method: Method
    streams: list[Stream]
    number: int = 0
    sent_s: float = 0.0

    def text(self) -> bytes:
        """The message as it is sent."""
        names = [stream.exchange_name for stream in self.streams]
        body: dict[str, Any] = {"method": self.method, "params": names, "id": self.number}
        if self.method == "LIST_SUBSCRIPTIONS":
            del body["params"]
        return msgspec.json.encode(body)

    def has_room(self, stream: Stream) -> bool:
        """Whether one more name fits."""
        size = len(self.text()) + 8 + len(stream.exchange_name.encode()) + 3
        return len(self.streams) < NAMES_PER_MESSAGE and size <= MESSAGE_BYTES


class Control:
    """The requests of one connection, in order.

    Args:
        send: Sends a text.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._waiting: deque[Request] = deque()
        self._unanswered: dict[int, Request] = {}
        self._sent = 0
        self._more = asyncio.Event()

    def ask(self, method: Method, streams: Iterable[Stream] = ()) -> None:
        """Puts a request behind those that wait; names are put together as far as one message holds them."""
        streams = list(streams)
        if method == "LIST_SUBSCRIPTIONS":
            self._waiting.append(Request(method, []))
        for stream in streams:
            last = self._waiting[-1] if self._waiting else None
            if last is None or last.method != method or not last.has_room(stream):
                last = Request(method, [])
                self._waiting.append(last)
            if stream not in last.streams:
                last.streams.append(stream)
        self._more.set()

    async def run(self) -> None:
        """Sends what is asked, one message each `PAUSE_S`; ends by cancellation."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            request = self._waiting.popleft()
            self._sent += 1
            request.number, request.sent_s = self._sent, loop.time()
            self._unanswered[request.number] = request
            self._send(request.text())
            await asyncio.sleep(PAUSE_S)

    def answered(self, reply: dict[str, Any]) -> Request | None:
        """The request that a reply answers; None where it answers none."""
        number = reply.get("id")
        return self._unanswered.pop(number, None) if isinstance(number, int) else None

    def overdue(self, heard_s: float) -> list[Request]:
        """What was never answered, although the exchange was still heard long after it was sent."""
        return [one for one in self._unanswered.values() if heard_s - one.sent_s > ANSWER_WITHIN_S]

    @property
    def is_done(self) -> bool:
        """Whether everything that was asked is answered."""
        return not self._waiting and not self._unanswered
