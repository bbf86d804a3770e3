"""An archiver that is killed again and again, a writer that knows what it wrote: both files hold it, once."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from archiver import layout, lines, members, tables
from archiver.bundles import bundle_day, days_to_bundle
from archiver.verify import verify
from common.clock import DAY_NS, MINUTE_NS, SECOND_NS, now_ns
from common.frame import Frame
from common.paths import Minute
from common.streams import GROUP, STREAMS_SET, Stream
from tests.archive import BOOK, SPOT, TRADES, archive, book_frames, book_payload, trade_payload
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
STREAMS = [BOOK, TRADES, SPOT]
START_NS = now_ns() // DAY_NS * DAY_NS - 2 * DAY_NS - 3 * MINUTE_NS
"""Three minutes before a midnight: what is over becomes minutes, then days, while the test runs."""
SEED = int(os.environ.get("MASERVER_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
STEP_NS = SECOND_NS // 5


class Writer:
    """Writes frames of two collectors, some of them twice, some late, some of another shape, and knows them all."""

    def __init__(self, client: "redis.Redis", dice: random.Random) -> None:
        self._client = client
        self._dice = dice
        self._number = 0
        self.frames: dict[Stream, list[Frame]] = {stream: [] for stream in STREAMS}
        for stream in STREAMS:
            client.sadd(STREAMS_SET, stream.key)
            client.xgroup_create(stream.key, GROUP, "0", mkstream=True)

    def write(self, rounds: int) -> None:
        """So many frames of each stream, in one pipeline."""
        with self._client.pipeline(transaction=False) as pipeline:
            for _ in range(rounds):
                self._number += 1
                for stream in STREAMS:
                    for frame in self._copies(stream, self._number):
                        self.frames[stream].append(frame)
                        fields: dict[Any, Any] = {
                            "c": frame.connection,
                            "t": frame.receive_ns,
                            "n": frame.counter,
                            "d": frame.payload,
                        }
                        pipeline.xadd(stream.key, fields)
            pipeline.execute()

    def _copies(self, stream: Stream, number: int) -> list[Frame]:
        chance = self._dice.random()
        event_ns = START_NS + number * STEP_NS - (90 * SECOND_NS if chance < 0.01 else 0)
        frame = Frame(event_ns + 20_000_000, "a-1", number, self._payload(stream, number, event_ns))
        if chance < 0.9:
            return [frame]
        if chance < 0.95:  # sent again after a reconnect
            return [frame, frame]
        return [frame, frame._replace(receive_ns=frame.receive_ns + 30_000_000, connection="b-2")]

    def _payload(self, stream: Stream, number: int, event_ns: int) -> bytes:
        if stream == TRADES:
            return trade_payload(number, event_ns)
        odd = self._dice.choice((' ,"x":1', ',"y":"\\u00e9"')) if self._dice.random() < 0.01 else ""
        if stream == BOOK:
            payload = book_payload(number, event_ns, odd)
            return payload.replace(b"61799.10", b"61799.1") if self._dice.random() < 0.01 else payload
        levels = "" if self._dice.random() < 0.01 else f'["0.{number % 1000:03d}","{number}.00"],["0.5","1.00"]'
        return f'{{"lastUpdateId":{number},"bids":[{levels}],"asks":[["7.1","2.00"]]{odd}}}'.encode()


@contextmanager
def archiver(folder: Path, url: str, **more: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A running archiver; it is killed at the end, if it still runs."""
    settings = {
        "REDIS_URL": url,
        "DATA_DIR": folder / "data",
        "STATE_DIR": folder / "state",
        "ARCHIVER__METRICS_PORT": 0,
        "ARCHIVER__LEASE_S": 0.5,
        "ARCHIVER__GRACE_S": 1,
        "ARCHIVER__TAIL_S": 0,
        "ARCHIVER__READ_COUNT": 100,
        "ARCHIVER__STAGE_BYTES": 200_000,
        "ARCHIVER__WORKERS": 1,
        **{f"ARCHIVER__{name}": value for name, value in more.items()},
    }
    with (folder / "archiver.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "archiver"],
            env={**os.environ, **{f"MASERVER_{name}": str(value) for name, value in settings.items()}},
            cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def is_archived(client: "redis.Redis", stream: Stream) -> bool:
    groups = client.xinfo_groups(stream.key)
    return any(group["last-delivered-id"] == client.xinfo_stream(stream.key)["last-generated-id"] for group in groups)


def archived(data: Path, stream: Stream) -> list[Frame]:
    """All frames of a stream, from its minutes and days."""
    found: list[Frame] = []
    for path in (data / "raw" / stream.market / stream.channel / stream.symbol).rglob("*.zip"):
        for member in members.directory(path).members:
            found += lines.parse(members.read_member(path, member.name))
    return found


def typed(data: Path, stream: Stream) -> list[tuple[int, str, int, str]]:
    """The same from its Parquet files: receive time, connection, counter, and the payload as canonical JSON."""
    found: list[tuple[int, str, int, str]] = []
    for path in (data / "parquet" / stream.market / stream.channel / stream.symbol).rglob("*.parquet"):
        table = tables.read(path)
        times = table.column("receive_time").cast("int64").to_pylist()
        heads = zip(times, table.column("connection").to_pylist(), table.column("counter").to_pylist(), strict=True)
        found += [
            (*head, _canonical(value)) for head, value in zip(heads, tables.payload_values(table, stream), strict=True)
        ]
    return found


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


@pytest.mark.timeout(120)
def test_a_killed_archiver_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed at random moments, over a midnight, with parts, copies and late frames: raw and Parquet are what came."""
    print(f"MASERVER_TEST_SEED={SEED}")
    dice = random.Random(SEED)
    with RedisServer(tmp_path / "redis") as server, server.client() as client:
        writer = Writer(client, dice)
        for _ in range(3):
            with archiver(tmp_path, server.url):
                until_s = time.monotonic() + dice.uniform(0.8, 2.2)
                while time.monotonic() < until_s:
                    writer.write(dice.randrange(1, 40))
                    time.sleep(0.02)
        with archiver(tmp_path, server.url) as last:
            while not all(is_archived(client, stream) for stream in STREAMS) or layout.without_parquet(
                tmp_path / "data", STREAMS
            ):
                assert last.poll() is None
                time.sleep(0.1)
            last.terminate()
            assert last.wait(20) == 0
    data = tmp_path / "data"
    for stream, day in days_to_bundle(data, now_ns(), 0):
        bundle_day(data, stream, day)
    for stream, written in writer.frames.items():
        found = archived(data, stream)
        assert Counter(frame.payload for frame in found) == dict.fromkeys({frame.payload for frame in written}, 1)
        assert set(found) <= set(written)
        assert sorted(typed(data, stream)) == sorted((*frame[:3], _canonical(json.loads(frame[3]))) for frame in found)


def test_who_starts_finishes_minutes_in_parts(tmp_path: Path) -> None:
    """An archiver was killed behind a minute's last part: the next one makes the Parquet file that it owed."""
    data = tmp_path / "data"
    data.mkdir()
    of = Minute(BOOK, START_NS // MINUTE_NS)
    archive(data, (of, book_frames(of)), grows=True)
    assert layout.without_parquet(data, [BOOK]) == [of]
    with RedisServer(tmp_path / "redis") as server, server.client() as client:
        Writer(client, random.Random(SEED))
        with archiver(tmp_path, server.url) as running:
            while layout.without_parquet(data, [BOOK]):
                assert running.poll() is None
                time.sleep(0.1)
    assert verify(data) == []


@pytest.mark.parametrize("command", [("FLUSHALL",), ("DEL", STREAMS_SET)])
def test_a_running_archiver_outlives_a_flush(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Whatever somebody deletes in Redis, what the archiver had read is archived, and so is all that comes then."""
    with (
        RedisServer(tmp_path / "redis") as server,
        server.client() as client,
        archiver(tmp_path, server.url, STAGE_BYTES=2**30) as running,
    ):
        writer = Writer(client, random.Random(SEED))
        writer.write(250)  # 50 s of the first minute: staged, and in no file yet
        stage = tmp_path / "state" / "stage"
        while sum(path.stat().st_size for path in stage.rglob("*.jsonl")) < 60_000:
            time.sleep(0.1)
        time.sleep(1.5)
        client.execute_command(*command)
        writer.write(250)
        time.sleep(2.5)
        writer.write(250)
        while not all(is_archived(client, stream) for stream in STREAMS):
            assert running.poll() is None
            time.sleep(0.1)
    for stream, written in writer.frames.items():
        found = archived(tmp_path / "data", stream)
        assert Counter(frame.payload for frame in found) == dict.fromkeys({frame.payload for frame in written}, 1)
