"""A producer that runs beside a test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from common.producer import Producer
from common.streams import Stream
from tests.redis_server import RedisServer

STREAM = Stream("um", "depth20", "BTCUSDT")


@asynccontextmanager
async def running(producer: Producer) -> AsyncIterator[Producer]:
    """Runs it, with `STREAM` known."""
    producer.register([STREAM])
    task = asyncio.create_task(producer.run())
    try:
        yield producer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    """Waits for what happens in another process."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def numbers(server: RedisServer) -> list[int]:
    """The field `n` of each entry of `STREAM`, in order."""
    with server.client() as client:
        return [int(fields[b"n"]) for _, fields in client.xrange(STREAM.key)]
