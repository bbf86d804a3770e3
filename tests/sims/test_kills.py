"""Anything is killed, at any moment: what was received is archived once, what was not is in the ledger."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LENGTH, Tell
from tests.sims.accounting import account
from tests.sims.house import House, house

CHANNELS = "depth20,aggTrade,markPrice,forceOrder,bookTicker"
pytestmark = pytest.mark.timeout(200 + int(120 * LENGTH))

PARTS: dict[str, Any] = {"ARCHIVER__STAGE_BYTES": 100_000}
"""Minutes are written in parts all the time, so that a kill finds the archiver at work."""

SEED = int(os.environ.get("MASERVER_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SLOW_DISK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fdatasync(int fd) { usleep(300000); return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
int fsync(int fd) { usleep(300000); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
"""


@pytest.fixture
def dice() -> random.Random:
    """The moments and victims; the seed is printed when the test fails."""
    print(f"MASERVER_TEST_SEED={SEED}")
    return random.Random(SEED)


def restart(built: House, victim: str) -> None:
    """SIGKILL and a new start, as Compose does it."""
    if victim == "redis":
        built.redis.kill()
        built.redis.start()
    elif victim == "everything":
        for name in ("archiver", "ingest"):
            built.kill(name)
        built.redis.kill()
        built.redis.start()
        built.start("ingest")
        built.start("archiver")
    else:
        built.kill(victim)
        built.start(victim)


def campaign(built: House, dice: random.Random, victims: list[str], kills: int, tell: Tell) -> None:
    """Kills `kills` times, with a random pause before each."""
    tell(seed=SEED, kills=round(kills * LENGTH))
    built.start("ingest")
    built.start("archiver")
    built.wait_for_frames(200)
    for _ in range(round(kills * LENGTH)):
        time.sleep(dice.uniform(0.3, 5.0))
        restart(built, dice.choice(victims))
    time.sleep(3)
    built.settle()


def test_archiver_and_redis_killed_lose_nothing(tmp_path: Path, dice: random.Random, tell: Tell) -> None:
    """The collector outlives it all: every frame sent since the first is archived once, and the ledger is empty."""
    with house(tmp_path, CHANNELS=CHANNELS, **PARTS) as built:
        campaign(built, dice, ["archiver", "redis"], 14, tell)
        result = account(built.exchange, built.data)
        tell(**result.figures)
        assert (result.missing, result.doubled, result.alien) == ({}, {}, {})
        assert result.holding() == []


def test_collector_and_everything_killed_is_in_the_ledger(tmp_path: Path, dice: random.Random, tell: Tell) -> None:
    """Frames that a killed collector never received lie in rows with the cause `crash`; none is archived twice."""
    with house(tmp_path, CHANNELS=CHANNELS, **PARTS) as built:
        campaign(built, dice, ["ingest", "everything", "archiver"], 9, tell)
        result = account(built.exchange, built.data)
        tell(**result.figures)
        assert (result.doubled, result.alien) == ({}, {})
        assert result.missing
        assert result.story() == ""
        assert result.causes() <= {"crash", "upstream"}


def test_redis_killed_while_its_disk_is_slow_loses_nothing(tmp_path: Path, dice: random.Random, tell: Tell) -> None:
    """With every fsync slowed, Redis forgets at a kill what it had accepted; the collector still holds it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("slowing fsync needs a C compiler")
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW_DISK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    with house(tmp_path, CHANNELS=CHANNELS, **PARTS) as built:
        built.redis.stop()
        built.redis.environment = {"LD_PRELOAD": str(library)}
        built.redis.start()
        campaign(built, dice, ["redis"], 6, tell)
        result = account(built.exchange, built.data)
        tell(**result.figures)
        assert (result.missing, result.doubled, result.alien) == ({}, {}, {})


def test_paused_services_lose_nothing_that_is_not_in_the_ledger(tmp_path: Path, tell: Tell) -> None:
    """SIGSTOP for ten seconds of the archiver, of Redis, of the collector: all goes on by itself."""
    with house(tmp_path, CHANNELS=CHANNELS, **PARTS) as built:
        built.start("ingest")
        built.start("archiver")
        built.wait_for_frames(200)
        with built.paused("archiver"):
            time.sleep(10)
        with built.redis.paused():
            time.sleep(10)
        with built.paused("ingest"):
            time.sleep(10)
        time.sleep(6)
        built.settle()
        result = account(built.exchange, built.data)
        tell(**result.figures)
        assert (result.doubled, result.alien) == ({}, {})
        assert result.story() == ""
        assert result.holding() == []
