"""This tree's collector and another checkout's, at the same time on one exchange: the machine's noise hits both alike.

5,000 frames/s of depth20 over TLS, each into a Redis of its own that nobody reads. Which of two versions costs more is
seen here at differences of a few per cent; turns (`chains`) differ by a third on a shared machine.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.bench.chains import SYMBOLS, exchange_args, symbols
from tests.bench.processes import added, cpu_s, running
from tests.redis_server import RedisServer
from tests.sims.exchange.client import Exchange
from tests.sims.house import ROOT

SECONDS = 25.0
WARM_S = 10.0
FRAMES_S = 10 * SYMBOLS


class Cost(NamedTuple):
    """CPU seconds per million frames: the collector's, and its Redis's."""

    ingest: float
    redis: float


def measure(
    folder: Path, tls: dict[str, Path], other: Path, rounds: int, say: Callable[[str], None]
) -> tuple[Cost, Cost]:
    """What ours and the other cost, medians of several rounds.

    Args:
        folder: For everything that is written.
        tls: `ca`, `cert` and `key`.
        other: Another checkout of Maserver.
        rounds: How many.
        say: Gets what is being done.
    """
    found = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        found.append(_run(folder / f"beside-{number}", tls, other))
    ours, theirs = zip(*found, strict=True)
    return _median(ours), _median(theirs)


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(*map(statistics.median, zip(*costs, strict=True)))


@dataclass(frozen=True)
class _Side:
    """One version at work."""

    ingest: "subprocess.Popen[bytes]"
    redis: RedisServer

    def used_s(self) -> tuple[float, float]:
        return cpu_s(self.ingest.pid), cpu_s(self.redis.process.pid)


def _run(folder: Path, tls: dict[str, Path], other: Path) -> tuple[Cost, Cost]:
    with ExitStack() as stack:
        env = {"SSL_CERT_FILE": str(tls["ca"])}
        exchange = stack.enter_context(Exchange.started(*exchange_args(tls), "--no-record", env=env))
        sides = []
        for name, tree in (("ours", ROOT), ("other", other)):
            redis = stack.enter_context(RedisServer(folder / name / "redis"))
            command = [sys.executable, "-m", "ingest"]
            settings = env | _settings(folder / name, exchange, redis)
            ingest = stack.enter_context(running(command, tree, settings, folder / name / "ingest.out"))
            sides.append(_Side(ingest, redis))
        time.sleep(WARM_S)
        before = [(added(side.redis), side.used_s()) for side in sides]
        time.sleep(SECONDS)
        costs = []
        for side, (frames_before, used_before_s) in zip(sides, before, strict=True):
            frames = added(side.redis) - frames_before
            if frames < 0.9 * SECONDS * FRAMES_S:
                raise RuntimeError(f"of {FRAMES_S:,} frames/s only {frames:,} came in {SECONDS:g} s")
            used_s = zip(side.used_s(), used_before_s, strict=True)
            costs.append(Cost(*((now_s - before_s) / frames * 1e6 for now_s, before_s in used_s)))
        return costs[0], costs[1]


def _settings(folder: Path, exchange: Exchange, redis: RedisServer) -> dict[str, str]:
    """Only what every version knows."""
    settings = {
        "REDIS_URL": redis.url,
        "UM_WS_URL": exchange.um_ws,
        "UM_REST_URL": exchange.http,
        "DATA_DIR": folder / "data",
        "STATE_DIR": folder / "state",
        "INGEST__METRICS_PORT": 0,
        "MARKETS": "um",
        "CHANNELS": "depth20",
        "SYMBOLS": ",".join(symbols()),
    }
    return {f"MASERVER_{name}": str(value) for name, value in settings.items()}
