"""What is on its way to one client and has not arrived: held back by a stall, or late because the network is slow.

It never reorders: a frame is due when its own delay is over and the one before it is gone.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator

from common.clock import now_ns
from tests.sims.exchange import sent

Deliver = Callable[[bytes, bytearray | None, int], None]
_SHORTEST_WAIT_S = 0.001


class Transit:
    """A queue in front of one connection's socket.

    Args:
        deliver: Takes a frame that has arrived, with its place in the sent record; that is -1 where it is no data.
        arrived: Called behind the last frame that was due.
        later: Calls a function after so many seconds.
        seed: Of the jitter.
    """

    def __init__(
        self,
        deliver: Deliver,
        arrived: Callable[[], None],
        later: Callable[[float, Callable[[], None]], None],
        seed: int,
    ) -> None:
        self._deliver = deliver
        self._arrived = arrived
        self._later = later
        self._random = random.Random(seed)
        self._queue: deque[tuple[float, int, bytes, bytearray | None, int]] = deque()
        self._stalled_ns: int | None = None
        self._delay_s = self._jitter_s = 0.0
        self._last_due = 0.0
        self._waits = False

    @property
    def is_stalled(self) -> bool:
        return self._stalled_ns is not None

    @property
    def is_idle(self) -> bool:
        """Whether it holds nothing and would hold nothing."""
        return not (self._queue or self.is_stalled or self._delay_s or self._jitter_s)

    @property
    def lost_from_ns(self) -> int | None:
        """From when on nothing arrives if the connection ends now; None where all has arrived."""
        moments = [self._stalled_ns, self._queue[0][1] if self._queue else None]
        return min((moment for moment in moments if moment is not None), default=None)

    def delay(self, seconds: float, jitter_s: float) -> None:
        """From now on data arrives so much later, and up to `jitter_s` more."""
        self._delay_s, self._jitter_s = seconds, jitter_s

    def stall(self) -> None:
        """Holds back everything until `resume`."""
        if self._stalled_ns is None:
            self._stalled_ns = now_ns()

    def resume(self) -> None:
        """What is due by now arrives in one burst."""
        self._stalled_ns = None
        self._release()

    def drain(self) -> Iterator[tuple[bytes, bytearray | None, int]]:
        """All that it holds, as `take` got it; for a way that is not to be used any more."""
        while self._queue:
            yield self._queue.popleft()[2:]

    def take(self, frame: bytes, records: bytearray | None, at_bytes: int) -> None:
        """Takes a frame on its way."""
        due = time.monotonic()
        if at_bytes >= 0:
            due += self._delay_s + self._jitter_s * self._random.random()
        self._last_due = due = max(due, self._last_due)
        made_ns = sent.sent_ns(records, at_bytes) if records is not None else now_ns()
        self._queue.append((due, made_ns, frame, records, at_bytes))
        self._wait()

    def _wait(self) -> None:
        if self._queue and not self._waits and not self.is_stalled:
            self._waits = True
            self._later(max(_SHORTEST_WAIT_S, self._queue[0][0] - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._waits = False
        self._release()

    def _release(self) -> None:
        if self.is_stalled:
            return
        queue, now = self._queue, time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, frame, records, at_bytes = queue.popleft()
            self._deliver(frame, records, at_bytes)
        self._wait()
        self._arrived()
