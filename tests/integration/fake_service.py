"""A service that does what its first argument names: `python -m tests.integration.fake_service drain`."""

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path

from common import service
from common.config import ConfigError
from common.service import Service

log = logging.getLogger("fake")


async def drain(service: Service) -> None:
    """Waits for the signal and returns."""
    log.info("ready")
    await service.stopping.wait()


async def slow_drain(service: Service) -> None:
    """Drains until it is told twice, so that a test can send the second signal in between."""
    log.info("ready")
    await service.stopping.wait()
    log.info("draining slowly")
    await asyncio.sleep(0.7)
    log.info("drained")


async def crash(service: Service) -> None:
    service.closing(lambda: log.info("closed first registered"))
    service.closing(lambda: log.info("closed last registered"))
    raise RuntimeError("the reason")


async def misconfigured(service: Service) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_refuse())


async def _refuse() -> None:
    raise ConfigError("symbols: NOSUCH is no symbol of um")


async def never(service: Service) -> None:
    log.info("ready")
    await asyncio.Event().wait()


async def stuck(service: Service) -> None:
    """Blocks the loop once it is told to stop."""
    log.info("ready")
    await service.stopping.wait()
    time.sleep(60)  # noqa: ASYNC251 - the fault


async def blocked(service: Service) -> None:
    """Blocks the loop from the start."""
    service.health.expect("frames", 0.2)
    log.info("ready")
    await asyncio.sleep(0)
    time.sleep(60)  # noqa: ASYNC251 - the fault


async def workers(service: Service) -> None:
    """Two workers that log and then sleep; drains without waiting for them."""
    pool = service.processes(2, initializer=_greet)
    loop = asyncio.get_running_loop()
    folder = service.settings.state_dir
    pids = await asyncio.gather(*(loop.run_in_executor(pool, _work, folder, number) for number in range(2)))
    log.info("ready", extra={"pids": pids})
    asleep = [loop.run_in_executor(pool, time.sleep, 60) for _ in pids]
    await service.stopping.wait()
    log.info("leaving %d asleep", len(asleep))


def _greet() -> None:
    log.info("worker starts")


def _work(folder: Path, number: int) -> int:
    os.kill(os.getpid(), signal.SIGTERM)  # as systemd does to each process of the unit
    log.warning("worker %d works", number, extra={"number": number})
    (folder / f"worker {number}").touch()
    deadline = time.monotonic() + 30
    while len(list(folder.glob("worker *"))) < 2:  # so that the other worker gets the other one
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return os.getpid()


if __name__ == "__main__":
    service.run(
        "ingest",
        globals()[sys.argv[1]],
        description="A service for the tests.",
        argv=sys.argv[2:],
        drain_s=lambda settings: settings.ingest.drain_s,
        metrics_port=lambda settings: settings.ingest.metrics_port,
    )
