"""Reading from the durable position: nothing pends, the position follows what is durable, and trimming follows it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from common.position import Place
from common.reader import Entry, Reader
from common.streams import GROUP, Stream
from common.wire import LinkLost, linked
from tests.redis_server import RedisServer
from tests.small_disk import filled, small_disk

STREAMS = [Stream("um", "depth20", f"S{number}USDT") for number in range(3)]
ONE = STREAMS[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


def fill(server: RedisServer, count: int, begin: int = 1) -> None:
    """Adds entries `<number>000-0`: one a second of Redis's time."""
    with server.client() as client:
        for stream in STREAMS:
            if not client.exists(stream.key):
                client.xgroup_create(stream.key, GROUP, "0", mkstream=True)
            for number in range(begin, begin + count):
                client.xadd(stream.key, {"n": number}, id=f"{number}000-0")


@asynccontextmanager
async def reading(server: RedisServer, count: int = 100, tail_s: float = 0) -> AsyncIterator[Reader]:
    async with linked(server.url, name="test") as link:
        reader = Reader(link, count=count, tail_s=tail_s)
        await reader.start(STREAMS)
        yield reader


async def poll(reader: Reader) -> dict[Stream, list[Entry]]:
    return {stream: entries async for stream, entries in reader.read(STREAMS)}


async def numbers(reader: Reader, stream: Stream = ONE) -> list[int]:
    """What one poll gives of a stream."""
    return [int(fields[1]) for _, fields in (await poll(reader)).get(stream, [])]


def place(number: int, since: int = 0) -> Place:
    """The place of the entry that `fill` made, for a reader that began after entry `since`."""
    return Place(b"%d000-0" % number, number - since)


def group(server: RedisServer, stream: Stream = ONE) -> dict[str, Any]:
    with server.client() as client:
        (found,) = client.xinfo_groups(stream.key)
    return dict(found)


def kept(server: RedisServer, stream: Stream = ONE) -> list[int]:
    with server.client() as client:
        return [int(fields[b"n"]) for _, fields in client.xrange(stream.key)]


def test_reading_leaves_nothing_behind(server: RedisServer) -> None:
    """Each entry is read once, in parts of `count`, and Redis notes nothing of it: no pending entry, no consumer."""

    async def main() -> None:
        async with reading(server, count=3) as reader:
            assert await numbers(reader) == [1, 2, 3]
            assert await numbers(reader) == [4, 5]
            assert await poll(reader) == {}
            fill(server, 1, begin=6)
            assert await numbers(reader) == [6]

    fill(server, 5)
    asyncio.run(main())
    assert (group(server)["pending"], group(server)["consumers"], group(server)["lag"]) == (0, 0, 6)


def test_a_successor_reads_from_the_durable_position(server: RedisServer) -> None:
    """What was read and is not durable comes again to who takes the stream over, and what is durable does not."""

    async def main() -> None:
        async with reading(server) as reader:
            await poll(reader)
            reader.positions.move(ONE, place(2))
            await poll(reader)
        async with reading(server) as reader:
            assert await numbers(reader) == [3, 4, 5]
            reader.positions.move(ONE, place(4, since=2))
            await reader.positions.flush()
        async with reading(server) as reader:
            assert await numbers(reader) == [5]

    fill(server, 5)
    asyncio.run(main())


def test_lag_is_what_is_not_durable(server: RedisServer) -> None:
    """Redis's own `lag` counts the entries after the position, over trims, a successor and a crash of Redis."""

    async def main() -> None:
        async with reading(server) as reader:
            await poll(reader)
            reader.positions.move(ONE, place(7))
            await reader.positions.flush()
            assert group(server)["lag"] == 3
        server.kill()
        server.start()
        async with reading(server, count=2) as reader:
            assert await numbers(reader) == [8, 9]
            reader.positions.move(ONE, place(9, since=7))
            await reader.positions.flush()
            assert (group(server)["lag"], group(server)["entries-read"]) == (1, 9)

    fill(server, 10)
    asyncio.run(main())


