"""What a producer took is in Redis, whatever happens to Redis in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common import producer as producer_module
from common.producer import BEATS, Producer
from common.streams import GROUP, STREAMS_SET
from common.wire import pack
from tests.producing import STREAM, numbers, running, until
from tests.redis_server import RedisServer


def command(number: int, size: int = 10) -> bytes:
    return pack("XADD", STREAM.key, "*", "n", number, "d", b"x" * size)


@asynccontextmanager
async def producing(server: RedisServer, hold_bytes: int = 1 << 24) -> AsyncIterator[Producer]:
    producer = Producer(server.url, flush_s=0.002, batch_bytes=4096, hold_bytes=hold_bytes, beats=lambda: {"c": "1 2"})
    async with running(producer):
        yield producer


def test_registers_before_the_first_frame(tmp_path: Path) -> None:
    """The stream, its group and its name exist before any command comes, and beats are written."""

    async def main(server: RedisServer) -> None:
        async with producing(server) as producer:
            await until(lambda: producer.taken or bool(numbers(server)) or _has_group(server))
            assert producer.append(command(1))
            await producer.drained()

    with RedisServer(tmp_path) as server:
        asyncio.run(main(server))
        with server.client() as client:
            assert client.smembers(STREAMS_SET) == {STREAM.key.encode()}
            assert [group["name"] for group in client.xinfo_groups(STREAM.key)] == [GROUP.encode()]
            assert client.hget(BEATS, "c") == b"1 2"


@pytest.mark.parametrize("flush_s", [60.0, 0.05])
def test_the_first_after_a_pause_goes_at_once(flush_s: float) -> None:
    """A command that comes alone does not wait for others; what comes soon after it waits, and goes together."""

    async def main() -> None:
        producer = Producer("redis://127.0.0.1:1", flush_s=flush_s, batch_bytes=4096, hold_bytes=1 << 24, beats=dict)
        assert producer.append(command(1))
        assert producer.append(command(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [batch.count for batch in producer._flight] == [2]
        assert producer.append(command(3))
        assert producer.append(command(4))
        if flush_s > 1:
            await asyncio.sleep(0.1)
            assert [batch.count for batch in producer._flight] == [2]
        else:
            await until(lambda: [batch.count for batch in producer._flight] == [2, 2])

    asyncio.run(main())


def test_names_that_somebody_deleted_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLUSHALL breaks no connection: the stream is named again, with its group, and what comes is in it."""
    monkeypatch.setattr(producer_module, "RENEW_S", 0.2)

    async def main(server: RedisServer) -> None:
        async with producing(server) as producer:
            assert producer.append(command(1))
            await producer.drained()
            with server.client() as client:
                client.flushall()
                assert producer.append(command(2))
                await until(lambda: client.smembers(STREAMS_SET) == {STREAM.key.encode()})
                await producer.drained()
                assert [group["name"] for group in client.xinfo_groups(STREAM.key)] == [GROUP.encode()]

    with RedisServer(tmp_path) as server:
        asyncio.run(main(server))
        assert numbers(server) == [2]


def _has_group(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.exists(STREAM.key))


def test_nothing_is_lost_when_redis_is_killed(tmp_path: Path) -> None:
    """SIGKILL of Redis, several times while frames flow: each is there afterwards, in order of its first coming."""

    async def main(server: RedisServer) -> None:
        async with producing(server) as producer:
            for number in range(3000):
                assert producer.append(command(number, 200))
                if number % 700 == 650:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                if number % 10 == 0:
                    await asyncio.sleep(0.001)
            await producer.drained()
            assert producer.durable_commands >= 3000
            assert producer.held_bytes == 0

    with RedisServer(tmp_path) as server:
        asyncio.run(main(server))
        server.kill()
        server.start()
        assert sorted(set(numbers(server))) == list(range(3000))


def test_keeps_what_a_full_redis_refuses(tmp_path: Path) -> None:
    """At maxmemory frames wait in hand, in order, and go on by themselves when there is room."""

    async def main(server: RedisServer) -> None:
        async with producing(server) as producer:
            for number in range(5000):
                assert producer.append(command(number, 2000))
                await asyncio.sleep(0)
            await until(lambda: not producer.taken)
            with server.client() as client:
                client.config_set("maxmemory", "200mb")
            await producer.drained()

    with RedisServer(tmp_path, "--maxmemory", "6mb") as server:
        asyncio.run(main(server))
        found = numbers(server)
        assert sorted(set(found)) == list(range(5000))


def test_says_when_it_is_full(tmp_path: Path) -> None:
    """The hold is bounded: what does not fit is refused, at once, and taken again when a tenth is free."""

    async def main(server: RedisServer) -> None:
        async with producing(server, hold_bytes=100_000) as producer:
            server.stop()
            taken = [producer.append(command(number, 1000)) for number in range(200)]
            assert taken.index(False) == sum(taken)
            assert producer.held_bytes <= 100_000
            assert producer.append(command(999), always=True)
            server.start()
            await producer.drained()
            assert producer.append(command(1000))
            await producer.drained()

    with RedisServer(tmp_path) as server:
        asyncio.run(main(server))
        assert {0, 999, 1000} <= set(numbers(server))


def test_a_paused_redis_loses_nothing(tmp_path: Path) -> None:
    """SIGSTOP of Redis: what comes waits, and is there when it goes on."""

    async def main(server: RedisServer) -> None:
        async with producing(server) as producer:
            await until(lambda: _has_group(server))
            with server.paused():
                for number in range(1000):
                    assert producer.append(command(number, 1000))
                await asyncio.sleep(1.0)
            await producer.drained()

    with RedisServer(tmp_path) as server:
        asyncio.run(main(server))
        assert sorted(set(numbers(server))) == list(range(1000))


def test_a_server_without_its_log_is_used_and_named(tmp_path: Path) -> None:
    """Where nothing can say what is on disk, what Redis accepted is let go, and the producer says so."""

    async def main(server: RedisServer) -> None:
        async with producing(server) as producer:
            assert producer.append(command(1))
            await producer.drained()
            assert not producer.durable

    with RedisServer(tmp_path, "--appendonly", "no") as server:
        asyncio.run(main(server))
        assert numbers(server) == [1]
