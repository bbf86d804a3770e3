"""Disks and memory run full: what fits in hand is kept, what is dropped is in the ledger, and it goes on by itself."""

import contextlib
import time
from pathlib import Path
from typing import Any

import redis as redis_py

from tests.conftest import Tell
from tests.sims.accounting import account
from tests.sims.house import House, house
from tests.small_disk import filled, small_disk

CHANNELS = "depth20,aggTrade,markPrice"
PARTS: dict[str, Any] = {"ARCHIVER__STAGE_BYTES": 100_000}


def recording(built: House) -> None:
    built.start("ingest")
    built.start("archiver")
    built.wait_for_frames(200)


def nothing_lost(built: House, tell: Tell) -> None:
    built.settle()
    result = account(built.exchange, built.data)
    tell(**result.figures)
    assert (result.missing, result.doubled, result.alien) == ({}, {}, {})
    assert result.holding() == []


def test_a_full_data_disk_waits_in_redis(tmp_path: Path, tell: Tell) -> None:
    """While the data disk is full frames wait in Redis; with space again they are written, by themselves."""
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        house(tmp_path, data=disk / "data", CHANNELS=CHANNELS, **PARTS) as built,
    ):
        recording(built)
        time.sleep(6)
        with filled(disk):
            time.sleep(15)
            assert built.process("archiver").poll() is None
        assert "cannot write" in built.log("archiver")
        nothing_lost(built, tell)


def test_a_full_disk_under_everything_goes_on_by_itself(tmp_path: Path, tell: Tell) -> None:
    """Data, staging and Redis's own log on one full disk: the collector holds what Redis refuses; all is archived."""
    with small_disk(tmp_path / "disk", 48) as disk:
        folder = disk / "house"
        folder.mkdir()
        with house(folder, CHANNELS=CHANNELS, **PARTS) as built:
            recording(built)
            time.sleep(6)
            with filled(disk):
                time.sleep(15)
                assert built.process("archiver").poll() is None
                assert built.process("ingest").poll() is None
            nothing_lost(built, tell)


def test_redis_log_disk_full_is_read_all_the_same(tmp_path: Path, tell: Tell) -> None:
    """Redis's log alone cannot be written: what Redis has is archived all the same, and nothing doubles afterwards."""
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        house(tmp_path, redis_folder=disk / "redis", CHANNELS=CHANNELS, **PARTS) as built,
    ):
        recording(built)
        with filled(disk):
            time.sleep(12)
        assert "cannot write its log" in built.log("archiver")
        time.sleep(3)
        nothing_lost(built, tell)


def test_redis_at_maxmemory_is_drained(tmp_path: Path, tell: Tell) -> None:
    """At maxmemory the collector holds what is refused, and the archiver writes in parts until there is room."""
    symbols = ",".join(f"S{number}USDT" for number in range(30))
    with house(tmp_path, "--symbols", symbols, SYMBOLS=symbols, CHANNELS="depth20") as built:
        built.start("ingest")
        built.wait_for_frames(1000)
        with built.redis.client() as client:
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 3_000_000)
            time.sleep(15)
            with contextlib.suppress(redis_py.ResponseError):
                client.set("one more", "x")
            assert "OOM" in built.log("ingest")
            built.start("archiver")
            deadline = time.monotonic() + 60
            while client.info("memory")["used_memory"] > 0.9 * client.info("memory")["maxmemory"]:
                assert time.monotonic() < deadline, built.log("archiver")[-3000:]
                time.sleep(0.5)
            client.config_set("maxmemory", 0)  # what is still in hand has 8 s to get in when the collector stops
        nothing_lost(built, tell)


def test_what_the_hold_cannot_keep_is_in_the_ledger(tmp_path: Path, tell: Tell) -> None:
    """Without a spill, Redis away for longer than the hold lasts: what was dropped has rows `redis` with its count."""
    little: dict[str, Any] = {"INGEST__HOLD_BYTES": 200_000, "INGEST__BATCH_BYTES": 20_000, "INGEST__SPILL_BYTES": 0}
    with house(tmp_path, CHANNELS=CHANNELS, **little) as built:
        recording(built)
        built.redis.stop()
        time.sleep(15)
        built.redis.start()
        time.sleep(5)
        built.settle()
        result = account(built.exchange, built.data)
        tell(**result.figures)
        assert (result.doubled, result.alien) == ({}, {})
        assert result.missing
        assert result.story() == ""
        assert result.causes() == {"redis"}
        counted = {row.stream: row.frames_missing for row in result.rows if row.cause == "redis"}
        assert counted == {stream: len(frames) for stream, frames in result.missing.items()}