def test_lag_is_right_where_redis_did_not_know_it(server: RedisServer) -> None:
    """A group that somebody set without a count is counted again by the first poll that reaches the stream's end."""

    async def main() -> None:
        async with reading(server) as reader:
            await poll(reader)
            reader.positions.move(ONE, place(8, since=5))
            await reader.positions.flush()

    fill(server, 10)
    with server.client() as client:
        client.xgroup_setid(ONE.key, GROUP, "5000-0")
    assert group(server)["lag"] is None
    asyncio.run(main())
    assert group(server)["lag"] == 2


def test_trims_up_to_the_position_less_the_tail(server: RedisServer) -> None:
    """What is durable goes, but for the tail; what is not durable stays, read or not; without room the tail goes."""

    async def main() -> None:
        async with reading(server, count=250, tail_s=90) as reader:
            await poll(reader)
            reader.positions.move(ONE, place(200))
            await poll(reader)
            left = kept(server)
            assert left[-191:] == list(range(110, 301))
            assert len(left) < 300
            assert len(kept(server, STREAMS[1])) == 300
            await reader.positions.trim(STREAMS)
            assert kept(server) == list(range(200, 301))
            assert len(kept(server, STREAMS[1])) == 300
            reader.positions.keeps_tail = False
            reader.positions.move(ONE, place(250))
            await poll(reader)
            assert kept(server) == list(range(250, 301))

    fill(server, 300)
    asyncio.run(main())


def test_a_stopped_owner_that_comes_back_does_no_harm(server: RedisServer) -> None:
    """It may move the position back, into what is trimmed, or forward: whoever reads on misses nothing undurable."""

    async def main() -> None:
        async with reading(server) as stopped:
            await poll(stopped)
            async with reading(server) as owner:
                await poll(owner)
                owner.positions.move(ONE, place(6))
                await owner.positions.flush()
                assert kept(server) == [6, 7, 8, 9, 10]
                stopped.positions.move(ONE, place(3))
                await stopped.positions.flush()
                assert (group(server)["last-delivered-id"], group(server)["lag"]) == (b"3000-0", 5)
                assert kept(server) == [6, 7, 8, 9, 10]
                fill(server, 2, begin=11)
                assert await numbers(owner) == [11, 12]
                assert await numbers(stopped) == [11, 12]
                stopped.positions.move(ONE, place(11))
                await stopped.positions.flush()
                owner.positions.move(ONE, place(8))
                await owner.positions.flush()
                assert group(server)["last-delivered-id"] == b"8000-0"
            stopped.positions.move(ONE, place(9))
            stopped.stop([ONE])
            await stopped.positions.flush()
        async with reading(server) as successor:
            assert await numbers(successor) == [11, 12]

    fill(server, 10)
    asyncio.run(main())


def test_reads_and_moves_when_redis_is_full(server: RedisServer) -> None:
    """At maxmemory, where XADD is refused, everything is read, the position moves and trimming makes room."""

    async def main() -> None:
        async with reading(server) as reader:
            assert len(await numbers(reader)) == 5
            reader.positions.move(ONE, place(5))
            await reader.positions.flush()

    fill(server, 5)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError):
            client.xadd(ONE.key, {"n": 6})
        asyncio.run(main())
        assert client.xlen(ONE.key) == 1
    assert group(server)["lag"] == 0


def test_reads_on_while_the_log_cannot_be_written(tmp_path: Path) -> None:
    """MISCONF: entries are read, once each; the position waits, and moves by itself when Redis writes again."""

    async def main() -> None:
        async with reading(server, count=3) as reader:
            assert await reader.positions.takes_writes()
            seen = await numbers(reader)
            with filled(disk):
                until_log(server, b"err")
                assert not await reader.positions.takes_writes()
                for _ in range(3):
                    reader.positions.move(ONE, place(2))
                    seen += await numbers(reader)
                assert seen == [1, 2, 3, 4, 5]
                assert group(server)["last-delivered-id"] == b"0-0"
            until_log(server, b"ok")
            assert await reader.positions.takes_writes()
            assert await poll(reader) == {}
            assert (group(server)["last-delivered-id"], group(server)["lag"]) == (b"2000-0", 3)

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


