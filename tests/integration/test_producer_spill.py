"""What Redis does not take goes to disk and comes back in order, whatever happens to Redis, disk or collector."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from common.producer import BEATS, Producer
from common.spill import Spill, abandoned
from common.streams import GROUP, STREAMS_SET, Stream
from common.wire import pack
from tests.producing import STREAM, numbers, running, until
from tests.redis_server import RedisServer
from tests.sims.house import ROOT
from tests.small_disk import filled, small_disk

HOLD = 3_000_000


def command(number: int, size: int = 2000) -> bytes:
    return pack("XADD", STREAM.key, "*", "n", number, "d", b"x" * size)


@contextlib.asynccontextmanager
async def producing(
    server: RedisServer,
    spill: Path,
    *,
    hold_bytes: int = HOLD,
    spill_bytes: int = 1 << 26,
    instance: str = "me",
    beats: Callable[[], dict[str, str]] = lambda: {"c": "1 2"},
) -> AsyncIterator[Producer]:
    producer = Producer(
        server.url,
        flush_s=0.002,
        batch_bytes=16_384,
        hold_bytes=hold_bytes,
        beats=beats,
        spill=spill,
        spill_bytes=spill_bytes,
        instance=instance,
    )
    async with running(producer):
        yield producer


async def append(producer: Producer, first: int, last: int) -> None:
    """Appends these numbers, fifty each 10 ms or more slowly; all of them are taken."""
    for number in range(first, last):
        assert producer.append(command(number))
        if number % 50 == 0:
            await asyncio.sleep(0.01)
            await until(lambda: producer.held_bytes < HOLD * 7 // 8)


async def emptied(producer: Producer) -> None:
    """All is durable in Redis; an end would not wait so long."""
    await until(lambda: not (producer.held_bytes or producer.spilled_bytes), 60)


def in_order_of_first_coming(server: RedisServer) -> list[int]:
    return list(dict.fromkeys(numbers(server)))


def files(spill: Path) -> list[Path]:
    return sorted(spill.rglob("*.batches"))


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    return tmp_path / "spill"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


def test_nothing_is_written_while_redis_keeps_up(server: RedisServer, spill: Path) -> None:
    """The disk is not touched on the fast way."""

    async def main() -> None:
        async with producing(server, spill, hold_bytes=1 << 24) as producer:
            await append(producer, 0, 3000)
            await producer.drained()
            assert (producer.spilled_commands, producer.sent_again, producer.held_bytes) == (0, 0, 0)

    asyncio.run(main())
    assert not spill.exists()
    assert numbers(server) == list(range(3000))


def test_a_stopped_redis_gets_everything_in_order(server: RedisServer, spill: Path) -> None:
    """Many times more than memory holds comes while Redis is away: it is on disk, then in Redis, then nowhere else."""

    async def main() -> None:
        async with producing(server, spill) as producer:
            await append(producer, 0, 300)
            server.stop()
            await append(producer, 300, 4000)
            assert producer.spilled_bytes > 5_000_000
            assert producer.held_bytes < HOLD
            server.start()
            await append(producer, 4000, 4500)
            await emptied(producer)
            assert producer.replayed_commands > 2000
            assert producer.durable_commands == 4500

    asyncio.run(main())
    assert files(spill) == []
    assert in_order_of_first_coming(server) == list(range(4500))


def test_a_killed_redis_is_sent_again_what_it_forgot(server: RedisServer, spill: Path) -> None:
    """SIGKILL of Redis, again and again, also while the spill is read back: nothing is lost and the order holds."""

    async def main() -> None:
        async with producing(server, spill) as producer:
            for turn in range(4):
                server.kill()
                await append(producer, turn * 700, turn * 700 + 700)
                server.start()
                await asyncio.sleep(0.3)
            server.kill()
            await asyncio.sleep(1.5)
            server.start()
            await append(producer, 2800, 3200)
            await emptied(producer)

    asyncio.run(main())
    server.kill()
    server.start()
    assert in_order_of_first_coming(server) == list(range(3200))


def test_a_paused_redis_is_stuck(server: RedisServer, spill: Path) -> None:
    """SIGSTOP of Redis leaves the connection: without progress what is in flight is copied to disk all the same."""

    async def main() -> None:
        async with producing(server, spill) as producer:
            await append(producer, 0, 50)
            with server.paused():
                await append(producer, 50, 60)
                await until(lambda: producer.spilled_commands >= 10)
                await append(producer, 60, 3000)
                await until(lambda: producer.spilled_commands >= 2900)
            await append(producer, 3000, 3100)
            await emptied(producer)

    asyncio.run(main())
    assert in_order_of_first_coming(server) == list(range(3100))


def test_a_full_redis_gets_the_rest_when_there_is_room(tmp_path: Path, spill: Path) -> None:
    """At maxmemory the rest goes to disk; the few that are tried now and then keep their place."""

    async def main(server: RedisServer) -> None:
        async with producing(server, spill) as producer:
            await append(producer, 0, 5000)
            assert producer.spilled_bytes
            with server.client() as client:
                client.config_set("maxmemory", "200mb")
            await emptied(producer)
            assert producer.durable_commands == 5000

    with RedisServer(tmp_path / "redis", "--maxmemory", "6mb") as server:
        asyncio.run(main(server))
        assert in_order_of_first_coming(server) == list(range(5000))


def test_a_loading_redis_is_waited_for(tmp_path: Path, spill: Path) -> None:
    """While Redis reads its file it answers LOADING: what comes goes to disk meanwhile."""

    async def main(server: RedisServer) -> None:
        async with producing(server, spill) as producer:
            await append(producer, 0, 100)
            await producer.drained()
            server.kill()
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await until(lambda: _is_loading(server))
            await asyncio.sleep(1.5)
            await append(producer, 100, 1500)
            await until(lambda: producer.spilled_commands > 1000)
            assert not starting.done()
            await starting
            await emptied(producer)

    with RedisServer(tmp_path / "redis", "--key-load-delay", "300") as server:
        with server.client() as client, client.pipeline(transaction=False) as pipeline:
            for _ in range(15_000):
                pipeline.xadd("other", {"d": "x"})
            pipeline.execute()
        asyncio.run(main(server))
        assert in_order_of_first_coming(server) == list(range(1500))


def _is_loading(server: RedisServer) -> bool:
    """Asked without a client, which would wait until it is over."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), 2) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(100).startswith(b"-LOADING")
    except OSError:
        return False


