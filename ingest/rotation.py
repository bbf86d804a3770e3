"""From one connection to the next without a gap: the next one delivers before the old one goes (DESIGN section 4).

The old one stays until the next is proven, and until it has delivered what was sent before the next began. What both
deliver is united in the archive.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from common.backoff import Backoff
from common.session import Cause
from ingest.connection import ConnectFailed
from ingest.subscriber import Subscriber

log = logging.getLogger(__name__)

PROVEN_WITHIN_S = 30.0
CATCH_UP_S = 60.0
"""How long a connection that lags, or is stalled, may take to deliver what it owes."""

FIRST_AGAIN_S = 5.0
MOST_AGAIN_S = 600.0


class Rotation:
    """The replacement of a seat's connection, one at a time.

    Args:
        name: Of the seat, for logs.
        subscribe: Opens the next connection.
        admit: Subscribes what is to be subscribed on it, at the moment from which it is told of every change.
        end: Ends one that is not needed after all.
    """

    def __init__(
        self,
        name: str,
        subscribe: Callable[[], Coroutine[Any, Any, Subscriber]],
        admit: Callable[[Subscriber], None],
        end: Callable[[Subscriber, Cause, str, int | None], None],
    ) -> None:
        self._name = name
        self._subscribe = subscribe
        self._admit = admit
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._opening: asyncio.Task[Subscriber] | None = None
        self._since_s = 0.0
        self._again = Backoff(FIRST_AGAIN_S, MOST_AGAIN_S)
        self._not_before_s = 0.0
        self._why = ""
        self._planned = False
        self.next: Subscriber | None = None
        self.rotations = 0
        self.failures = 0

    @property
    def is_running(self) -> bool:
        return self._opening is not None or self.next is not None

    def begin(self, why: str, *, planned: bool) -> None:
        """Opens the next connection, unless that was tried a short while ago.

        Args:
            why: In words.
            planned: Whether it is for a reason that goes with the old connection; others may come back with the next
                one, and are given more time each time.
        """
        now_s = self._loop.time()
        if self.is_running or now_s < self._not_before_s:
            return
        log.info("%s: the next connection is opened: %s", self._name, why)
        self._why, self._planned = why, planned
        self._not_before_s = now_s + self._again.next()
        self._opening = asyncio.create_task(self._subscribe(), name=f"{self._name} next")

    def step(self, current: Subscriber, now_s: float) -> Subscriber | None:
        """Goes on with a replacement; gives the next connection when it has taken over, and is then done with it."""
        if self._opening is not None and self._opening.done():
            self._opened(now_s)
        nxt = self.next
        if nxt is None:
            return None
        if nxt.closed.done():
            self.give_up(f"it was lost: {nxt.closed.result()}")
            return None
        if not self._planned and nxt.fell_silent(now_s) and current.fell_silent(now_s):
            return self.take()  # it is dead too, and a third one has to come: what the old one owes will hardly do so
        unproven = nxt.unproven(PROVEN_WITHIN_S)
        waited_s = now_s - self._since_s
        if unproven and waited_s > 1.0:
            nxt.ask_what_is_subscribed()
        if unproven and waited_s < PROVEN_WITHIN_S:
            return None
        still = [stream.key for stream in unproven if current.delivered_since(stream, self._since_s)]
        if still:
            self.give_up(f"in {waited_s:.0f} s it did not deliver what the old one delivers: {', '.join(still[:5])}")
            return None
        are_silent = not nxt.lanes.counter and current.doubted()  # both: whichever will speak again, it may be the old
        if (are_silent or current.lacks_before(nxt)) and waited_s < CATCH_UP_S:
            return None
        return self.take()

    def _opened(self, now_s: float) -> None:
        opening, self._opening = self._opening, None
        assert opening is not None
        try:
            self.next = opening.result()
            self._admit(self.next)
        except ConnectFailed as error:
            self.failures += 1
            log.warning("%s: the next connection could not be opened: %s", self._name, error)
        self._since_s = now_s

    def take(self) -> Subscriber | None:
        """The next connection, if there is one: it is the current one from now on."""
        nxt, self.next = self.next, None
        if nxt is not None:
            self.rotations += 1
            if self._planned:
                self.prosper()
            log.info("%s: the next connection has taken over (%s)", self._name, self._why)
        return nxt

    def take_opening(self) -> "asyncio.Task[Subscriber] | None":
        """The connection that is being opened, for who has none left."""
        opening, self._opening = self._opening, None
        return opening

    def prosper(self) -> None:
        """All is well: the next replacement need not wait."""
        self._again.reset()
        self._not_before_s = 0.0

    def give_up(self, why: str) -> None:
        """Closes the next connection; the current one stays."""
        if self.next is not None:
            log.warning("%s: the next connection is given up: %s", self._name, why)
            self.failures += 1
            self._end(self.next, "rotation", why, None)
            self.next = None

    async def stop(self, cause: Cause, reason: str, not_after_ns: int | None = None) -> None:
        """Ends what is under way; no session of it covers anything after `not_after_ns`."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled() and opening.exception() is None:
                self._end(opening.result(), cause, reason, not_after_ns)
        nxt, self.next = self.next, None
        if nxt is not None:
            self._end(nxt, cause, reason, not_after_ns)
