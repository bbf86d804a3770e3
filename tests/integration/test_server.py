"""Redis's log is rewritten when it is long and little is kept, and left alone otherwise."""

import asyncio
import contextlib
import time
from pathlib import Path

import redis

from archiver.server import PAUSE_S, Server
from common.wire import linked
from tests.redis_server import RedisServer
from tests.small_disk import filled, small_disk

LONG = 1 << 20
KEY = "md:um:depth20:BTCUSDT"


def log_bytes(client: redis.Redis) -> int:
    """How long the log is, when no rewrite runs."""
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.02)
    length: int = client.info("persistence")["aof_current_size"]
    return length


def fill(client: redis.Redis, megabytes: int) -> None:
    for _ in range(megabytes * 64):
        client.xadd(KEY, {"d": b"x" * 16_384})


def look(server: RedisServer, watched: Server, now_s: float) -> float:
    async def once() -> float:
        async with linked(server.url, name="test") as link:
            share = await watched.share(link)
            await watched.shorten_log(link, now_s)
            return share

    return asyncio.run(once())


def test_the_log_is_rewritten_after_the_archive_has_taken_what_it_holds(tmp_path: Path) -> None:
    """Not while it is all kept, not while it is short, and after a rewrite not again at once; nothing is lost."""
    with RedisServer(tmp_path, "--maxmemory", "100mb") as server, server.client() as client:
        watched = Server(log_bytes=LONG)
        fill(client, 8)
        assert 0.08 < look(server, watched, 0.0) < 0.2
        assert watched.used_bytes > 8 << 20
        assert log_bytes(client) > 8 << 20
        client.xtrim(KEY, maxlen=3, approximate=False)
        look(server, Server(log_bytes=1 << 30), 0.0)
        assert log_bytes(client) > 8 << 20
        kept = client.xrange(KEY)
        look(server, watched, 0.0)
        assert log_bytes(client) < LONG
        fill(client, 8)
        client.xtrim(KEY, maxlen=3, approximate=False)
        look(server, watched, PAUSE_S - 1)
        assert log_bytes(client) > 8 << 20
        look(server, watched, PAUSE_S)
        assert log_bytes(client) < LONG
        assert len(kept) == len(client.xrange(KEY)) == 3
        server.kill()
        server.start()
        assert len(client.xrange(KEY)) == 3


def test_a_server_without_a_log_or_a_bound_is_left_alone(tmp_path: Path) -> None:
    """What it does not tell is no error."""
    with RedisServer(tmp_path, "--appendonly", "no", "--maxmemory", "0") as server, server.client() as client:
        watched = Server(log_bytes=0)
        fill(client, 1)
        assert look(server, watched, 0.0) == 0.0
        assert client.info("persistence")["aof_rewrite_in_progress"] == 0


def test_a_rewrite_that_redis_refuses_is_left_to_it(tmp_path: Path) -> None:
    """A user of Redis who may not ask for it records on."""
    with RedisServer(tmp_path) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-bgrewriteaof")
        fill(client, 1)
        client.delete(KEY)
        look(server, Server(log_bytes=0), 0.0)
        assert log_bytes(client) > 1 << 20


def test_a_rewrite_that_failed_is_left_to_redis(tmp_path: Path) -> None:
    """The disk was full: Redis tries again by itself, more and more seldom, and when that works we ask again."""
    with small_disk(tmp_path / "disk", 24) as disk, RedisServer(disk) as server, server.client() as client:
        fill(client, 8)
        with filled(disk):
            with contextlib.suppress(redis.ResponseError):
                client.bgrewriteaof()
            log_bytes(client)
        client.xtrim(KEY, maxlen=3, approximate=False)
        look(server, Server(log_bytes=LONG), 0.0)
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "err"
        assert log_bytes(client) > 8 << 20
        client.bgrewriteaof()
        assert log_bytes(client) < LONG
        fill(client, 8)
        client.xtrim(KEY, maxlen=3, approximate=False)
        look(server, Server(log_bytes=LONG), 0.0)
        assert log_bytes(client) < LONG