def test_a_full_spill_refuses_until_there_is_room(server: RedisServer, spill: Path) -> None:
    """Disk and memory are bounded: then `append` says no, and yes again with Redis back; what it took is there."""

    async def main() -> list[int]:
        async with producing(server, spill, hold_bytes=100_000, spill_bytes=300_000) as producer:
            server.stop()
            await asyncio.sleep(1.5)
            taken = []
            for number in range(1000):
                if producer.append(command(number, 1000)):
                    taken.append(number)
                await asyncio.sleep(0.002)
            assert producer.cause == "redis"
            assert producer.full
            assert not producer.has_room()
            assert producer.spilled_bytes <= 300_000
            assert producer.held_bytes <= 100_000
            assert 300 < len(taken) < 500
            server.start()
            await until(producer.has_room)
            assert producer.append(command(5000))
            await producer.drained()
            return [*taken, 5000]

    taken = asyncio.run(main())
    assert in_order_of_first_coming(server) == taken


def test_a_broken_disk_leaves_the_memory(server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk under the spill is said once; memory alone holds what it can, and all of that comes to Redis."""

    async def main(spill: Path) -> list[int]:
        async with producing(server, spill) as producer:
            server.stop()
            taken = []
            for number in range(600):
                if producer.append(command(number, 10_000)):
                    taken.append(number)
                await asyncio.sleep(0.004)
            assert 250 < len(taken) < 300
            assert (producer.spilled_bytes, producer.spilled_commands) == (0, 0)
            server.start()
            await producer.drained()
            return taken

    with small_disk(tmp_path / "disk", 2) as disk, filled(disk):
        taken = asyncio.run(main(disk / "spill"))
    assert in_order_of_first_coming(server) == taken
    assert [entry.message for entry in caplog.records if "cannot be written" in entry.message][1:] == []
    assert "cannot be written" in caplog.text


def test_a_disk_with_room_again_is_used_again(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the disk is tried again."""

    async def main(disk: Path) -> None:
        async with producing(server, disk / "spill") as producer:
            server.stop()
            with filled(disk):
                for number in range(300):
                    assert producer.append(command(number))
                await asyncio.sleep(2)
                assert not producer.spilled_commands
            await until(lambda: producer.spilled_commands == 300)
            server.start()
            await producer.drained()

    monkeypatch.setattr("common.spiller.RETRY_S", 0.5)
    with small_disk(tmp_path / "disk", 4) as disk:
        asyncio.run(main(disk))
    assert in_order_of_first_coming(server) == list(range(300))


def test_an_end_without_redis_leaves_all_of_it_to_the_next(server: RedisServer, spill: Path) -> None:
    """Drained means durable: with Redis away, on disk. The next start sends it, in order, before its own."""

    async def first() -> None:
        async with producing(server, spill, instance="first") as producer:
            await append(producer, 0, 100)
            await producer.drained()
            await append(producer, 100, 200)
            server.stop()
            await append(producer, 200, 900)
            async with asyncio.timeout(8):
                await producer.drained()

    async def second() -> None:
        async with producing(server, spill, instance="second") as producer:
            await append(producer, 900, 1000)
            await producer.drained()
            assert producer.spilled_bytes == 0

    asyncio.run(first())
    assert files(spill)
    server.start()
    asyncio.run(second())
    assert files(spill) == []
    assert in_order_of_first_coming(server) == list(range(1000))


def test_an_end_with_a_redis_too_slow_to_take_it_all_comes_in_time(server: RedisServer, spill: Path) -> None:
    """A Redis that hangs while we end: what it has not confirmed stays on disk."""

    async def main() -> None:
        async with producing(server, spill) as producer:
            await append(producer, 0, 100)
            with server.paused():
                await append(producer, 100, 200)
                async with asyncio.timeout(8):
                    await producer.drained()

    asyncio.run(main())
    left = _adopted(spill)
    assert sum(record.commands for record in left.read(1 << 20)) >= 100
    left.close()


def _adopted(spill: Path) -> Spill:
    """The one spill that is left there, once its owner's thread has ended."""
    deadline = time.monotonic() + 10
    while not (found := abandoned(spill, 1 << 20)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[0]


def killed(server: RedisServer, spill: Path, instance: str, first: int, after_s: float) -> list[tuple[int, int]]:
    """Runs a hand for so long and kills it; gives (number, receive time in ns) of all that it appended."""
    hand = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.spilling_process", server.url, str(spill), instance, str(first)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    time.sleep(after_s)
    hand.kill()
    told = hand.communicate()[0].decode().rpartition("\n")[0].splitlines()  # the last line may be torn
    return [(int(number), int(receive_ns)) for number, receive_ns in map(str.split, told)]


def test_a_killed_collectors_spill_is_adopted(server: RedisServer, spill: Path) -> None:
    """SIGKILL while Redis is away loses at most the last second; the next one sends the rest, and tells its end.

    The stream was never registered in this Redis: who adopts the spill registers it.
    """
    server.stop()
    appended = killed(server, spill, "first", 0, 4) + killed(server, spill, "second", 10_000, 4)
    server.start()

    async def main() -> None:
        async with producing(server, spill, instance="third") as producer:
            await until(lambda: producer.replayed_commands > 0)
            await producer.drained()
            await until(lambda: len(_beats(server)) == 3)

    asyncio.run(main())
    assert files(spill) == []
    found = in_order_of_first_coming(server)
    assert found == [number for number, _ in appended if number in set(found)]
    times = dict(appended)
    beats = _beats(server)
    for name, mine in (("first", appended[: _first_of(appended)]), ("second", appended[_first_of(appended) :])):
        kept = [number for number, _ in mine if number in set(found)]
        assert kept == [number for number, _ in mine][: len(kept)]
        assert mine[-1][1] - times[kept[-1]] < 1e9
        assert beats[name] == times[kept[-1]]
    with server.client() as client:
        assert client.smembers(STREAMS_SET) == {STREAM.key.encode()}
        assert [group["name"] for group in client.xinfo_groups(STREAM.key)] == [GROUP.encode()]


def _first_of(appended: list[tuple[int, int]]) -> int:
    return next(index for index, (number, _) in enumerate(appended) if number >= 10_000)


def _beats(server: RedisServer) -> dict[str, int]:
    with server.client() as client:
        return {name.decode(): int(value.split()[0]) for name, value in client.hgetall(BEATS).items()}


def test_a_redis_that_is_merely_slow_costs_nothing_but_the_disk(server: RedisServer, spill: Path) -> None:
    """More comes than can be made durable from memory: the excess goes to disk, and nothing is refused."""

    async def main() -> None:
        async with producing(server, spill, hold_bytes=400_000) as producer:
            for number in range(2000):
                assert producer.append(command(number, 1000))
                await asyncio.sleep(0.001)
            assert producer.spilled_commands
            assert producer.cause == "overflow"
            await emptied(producer)
            assert producer.sent_again == 0

    asyncio.run(main())
    assert numbers(server) == list(range(2000))


def test_signs_of_life_never_run_ahead(server: RedisServer, spill: Path) -> None:
    """While batches queue the collector still shows that it lives, and claims nothing that is not in Redis yet."""
    last = [0]

    async def feed(producer: Producer) -> None:
        while True:
            last[0] += 1
            producer.append(command(last[0], 1000))
            await asyncio.sleep(0.001)

    async def main() -> None:
        async with producing(
            server, spill, hold_bytes=100_000, beats=lambda: {"old": f"{last[0]} {last[0]}", "new": f"{last[0]} 1"}
        ) as producer:
            feeding = asyncio.create_task(feed(producer))
            await until(lambda: producer.replayed_commands > 50)
            said = set()
            for _ in range(30):
                heard = _beats(server)
                assert all(at <= numbers(server)[-1] for at in heard.values())
                with server.client() as client:
                    said |= set(client.hgetall(BEATS).values())
                await asyncio.sleep(0.1)
            assert len(said) > 2
            feeding.cancel()

    asyncio.run(main())


def test_streams_may_come_later(server: RedisServer, spill: Path) -> None:
    """A stream that is registered while frames flow is known, with its group, before its first frame."""
    later = Stream("um", "depth20", "ETHUSDT")

    async def main() -> None:
        async with producing(server, spill) as producer:
            await append(producer, 0, 10)
            producer.register([later])
            assert producer.append(pack("XADD", later.key, "*", "n", 1))
            await producer.drained()

    asyncio.run(main())
    with server.client() as client:
        assert client.smembers(STREAMS_SET) == {STREAM.key.encode(), later.key.encode()}
        assert [group["name"] for group in client.xinfo_groups(later.key)] == [GROUP.encode()]
