"""What processes cost: CPU time and memory, theirs and their children's, from /proc; and what they did for it."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.redis_server import RedisServer
from tests.sims.house import House

_EVERY_S = 1.0


def cpu_s(pid: int) -> float:
    """User and system time of a process, its living children and those it has waited for, in s."""
    main = psutil.Process(pid)
    times = main.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in main.children(recursive=True):
        try:
            mine = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += mine.user + mine.system
    return float(total)


@dataclass
class Peak:
    """The largest memory seen of a process and its children together, in bytes."""

    rss: int = 0
    pss: int = 0


@dataclass
class Watcher:
    """Looks at the memory of processes once a second, in a thread.

    Args:
        pids: Name to process.
    """

    pids: dict[str, int]
    peaks: dict[str, Peak] = field(default_factory=dict)

    def __enter__(self) -> "Watcher":
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for name, pid in self.pids.items():
                peak = self.peaks.setdefault(name, Peak())
                rss, pss = _memory(pid)
                peak.rss, peak.pss = max(peak.rss, rss), max(peak.pss, pss)
            if self._stop.wait(_EVERY_S):
                return


def _memory(pid: int) -> tuple[int, int]:
    rss = pss = 0
    try:
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0, 0
    for each in family:
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in text.splitlines()[1:]}
        rss += sizes["Rss"]
        pss += sizes["Pss"]
    return rss, pss


def added(redis: RedisServer) -> int:
    """How many entries were added to streams since the server started."""
    with redis.client() as client:
        return int(client.info("commandstats").get("cmdstat_xadd", {}).get("calls", 0))


@contextmanager
def running(
    command: Sequence[str], folder: Path, env: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a folder, with these variables added and its output in a file; at the end SIGTERM, then SIGKILL."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **env}, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def kept_frames(house: House) -> int:
    """Frames that a house's collector took since its start, less those that it had to drop: in flood, what Redis does
    not take in time is on the collector's own disk."""
    metrics = house.metrics("ingest")
    taken, dropped = (
        sum(map(float, re.findall(rf"^maserver_ingest_{name}_total(?:{{.*}})? (.*)$", metrics, re.MULTILINE)))
        for name in ("frames", "frames_dropped")
    )
    return int(taken - dropped)
