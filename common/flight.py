"""Batches on their way to Redis, in memory: waiting to be sent, sent and not answered, accepted and not durable.

A batch is let go when `WAITAOF` has covered it. When the link is lost all of them are sent again, from the oldest on;
when Redis refuses some they go back to the front, in order. A frame may then stand in the stream twice, and its
identity makes that harmless. The numbers of the batches rise in the order in which they enter.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common.backoff import Backoff
from common.pulse import Pulse
from common.wire import Link, ReplyError

log = logging.getLogger(__name__)

REPLIES_S = 0.02
"""So often Redis's answers are read: nobody waits for one, and each look at the socket costs what some frames do."""


@dataclass(slots=True, eq=False)
class Batch:
    """Commands that are sent, answered and kept together.

    Attributes:
        packed: The commands.
        count: How many.
        number: Its place in the order.
        since_s: When it came, from the hand or from disk; then when it was accepted. In s of the loop's clock.
        on_disk: Whether the spill has it too.
    """

    packed: bytes
    count: int
    number: int
    since_s: float
    on_disk: bool = False


class Flight:
    """All batches on their way.

    Args:
        window_bytes: At most so much is on its way to Redis at once; the rest waits here, where it can be counted.
    """

    def __init__(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Batch] = deque()
        self._sent: deque[Batch] = deque()
        self._accepted: deque[Batch] = deque()
        self._refused: list[Batch] = []
        self._refusal: ReplyError | None = None
        self._backoff = Backoff()
        self._sent_bytes = 0
        self.link: Link | None = None
        self.bytes = 0
        self.waiting_bytes = 0
        self.newest = 0
        """The number of the last batch that entered."""
        self.moved = asyncio.Event()
        self.hungry = asyncio.Event()
        """Set when little is left to send."""
        self._lost_s = self._accepted_s = self._covered_s = self._loop.time()
        self.taken = False
        """Whether Redis took what was sent last."""
        self.sent_again = 0
        self.accepted_commands = 0

    def __iter__(self) -> Iterator[Batch]:
        """From the oldest to the newest; while Redis refuses, only roughly."""
        yield from (*self._accepted, *self._sent, *self._refused, *self._waiting)

    @property
    def refusing(self) -> bool:
        """Whether Redis refused something, and nothing more is sent for a moment."""
        return self._refusal is not None

    # In and out.

    def push(self, batch: Batch) -> None:
        """Takes a batch, and sends it as soon as it can be."""
        self._waiting.append(batch)
        self.bytes += len(batch.packed)
        self.waiting_bytes += len(batch.packed)
        self.newest = batch.number
        self._send()

    def cut(self, keep_bytes: int) -> list[Batch]:
        """Takes back the newest of what is not sent and not on disk, in order, until only `keep_bytes` wait."""
        back: list[Batch] = []
        while self.waiting_bytes > keep_bytes and self._waiting and not self._waiting[-1].on_disk:
            batch = self._waiting.pop()
            self.bytes -= len(batch.packed)
            self.waiting_bytes -= len(batch.packed)
            self.newest = batch.number - 1
            back.append(batch)
        back.reverse()
        return back

    def covered(self, mark: int) -> list[Batch]:
        """Lets go of what Redis accepted up to the batch `mark`, for it is durable."""
        gone = []
        while self._accepted and self._accepted[0].number <= mark:
            batch = self._accepted.popleft()
            self.bytes -= len(batch.packed)
            gone.append(batch)
        if gone:
            self._covered_s = self._loop.time()
        self.moved.set()
        self.hungry.set()
        return gone

    def has_accepted(self) -> bool:
        """Whether something waits to be durable."""
        return bool(self._accepted)

    def is_accepted(self, mark: int) -> bool:
        """Whether Redis accepted every batch up to `mark`."""
        return not any(queue and queue[0].number <= mark for queue in (self._sent, self._waiting))

    def pulse(self) -> Pulse:
        """What can be said of Redis now."""
        return Pulse(
            now_s=self._loop.time(),
            lost_s=self._lost_s if self.link is None else None,
            accepted_s=self._accepted_s,
            covered_s=self._covered_s,
            unaccepted_s=min(
                (queue[0].since_s for queue in (self._sent, self._refused, self._waiting) if queue), default=None
            ),
            uncovered_s=self._accepted[0].since_s if self._accepted else None,
        )

    # The link.

    def attach(self, link: Link) -> None:
        """Sends everything over a new link."""
        self.link = link
        link.pause_s = REPLIES_S
        self._accepted_s = self._covered_s = self._loop.time()
        self._send()
        self.hungry.set()

    def detach(self) -> None:
        """The link is gone: everything waits again."""
        if self.link is None:
            return
        self._lost_s = self._loop.time()
        self.link = None
        self.taken = False
        kept = sorted(self, key=lambda batch: batch.number)
        self.sent_again += sum(batch.count for batch in (*self._accepted, *self._sent, *self._refused))
        self._waiting = deque(kept)
        self._accepted.clear()
        self._sent.clear()
        self._refused.clear()
        self._sent_bytes = 0
        self.waiting_bytes = self.bytes
        self._refusal = None
        self._backoff.reset()

    def _send(self) -> None:
        link = self.link
        if link is None or self._refusal is not None:
            return
        waiting = self._waiting
        while waiting and self._sent_bytes < self.window_bytes:
            batch = waiting.popleft()
            size = len(batch.packed)
            self._sent.append(batch)
            self._sent_bytes += size
            self.waiting_bytes -= size
            link.send(batch.packed, batch.count, self._answered)
            if self._backoff.tries:  # after a refusal one batch goes first, to see whether Redis takes it
                return

    def _answered(self, replies: list[Any]) -> None:
        batch = self._sent.popleft()
        self._sent_bytes -= len(batch.packed)
        for reply in replies:
            if isinstance(reply, ReplyError):
                self._refusal = self._refusal or reply
                self._refused.append(batch)
                break
        else:
            self._accepted.append(batch)
            self.accepted_commands += batch.count
            batch.since_s = self._accepted_s = self._loop.time()
            if self._refusal is None:
                self._backoff.reset()
                self.taken = True
        if self._refusal is None:
            self._send()
        elif not self._sent:
            self._wait_out_refusal()
        self.moved.set()
        if self.waiting_bytes < self.window_bytes:
            self.hungry.set()

    def _wait_out_refusal(self) -> None:
        """All that was on its way is answered, some of it refused: that part goes back to the front, in order."""
        refusal, refused = self._refusal, self._refused
        assert refusal is not None
        if not refusal.passes:
            if self.link is not None:
                self.link.close(refusal)
            return
        self.taken = False
        self.sent_again += sum(batch.count for batch in refused)
        self.waiting_bytes += sum(len(batch.packed) for batch in refused)
        self._waiting.extendleft(reversed(refused))
        self._refused = []
        delay_s = self._backoff.next()
        if self._backoff.tries == 1:
            log.warning("redis refuses what we send, keeping it: %s", refusal)
        self._loop.call_later(delay_s, self._after_refusal)

    def _after_refusal(self) -> None:
        self._refusal = None
        self._send()