@pytest.mark.parametrize("command", [("XTRIM", ONE.key, "MAXLEN", "=", "4"), ("XDEL", ONE.key, "5000-0", "8000-0")])
def test_what_somebody_deletes_before_it_is_read_is_an_error_in_the_log(
    server: RedisServer, caplog: pytest.LogCaptureFixture, command: tuple[str, ...]
) -> None:
    """Entries that were added and are gone before they were read are counted and told; our own trims are not."""

    async def main() -> None:
        async with reading(server, count=3) as reader:
            await poll(reader)
            reader.positions.move(ONE, place(3))
            await poll(reader)
        async with reading(server, count=3) as reader:
            with server.client() as client:
                client.execute_command(*command)
            for _ in range(4):
                await poll(reader)
            told = [record.message for record in caplog.records if record.levelname == "ERROR"]
            assert told == [f"2 entries of {ONE.key} were deleted before they were archived"]
            reader.recount()
            await poll(reader)
            reader.positions.move(ONE, Place(b"9000-0", 4))
            await reader.positions.flush()
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
        assert group(server)["lag"] == 0

    fill(server, 9)
    asyncio.run(main())


def test_a_key_that_is_no_stream_is_left_out(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is named in the log once, and the others are read."""

    async def main() -> None:
        async with reading(server) as reader:
            assert list(await poll(reader)) == STREAMS[1:]
            assert await poll(reader) == {}
            await reader.positions.trim(STREAMS)

    fill(server, 1)
    with server.client() as client:
        client.delete(ONE.key)
        client.set(ONE.key, "a text")
    asyncio.run(main())
    assert [record.levelname for record in caplog.records if ONE.key in record.message] == ["ERROR"]


def test_a_lost_group_is_made_again(server: RedisServer) -> None:
    """A stream whose group is missing is read from its beginning; a group that goes later is made when it is moved."""

    async def main() -> None:
        async with reading(server) as reader:
            assert await numbers(reader) == [1]
            with server.client() as client:
                client.xgroup_destroy(ONE.key, GROUP)
                client.delete(STREAMS[1].key)
            reader.positions.move(ONE, place(1))
            reader.positions.move(STREAMS[1], place(1))
            await poll(reader)
            await poll(reader)
            for stream in STREAMS[:2]:
                assert group(server, stream)["last-delivered-id"] == b"1000-0"

    fill(server, 1)
    with server.client() as client:
        client.xgroup_destroy(ONE.key, GROUP)
    asyncio.run(main())


def test_a_stream_made_anew_is_read_from_its_beginning(server: RedisServer) -> None:
    """A stream that ends before our place in it is another one: reading starts over, though its position says later."""

    async def main() -> None:
        async with reading(server) as reader:
            await poll(reader)
            reader.positions.move(ONE, place(9))
            await reader.positions.flush()
            with server.client() as client:
                client.delete(ONE.key)
                client.xadd(ONE.key, {"n": 1}, id="1000-0")
                client.xgroup_create(ONE.key, GROUP, "9000-0")
            reader.recount()
            with pytest.raises(LinkLost):
                await poll(reader)
        async with reading(server) as reader:
            await poll(reader)
            assert await numbers(reader) == [1]

    fill(server, 9)
    asyncio.run(main())


def test_what_an_older_archiver_left_pending_is_read(server: RedisServer) -> None:
    """Entries that XREADGROUP delivered and nobody acknowledged come after the position, which goes back."""

    async def main() -> None:
        async with reading(server) as reader:
            assert await numbers(reader) == [3, 4, 5, 6]
            assert (group(server)["pending"], group(server)["last-delivered-id"]) == (0, b"2999-18446744073709551615")

    fill(server, 6)
    with server.client() as client:
        client.xreadgroup(GROUP, "older", {ONE.key: ">"}, count=5)
        client.xack(ONE.key, GROUP, "1000-0", "2000-0", "4000-0")
    asyncio.run(main())
