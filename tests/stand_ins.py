"""What stands beside a connection's subscriber in a unit test: the hand that takes what it says, and the wire."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import hiredis
import msgspec

from common import session
from common.session import Closed, Marked, Opened
from common.streams import Stream


class Hand:
    """Stands where the producer stands: what was said, by stream."""

    taken = True

    def __init__(self) -> None:
        self.said: list[tuple[str, session.Event]] = []

    def append(self, packed: bytes, *, always: bool = False) -> bool:
        if always:
            reader = hiredis.Reader()
            reader.feed(packed)
            words = reader.gets()
            self.said.append((words[1].decode(), session.decode(words[-1])))
        return True

    def has_room(self) -> bool:
        return True

    def register(self, streams: Iterable[Stream]) -> None:
        """All are known."""

    def of(self, stream: Stream) -> list[tuple[Any, ...]]:
        """Kind, session and cause of each event of a stream, in order."""
        told: list[tuple[Any, ...]] = []
        for key, event in self.said:
            if key == stream.key and isinstance(event, Opened):
                told.append(("open", event.session))
            elif key == stream.key and isinstance(event, Closed):
                told.append(("close", event.session, event.cause))
        return told

    def marks(self) -> list[Marked]:
        return [event for _, event in self.said if isinstance(event, Marked)]


class Wire:
    """Stands where the connection stands: what was asked, in what order, and what is subscribed by that.

    Attributes:
        on_sent: Gets the number of each question, a moment later.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.heard_ns = time.time_ns()
        self.asked: list[dict[str, Any]] = []
        self.answered = 0
        self.subscribed: set[str] = set()
        self.on_sent: Callable[[int], None] = lambda _: None

    def look(self) -> None:
        """There is nothing to see."""

    def send(self, text: bytes) -> None:
        question = msgspec.json.decode(text)
        self.asked.append(question)
        change = {"SUBSCRIBE": self.subscribed.update, "UNSUBSCRIBE": self.subscribed.difference_update}
        change.get(question["method"], lambda _: None)(question.get("params", ()))
        self._loop.call_soon(self.on_sent, question["id"])

    def close(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)
