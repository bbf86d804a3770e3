"""`python -m archiver`: files that last, from Redis Streams. `status` and `verify` tell a person what is there."""

import sys

from archiver import commands
from archiver.metrics import ArchiverMetrics
from archiver.recorder import Recorder
from common.service import Service, run


async def archive(service: Service) -> None:
    """Records until the service stops."""
    recorder = Recorder(service)
    service.registry.register(ArchiverMetrics(recorder.counts))
    service.health.expect("redis", 60.0)
    service.health.expect("minutes", 180.0)  # written, or none is due
    await recorder.run()


if __name__ == "__main__":
    if commands.asked(sys.argv[1:]):
        sys.exit(commands.main(sys.argv[1:]))
    run(
        "archiver",
        archive,
        description="Writes what is in Redis Streams into minute files, day bundles and Parquet; lets go of it when "
        "it is durable. Commands that end: `status` (what is recorded), `verify` (what does not hold).",
        drain_s=lambda settings: settings.archiver.drain_s,
        metrics_port=lambda settings: settings.archiver.metrics_port,
    )
