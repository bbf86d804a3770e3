"""A shard has one archiver at a time, and always has one again soon."""

import asyncio
from pathlib import Path

from archiver.shards import Shards, shard_of
from common.streams import Stream
from common.wire import Link, linked
from tests.redis_server import RedisServer


def shards(name: str, lease_s: float = 0.5) -> Shards:
    return Shards(name, shards=8, lease_s=lease_s)


async def settled(link: Link, *everyone: Shards) -> None:
    """Lets everyone tend until nobody's shards change any more, and each shard has one owner."""
    still = 0
    async with asyncio.timeout(20):
        while still < 3:
            before = [one.held for one in everyone]
            for one in everyone:
                await one.tend(link)
            held = sorted(shard for one in everyone for shard in one.held)
            still = still + 1 if [one.held for one in everyone] == before and held == list(range(8)) else 0
            await asyncio.sleep(0.05)


def test_two_share_fairly_and_one_inherits(tmp_path: Path) -> None:
    """A second archiver gets half; when the first is silent, the second has all of it after the lease."""

    async def main(server: RedisServer) -> None:
        async with linked(server.url, name="test") as link:
            first, second = shards("first"), shards("second")
            await settled(link, first)
            assert first.held == frozenset(range(8))
            await settled(link, first, second)
            assert len(first.held) == len(second.held) == 4
            await settled(link, second)
            assert second.held == frozenset(range(8))
            await first.tend(link)
            assert not first.held & second.held

    with RedisServer(tmp_path) as server:
        asyncio.run(main(server))


def test_a_release_needs_no_waiting(tmp_path: Path) -> None:
    """Shards that are given back are taken at once, long before a lease would run out."""

    async def main(server: RedisServer) -> None:
        async with linked(server.url, name="test") as link:
            first, second = shards("first", 60), shards("second", 60)
            await first.tend(link)
            await second.tend(link)
            await first.release(link)
            assert not first.held
            await settled(link, second)

    with RedisServer(tmp_path) as server:
        asyncio.run(main(server))


def test_a_full_redis_still_hands_over(tmp_path: Path) -> None:
    """At maxmemory a new archiver takes over from a dead one: otherwise nobody could drain it."""

    async def main(server: RedisServer) -> None:
        async with linked(server.url, name="test") as link:
            dead = shards("dead")
            await dead.tend(link)
            with server.client() as client:
                client.config_set("maxmemory", 1)
            heir = shards("heir")
            await asyncio.sleep(0.6)
            await settled(link, heir)

    with RedisServer(tmp_path) as server:
        asyncio.run(main(server))


def test_a_stream_stays_in_its_shard() -> None:
    """The shard depends on the stream's name alone, and streams spread over all shards."""
    streams = [Stream("um", "depth20", f"S{number}USDT") for number in range(200)]
    assert {shard_of(stream, 8) for stream in streams} == set(range(8))
    assert shard_of(Stream("um", "depth20", "BTCUSDT"), 8) == shard_of(Stream("um", "depth20", "BTCUSDT"), 8)
