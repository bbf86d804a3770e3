"""`python -m ingest`: records the exchange's streams into Redis, around the clock."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from common import heap
from common.channels import CHANNELS
from common.clock import asleep_s, now_ns
from common.gate import pack_sample
from common.producer import Producer
from common.service import Service, run
from ingest.directory import Directory
from ingest.fleet import Fleet
from ingest.gatekeeper import Gatekeeper
from ingest.jumps import Clocks, jump
from ingest.metrics import IngestMetrics
from ingest.roster import Changes

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 1.0
SILENT_AFTER_S = 30.0
"""Without any frame for so long the collector is ill, where a channel with a beat is recorded."""

QUIET_AFTER_S = 600.0
"""Without any sign of the exchange, where no such channel is; it pings every three minutes."""


class Starved(Exception):
    """Nothing came for so long that a new process, with a new start of everything, is the last thing to try."""


async def ingest(service: Service) -> None:
    """Collects until the service stops; then closes the sessions and waits until all of it is durable."""
    settings = service.settings
    directory = Directory(settings)
    symbols = await _unless_stopped(directory.resolve(), service.stopping)
    if symbols is None:
        return
    fleet: Fleet | None = None
    producer = Producer(
        settings.redis_url,
        flush_s=settings.ingest.flush_ms / 1000,
        batch_bytes=settings.ingest.batch_bytes,
        hold_bytes=settings.ingest.hold_bytes,
        beats=lambda: fleet.beats() if fleet is not None else {},
        spill=settings.state_dir / "spill",
        spill_bytes=settings.ingest.spill_bytes,
        instance=service.instance,
    )
    starved = False
    async with asyncio.TaskGroup() as house:
        gatekeeper = Gatekeeper(settings.redis_url, settings.markets, silent_after_s=settings.gate.silent_after_s)
        obeying = house.create_task(gatekeeper.run(), name="gatekeeper")
        await gatekeeper.first_read.wait()
        async with asyncio.TaskGroup() as collecting:
            fleet = Fleet(settings, producer, collecting, service.stopping)
            fleet.obey(gatekeeper.shut())
            gatekeeper.on_change = partial(_obey, fleet, gatekeeper)
            fleet.start(symbols)
            following = house.create_task(directory.follow(partial(_follow, fleet)), name="symbols")
            service.registry.register(IngestMetrics(fleet, producer, directory))
            collecting.create_task(service.stopping.wait(), name="stop")  # also where there is nothing to record yet
            sending = house.create_task(producer.run(), name="to redis")
            watching = house.create_task(_watch(service, fleet, producer), name="watch")
        starved = watching.done() and not watching.cancelled()
        await producer.drained()
        for task in (watching, following, sending, obeying):
            task.cancel()
    if starved:
        raise Starved(f"nothing came from the exchange for {settings.ingest.exit_after_s:.0f} s")


async def _unless_stopped(work: Coroutine[Any, Any, T], stopping: asyncio.Event) -> T | None:
    """What the work gives; None where the service is stopped first."""
    working, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait([working, stop], return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stop):
        task.cancel()
    return working.result() if working.done() and not working.cancelled() else None


def _follow(fleet: Fleet, changes: Changes) -> None:
    fleet.join(changes.market, changes.joined)
    fleet.leave(changes.market, changes.left)


def _obey(fleet: Fleet, gatekeeper: Gatekeeper) -> None:
    fleet.obey(gatekeeper.shut())


async def _watch(service: Service, fleet: Fleet, producer: Producer) -> None:
    """Looks after the whole each second: health by the age of data, jumps of the clocks, the gate's samples; returns
    where nothing came for so long that the service must end. Liquidations may not come for hours: where nothing but
    such is recorded, the exchange's pings are what shows that it would be heard."""
    settings = service.settings
    steady = {"depth20", "aggTrade", "markPrice", "bookTicker"} & set(settings.channels)
    is_sparse = all(CHANNELS[name].is_sparse for name in settings.channels)
    service.health.expect("frames", SILENT_AFTER_S if steady else QUIET_AFTER_S)
    service.health.expect("redis", SILENT_AFTER_S)
    before, alive_ns, moved_s = 0, 0, time.monotonic()
    clocks = Clocks(now_ns(), time.monotonic(), asleep_s())
    while True:
        await asyncio.sleep(TICK_S)
        now = Clocks(now_ns(), time.monotonic(), asleep_s())
        jumped = jump(clocks, now)
        clocks = now
        if jumped is not None:
            fleet.jumped(jumped)
        for market in settings.markets if producer.taken else ():
            if latencies_ms := fleet.latencies_ms(market):
                producer.append(pack_sample(market, service.instance, now.wall_ns, latencies_ms), always=True)
        received = fleet.received
        if received != before or fleet.is_paused:
            service.health.beat("frames")
            before, moved_s = received, now.monotonic_s
        elif is_sparse and fleet.alive_ns != alive_ns:
            service.health.beat("frames")
            alive_ns = fleet.alive_ns
        if producer.taken or not producer.held_bytes:
            service.health.beat("redis")
        if now.monotonic_s - moved_s > settings.ingest.exit_after_s and fleet.is_due:
            log.critical(
                "nothing came for %.0f s, although connections were replaced: ending", now.monotonic_s - moved_s
            )
            service.stopping.set()
            return


if __name__ == "__main__":
    heap.share()  # the spill's thread reads back what the loop has let go of
    run(
        "ingest",
        ingest,
        description="Records the exchange's WebSocket streams into Redis Streams: verbatim, stamped first, kept until "
        "Redis has them on disk.",
        drain_s=lambda settings: settings.ingest.drain_s,
        metrics_port=lambda settings: settings.ingest.metrics_port,
    )
