"""From a process's hand into Redis, kept until Redis has it on disk (DESIGN section 4, "Kept until durable").

An accepted XADD is not yet on disk. So a batch stays in the flight (`common.flight`) until `WAITAOF` on a second
connection has covered it (`common.durability`), and what Redis does not take goes to disk and comes back in order
(`common.spiller`). What is held in memory is bounded in bytes; `append` says when it is full.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from common.backoff import Backoff
from common.clock import now_ns
from common.durability import BEATS as BEATS
from common.durability import Durability, same_server
from common.flight import Batch, Flight
from common.registry import Registry
from common.session import Cause
from common.spiller import Spiller
from common.spills import OWN_FROM, Spills
from common.streams import Stream
from common.wire import REPLY_TIMEOUT_S, Link, LinkLost, ReplyError, linked

log = logging.getLogger(__name__)

CONFIRM_PAUSE_S = 0.6
"""Redis syncs once a second, and a round ends with that. One that begins shortly before the next sync covers most: with
0.6 at most 1.4 s of what comes are held, with 0.25 1.8 s, without a pause 2 s."""
RENEW_S = 10.0
"""So often the names of our streams are looked for in Redis."""
WINDOW_BYTES = 4 << 20
"""So much is on its way to Redis at once, and as much waits behind it; never more than a quarter of the hold each."""

PATIENCE_S = 6.0
"""So long the end waits for a Redis that takes what it gets; what is left then stays on disk. The deadline is 8 s."""
STUCK_PATIENCE_S = 3.5
"""So long it waits for one that does not: we try every two seconds at the latest, and it may just have room again."""


class Producer:
    """Sends packed commands in order, in batches, and holds each until it is durable.

    Args:
        url: The Redis server.
        flush_s: So long at least lies between two batches: the first command after a pause goes at once, and none waits
            for longer.
        batch_bytes: A batch of this size is sent at once.
        hold_bytes: The bound on what is held in memory. What is read back from disk may add 4 MiB.
        beats: What to write under `BEATS`: everything that was appended until it is called is in Redis then.
        spill: The folder of the spills of all collectors; None keeps everything in memory.
        spill_bytes: The bound on what is on disk; 0 keeps everything in memory.
        instance: The name of our own spill, unique for ever.
    """

    def __init__(
        self,
        url: str,
        *,
        flush_s: float,
        batch_bytes: int,
        hold_bytes: int,
        beats: Callable[[], dict[str, str]],
        spill: Path | None = None,
        spill_bytes: int = 1 << 30,
        instance: str = "producer",
    ) -> None:
        self._url = url
        self._flush_s = flush_s
        self._batch_bytes = batch_bytes
        self._hold_bytes = hold_bytes
        self._bound_bytes = hold_bytes
        self._reopening_bytes = hold_bytes * 9 // 10
        self._beats = beats
        self._beaten: dict[str, str] = {}
        self._loop = asyncio.get_running_loop()
        self._registry = Registry()

        self._open: list[bytes] = []
        self._open_bytes = 0
        self._timer: asyncio.Handle | None = None
        self._sealed_s = -math.inf
        self._sealed = OWN_FROM
        self._flight = Flight(min(WINDOW_BYTES, hold_bytes // 4))
        self._durability = Durability()
        self._spiller = Spiller(
            Spills(spill, instance, spill_bytes) if spill is not None and spill_bytes else None,
            hold_bytes=hold_bytes,
            flight=self._flight,
            hold=self._hold,
            register=self.register,
        )

        self.held_bytes = 0
        """In memory, and not known to be durable."""
        self.full = False
        self.durable_commands = 0

    # The frame path.

    def append(self, packed: bytes, *, always: bool = False) -> bool:
        """Takes one packed command; False when the hold is full and the command was not taken.

        Once full it stays so until a tenth is free, so that what is dropped is one interval and not a comb. `always` is
        for the few small commands that say what was dropped.
        """
        size = len(packed)
        held_bytes = self.held_bytes + size
        if held_bytes > self._bound_bytes or self.full:
            self.full = held_bytes > self._bound_bytes
            self._bound_bytes = self._reopening_bytes if self.full else self._hold_bytes
            if self.full and not always:
                return False
        self.held_bytes = held_bytes
        self._open.append(packed)
        self._open_bytes += size
        if self._open_bytes >= self._batch_bytes:
            self._seal()
        elif self._timer is None:
            self._timer = self._sealing()
        return True

    def _sealing(self) -> asyncio.Handle:
        """A batch goes `flush_s` after the one before; where that is over, when the loop has read what came with it."""
        due_s = self._sealed_s + self._flush_s
        return self._loop.call_soon(self._seal) if self._loop.time() >= due_s else self._loop.call_at(due_s, self._seal)

    def has_room(self) -> bool:
        """Whether the hold, once it was full, takes frames again."""
        return self.held_bytes < self._reopening_bytes

    def _seal(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._open:
            return
        self._sealed += 1
        self._sealed_s = self._loop.time()
        batch = Batch(b"".join(self._open), len(self._open), self._sealed, self._sealed_s)
        self._open = []
        self._open_bytes = 0
        if self._spiller.queues:
            self._spiller.take(batch)
            return
        self._flight.push(batch)
        if self._flight.bytes > self._spiller.high_bytes:
            self._spiller.alarm()

    def _hold(self, change_bytes: int) -> None:
        self.held_bytes += change_bytes

    # What can be asked.

    @property
    def taken(self) -> bool:
        """Whether Redis took what was sent last."""
        return self._flight.taken

    @property
    def cause(self) -> Cause:
        """Why a full hold is full: frames came too fast, or Redis was away and its backlog is still in the way."""
        return "overflow" if self.taken and not self._spiller.catches_up else "redis"

    @property
    def durable(self) -> bool:
        """Whether the server can say that what it took is on disk (Redis 7.2 and later, with its log on)."""
        return self._durability.known

    @property
    def sent_again(self) -> int:
        """Commands that were sent more than once."""
        return self._flight.sent_again

    @property
    def accepted_commands(self) -> int:
        """Commands that Redis took."""
        return self._flight.accepted_commands

    @property
    def spilled_bytes(self) -> int:
        """On disk, spills of earlier collectors included."""
        return self._spiller.spilled_bytes

    @property
    def spilled_commands(self) -> int:
        """Commands that were written to disk."""
        return self._spiller.spilled_commands

    @property
    def replayed_commands(self) -> int:
        """Commands that were read back from disk."""
        return self._spiller.replayed_commands

    # The connections.

    def register(self, streams: Iterable[Stream]) -> None:
        """Streams that shall be known, with their group, before any command that comes after."""
        self._registry.add(streams, self._flight.link)

    async def run(self) -> None:
        """Keeps two connections to Redis open and everything moving; ends only by cancellation.

        Raises:
            ExceptionGroup: Redis answered with an error that waiting does not mend (`ReplyError`).
        """
        async with asyncio.TaskGroup() as both:
            both.create_task(self._spiller.run(), name="spill")
            both.create_task(self._keep_linked(), name="redis")

    async def _keep_linked(self) -> None:
        backoff = Backoff()
        while True:
            try:
                async with (
                    linked(self._url, name="maserver-ingest") as link,
                    linked(self._url, name="maserver-ingest-durable") as durable,
                ):
                    await same_server(link, durable)
                    await self._registry.register(link)
                    self._flight.attach(link)
                    if backoff.tries:
                        log.info(
                            "redis is back; %d bytes in hand and %d on disk are sent",
                            self.held_bytes,
                            self.spilled_bytes,
                        )
                        backoff.reset()
                    await self._confirm(link, durable)
            except LinkLost as error:
                if not backoff.tries:
                    log.warning("redis is away, keeping what comes: %s", error)
            except ReplyError as error:
                if not error.passes:
                    raise
                if not backoff.tries:
                    log.warning("redis does not take writes yet: %s", error)
            finally:
                self._flight.detach()
            await asyncio.sleep(backoff.next())

    async def _confirm(self, link: Link, durable: Link) -> None:
        """Lets go of what Redis has on disk, round by round, while both links live."""
        renew_s = self._loop.time() + RENEW_S
        while True:
            for side in (link, durable):
                if side.lost.done():
                    raise side.lost.result()
            heard = dict(self._spiller.heard)
            beats = None if self._spiller.queues else self._beats()
            self._seal()
            newest = self._flight.newest
            mark = await self._taken(link, durable)
            if mark is not None:
                await self._make_durable(mark, beats if mark == newest else None, heard, durable)
            if self._loop.time() > renew_s:
                await self._registry.renew(durable)
                renew_s = self._loop.time() + RENEW_S
            await asyncio.sleep(CONFIRM_PAUSE_S)

    async def _make_durable(
        self, mark: int, beats: dict[str, str] | None, heard: dict[str, int], durable: Link
    ) -> None:
        """Asks for what is accepted, up to `mark`, and tells until when each connection is in Redis.

        Where `beats` is None, batches queue, and what came since they do is not in Redis: that time stays as it was, or
        is 0 for a connection that is new since then.
        """
        now = now_ns()
        if beats is None:
            beats = {name: f"{self._beaten.get(name, '0').split()[0]} {now}" for name in self._beats()}
        else:
            self._beaten = beats
        signs = beats | {name: f"{heard_ns} {now}" for name, heard_ns in heard.items()}
        if not signs and not self._flight.has_accepted():
            return
        said = await self._durability.ask(durable, signs)
        if said.covered:
            for batch in self._flight.covered(mark):
                self.held_bytes -= len(batch.packed)
                self.durable_commands += batch.count
            self._spiller.durable(mark)
        if said.beaten:
            self._spiller.told(heard)

    async def _taken(self, link: Link, durable: Link) -> int | None:
        """Waits until Redis has accepted what is in flight now.

        Returns:
            The number of the last of it; None when Redis refuses for a while.

        Raises:
            LinkLost: It answers nothing at all.
        """
        mark = self._flight.newest
        deadline = self._loop.time() + REPLY_TIMEOUT_S
        while not self._flight.is_accepted(mark):
            if self._flight.refusing or link.lost.done() or durable.lost.done():
                return None
            if self._loop.time() > deadline:
                raise LinkLost(f"Redis did not answer for {REPLY_TIMEOUT_S:g} s")
            await self._move()
            mark = min(mark, self._flight.newest)  # the newest may have gone to disk
        return mark

    async def _move(self) -> None:
        """Returns when something moved, or soon."""
        self._flight.moved.clear()
        try:
            async with asyncio.timeout(1.0):
                await self._flight.moved.wait()
        except TimeoutError:
            return

    async def drained(self) -> None:
        """Returns when everything that was appended is durable: in Redis, or on disk while Redis does not take it.

        A Redis that takes what it gets has `PATIENCE_S` to take it all, another `STUCK_PATIENCE_S` to begin.
        """
        self._seal()
        began_s = self._loop.time()
        while self.held_bytes or self._spiller.spilled_bytes:
            patience_s = STUCK_PATIENCE_S if self._flight.pulse().is_stuck else PATIENCE_S
            if self._loop.time() - began_s > patience_s:
                self._spiller.save()
                if self._spiller.is_saved:
                    log.warning("%d bytes stay on disk for the next start to send", self._spiller.spilled_bytes)
                    return
            await self._move()
