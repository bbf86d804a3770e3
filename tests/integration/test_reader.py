"""Reading as a group: pending first, acknowledged when told, trimmed below what is needed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from common.reader import Entry, GroupReader, packed_id
from common.streams import GROUP, Stream
from common.wire import linked
from tests.redis_server import RedisServer
from tests.small_disk import filled, small_disk

STREAMS = [Stream("um", "depth20", f"S{number}USDT") for number in range(3)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


def fill(server: RedisServer, count: int) -> None:
    with server.client() as client:
        for stream in STREAMS:
            if not client.exists(stream.key):
                client.xgroup_create(stream.key, GROUP, "0", mkstream=True)
            for number in range(count):
                client.xadd(stream.key, {"n": number})


@asynccontextmanager
async def reading(server: RedisServer, consumer: str, count: int = 100) -> AsyncIterator[GroupReader]:
    async with linked(server.url, name="test") as link:
        yield GroupReader(link, consumer, count=count)


async def poll(reader: GroupReader) -> dict[Stream, list[Entry]]:
    return {stream: entries async for stream, entries in reader.read(STREAMS)}


async def claim(reader: GroupReader, stream: Stream) -> list[Entry]:
    return [entry async for entries in reader.pending(stream) for entry in entries]


def test_what_a_dead_reader_had_is_pending(server: RedisServer) -> None:
    """Entries delivered to a reader that is gone come first to who takes the stream over, and none is new twice."""

    async def main() -> None:
        async with reading(server, "first") as reader:
            assert len((await poll(reader))[STREAMS[0]]) == 5
        async with reading(server, "second", count=2) as reader:
            assert [fields[1] for _, fields in await claim(reader, STREAMS[0]) if fields] == [
                b"0",
                b"1",
                b"2",
                b"3",
                b"4",
            ]
            assert await poll(reader) == {}
            assert await reader.strays(STREAMS) == STREAMS[1:]

    fill(server, 5)
    asyncio.run(main())


def test_acknowledged_entries_come_no_more(server: RedisServer) -> None:
    """An acknowledgement rides on the next read; what was not acknowledged is pending."""

    async def main() -> None:
        async with reading(server, "first") as reader:
            entries = (await poll(reader))[STREAMS[0]]
            reader.acknowledge(STREAMS[0], b"".join(packed_id(one) for one, _ in entries[:3]), 3)
            await poll(reader)
            assert [one for one, _ in await claim(reader, STREAMS[0])] == [one for one, _ in entries[3:]]

    fill(server, 5)
    asyncio.run(main())


def test_trims_only_below_what_is_needed(server: RedisServer) -> None:
    """Trimming keeps every pending entry and every one not delivered, and the tail."""

    async def main() -> None:
        async with reading(server, "first", count=1000) as reader:
            entries = (await poll(reader))[STREAMS[0]]
            reader.acknowledge(STREAMS[0], b"".join(packed_id(one) for one, _ in entries[:900]), 900)
            await poll(reader)
            with server.client() as client:
                client.xadd(STREAMS[0].key, {"n": "undelivered"})
                await reader.trim(STREAMS, tail_s=0)
                kept = [one for one, _ in client.xrange(STREAMS[0].key)]
                assert {one for one, _ in entries[900:]} <= set(kept)
                assert len(kept) < 400
                assert client.xlen(STREAMS[1].key) == 1000
                await reader.trim(STREAMS, tail_s=3600)
                assert client.xlen(STREAMS[0].key) == len(kept)

    fill(server, 1000)
    asyncio.run(main())


def test_a_lost_group_is_made_again(server: RedisServer) -> None:
    """A stream whose group is missing is read from its beginning."""

    async def main() -> None:
        async with reading(server, "first") as reader:
            assert await poll(reader) == {}
            assert {stream: len(entries) for stream, entries in (await poll(reader)).items()} == {STREAMS[1]: 1}

    with server.client() as client:
        client.xadd(STREAMS[1].key, {"n": 1})
    asyncio.run(main())


def test_reads_without_taking_while_the_log_cannot_be_written(tmp_path: Path) -> None:
    """MISCONF: entries are read with XRANGE, once each; afterwards they are taken as usual."""

    async def main() -> None:
        async with reading(server, "first", count=3) as reader:
            seen = [one for entries in (await poll(reader)).values() for one, _ in entries]
            with filled(disk):
                until_log(server, b"err")
                for _ in range(3):
                    seen += [one for entries in (await poll(reader)).values() for one, _ in entries]
                assert reader.peeking
                assert len(seen) == 3 * 5
            until_log(server, b"ok")
            for _ in range(3):
                seen += [one for entries in (await poll(reader)).values() for one, _ in entries]
            assert not reader.peeking
            with server.client() as client:
                assert client.xpending(STREAMS[0].key, GROUP)["pending"] == 5

    with small_disk(tmp_path / "disk", 8) as disk, RedisServer(disk) as server:
        fill(server, 5)
        asyncio.run(main())


def until_log(server: RedisServer, status: bytes) -> None:
    """Writes until Redis notices what became of its disk."""
    with server.client() as client:
        deadline = time.monotonic() + 20
        while client.info("persistence")["aof_last_write_status"] != status.decode():
            assert time.monotonic() < deadline
            with contextlib.suppress(redis.ResponseError):
                client.set("filler", "x" * 1000)
            time.sleep(0.05)
