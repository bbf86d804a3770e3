"""Redis away, hanging or full, also with the collector killed or stopped meanwhile: nothing received is lost."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from common.streams import Stream
from tests.conftest import LENGTH, Tell
from tests.sims.accounting import Account
from tests.sims.house import House, house
from tests.sims.matrix import ALONE_AND_TWINS, LONG, accounted, collector_names

pytestmark = LONG

CHANNELS = "depth20,aggTrade,markPrice"
PARTS: dict[str, Any] = {"ARCHIVER__STAGE_BYTES": 100_000, "CHANNELS": CHANNELS}

LITTLE: dict[str, Any] = {"INGEST__HOLD_BYTES": 200_000, "INGEST__BATCH_BYTES": 20_000}
"""So little memory that what comes in an outage has to go to disk."""


def recording(built: House, collectors: int = 1) -> None:
    for name in (*collector_names(collectors), "archiver"):
        built.start(name)
    built.wait_for_frames(200)


def settled(built: House, tell: Tell, *causes: str) -> Account:
    time.sleep(4)
    deadline = time.monotonic() + 300  # so little memory sends slowly what a long outage left
    while list((built.folder / "state" / "spill").rglob("*.batches")) and time.monotonic() < deadline:
        time.sleep(0.5)
    result = accounted(built, tell, *causes)
    assert list((built.folder / "state" / "spill").rglob("*.batches")) == []
    return result


@ALONE_AND_TWINS
def test_redis_stopped_for_a_while(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """Redis away for longer than memory lasts: every frame is archived once, and the ledger is empty."""
    with house(tmp_path, **PARTS, **LITTLE) as built:
        recording(built, collectors)
        built.redis.stop()
        time.sleep(20 if LENGTH <= 2 else 600)
        built.redis.start()
        assert settled(built, tell).missing == {}
        assert "goes to disk first" in built.log("ingest")


@ALONE_AND_TWINS
def test_redis_killed_for_a_while(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """SIGKILL of Redis, and nobody starts it for ten seconds; what it had not on disk comes again."""
    with house(tmp_path, **PARTS) as built:
        recording(built, collectors)
        for _ in range(2):
            built.redis.kill()
            time.sleep(10)
            built.redis.start()
            time.sleep(2)
        assert settled(built, tell).missing == {}


@ALONE_AND_TWINS
def test_redis_hangs(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """SIGSTOP of Redis for ten seconds: the connection stays, what comes goes to disk."""
    with house(tmp_path, **PARTS, **LITTLE) as built:
        recording(built, collectors)
        with built.redis.paused():
            time.sleep(10)
        assert settled(built, tell).missing == {}
        assert "goes to disk first" in built.log("ingest")


@ALONE_AND_TWINS
def test_redis_full(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """Redis at maxmemory, and no archiver to drain it: the rest is on disk until one comes."""
    with house(tmp_path, **PARTS, **LITTLE) as built:
        for name in collector_names(collectors):
            built.start(name)
        built.wait_for_frames(200)
        with built.redis.client() as client:
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 300_000)
            for name in collector_names(collectors):
                built.wait_for_words(name, "goes to disk first")
            built.start("archiver")
            time.sleep(10)
            client.config_set("maxmemory", 0)
        assert settled(built, tell).missing == {}
        assert "OOM" in built.log("ingest")


def test_collector_killed_while_redis_is_away(tmp_path: Path, tell: Tell) -> None:
    """The next collector sends what the killed one had on disk; rows `crash` hold what was missed, and no more."""
    with house(tmp_path, **PARTS) as built:
        recording(built)
        built.redis.stop()
        time.sleep(8)
        built.kill("ingest")
        killed_ns = time.time_ns()
        time.sleep(2)
        built.start("ingest")
        time.sleep(6)
        built.redis.start()
        time.sleep(8)
        result = settled(built, tell, "crash")
        assert result.missing
        for row in result.holding():
            assert row.from_ns > killed_ns - 1_500_000_000, row
        lost = [one.sent_ns for frames in result.missing.values() for one in frames]
        assert min(lost) > killed_ns - 1_500_000_000


def test_collector_stopped_while_redis_is_away(tmp_path: Path, tell: Tell) -> None:
    """It ends in time with code 0, and the next one sends what it left; rows `maintenance` hold the time between."""
    with house(tmp_path, **PARTS) as built:
        recording(built)
        built.redis.stop()
        time.sleep(6)
        stopped_ns = time.time_ns()
        assert built.stop("ingest", 10) == 0
        assert "stay on disk for the next start" in built.log("ingest")
        built.redis.start()
        time.sleep(2)
        built.start("ingest")
        time.sleep(8)
        result = settled(built, tell, "maintenance")
        assert result.missing
        for row in result.holding():
            assert row.from_ns > stopped_ns - 1_000_000_000, row


def test_a_spill_too_small_counts_what_it_cannot_keep(tmp_path: Path, tell: Tell) -> None:
    """Redis away until memory and disk are full: what was dropped has rows `redis`, with the right count."""
    with house(tmp_path, **PARTS, **LITTLE, INGEST__SPILL_BYTES=300_000) as built:
        recording(built)
        built.redis.stop()
        time.sleep(15)
        built.redis.start()
        time.sleep(5)
        result = settled(built, tell, "redis")
        assert result.missing
        counted: Counter[Stream] = Counter()
        for row in result.holding():
            counted[row.stream] += row.frames_missing or 0
        assert counted == {stream: len(frames) for stream, frames in result.missing.items()}
