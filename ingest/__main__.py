"""`python -m ingest`: records the exchange's streams into Redis, around the clock."""

import asyncio

from common.clock import now_ns
from common.producer import Producer
from common.service import Service, run
from common.streams import unknown
from ingest.collector import Attempts, Collector
from ingest.metrics import IngestMetrics
from ingest.plan import plans, recorded

TICK_S = 1.0
SILENT_AFTER_S = 30.0
"""Without any frame for so long the collector is ill, where a channel with a beat is recorded."""

QUIET_AFTER_S = 600.0


async def ingest(service: Service) -> None:
    """Collects until the service stops; then closes the sessions and waits until all of it is durable."""
    settings = service.settings
    collectors: list[Collector] = []

    def beats() -> dict[str, str]:
        alive = (collector.beat() for collector in collectors)
        return {connection: f"{heard_ns} {now_ns()}" for connection, heard_ns in filter(None, alive)}

    producer = Producer(
        settings.redis_url,
        flush_s=settings.ingest.flush_ms / 1000,
        batch_bytes=settings.ingest.batch_bytes,
        hold_bytes=settings.ingest.hold_bytes,
        beats=beats,
        spill=settings.state_dir / "spill",
        spill_bytes=settings.ingest.spill_bytes,
        instance=service.instance,
    )
    producer.register([*recorded(settings), *map(unknown, settings.markets)])
    attempts = Attempts()
    collectors += [Collector(plan, settings.ingest, producer, attempts) for plan in plans(settings)]
    service.registry.register(IngestMetrics(collectors, producer))

    async with asyncio.TaskGroup() as house:
        sending = house.create_task(producer.run(), name="to redis")
        watching = house.create_task(_watch(service, collectors, producer), name="health")
        async with asyncio.TaskGroup() as collecting:
            for collector in collectors:
                collecting.create_task(collector.run(service.stopping), name=collector.name)
        await producer.drained()
        watching.cancel()
        sending.cancel()


async def _watch(service: Service, collectors: list[Collector], producer: Producer) -> None:
    """Health by the age of data: when frames last came, and when Redis last took some."""
    steady = {"depth20", "aggTrade", "markPrice", "bookTicker"} & set(service.settings.channels)
    service.health.expect("frames", SILENT_AFTER_S if steady else QUIET_AFTER_S)
    service.health.expect("redis", SILENT_AFTER_S)
    before = 0
    while True:
        await asyncio.sleep(TICK_S)
        received = sum(collector.received for collector in collectors)
        if received != before:
            service.health.beat("frames")
            before = received
        if producer.taken or not producer.held_bytes:
            service.health.beat("redis")


if __name__ == "__main__":
    run(
        "ingest",
        ingest,
        description="Records the exchange's WebSocket streams into Redis Streams: verbatim, stamped first, kept until "
        "Redis has them on disk.",
        drain_s=lambda settings: settings.ingest.drain_s,
        metrics_port=lambda settings: settings.ingest.metrics_port,
    )
