"""This tree's collector and another checkout's, at the same time on one exchange: the machine's noise hits both alike.

5,000 frames/s of depth20 over TLS, each into a Redis of its own that nobody reads. Which of two versions costs more is
seen here at differences of a few per cent; turns (`chains`) differ by a third on a shared machine.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.chains import SYMBOLS, symbols
from tests.bench.processes import added, cpu_s, end
from tests.redis_server import RedisServer
from tests.sims.exchange.client import Exchange
from tests.sims.house import ROOT

SECONDS = 25.0
WARM_S = 10.0
FRAMES_S = 10 * SYMBOLS


@dataclass(frozen=True)
class Pair:
    """Ours and the other's CPU seconds per million frames: the collector's, and its Redis's."""

    ingest: tuple[float, float]
    redis: tuple[float, float]


def measure(folder: Path, tls: dict[str, Path], other: Path, rounds: int, say: Callable[[str], None]) -> Pair:
    """Medians of several rounds.

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
    ingest, redis = (
        tuple(statistics.median(part[n] for part in parts) for n in (0, 1))
        for parts in ([one.ingest for one in found], [one.redis for one in found])
    )
    return Pair((ingest[0], ingest[1]), (redis[0], redis[1]))


def _run(folder: Path, tls: dict[str, Path], other: Path) -> Pair:
    args = ("--symbol-count", str(SYMBOLS), "--tls-cert", str(tls["cert"]), "--tls-key", str(tls["key"]), "--no-record")
    with ExitStack() as stack:
        exchange = stack.enter_context(Exchange.started(*args, env={"SSL_CERT_FILE": str(tls["ca"])}))
        pids, servers = [], []
        for name, tree in (("ours", ROOT), ("other", other)):
            redis = stack.enter_context(RedisServer(folder / name / "redis"))
            ingest = _start(stack, folder / name, tree, exchange, redis, tls)
            pids.append((ingest.pid, redis.process.pid))
            servers.append(redis)
        time.sleep(WARM_S)
        frames_before = [added(redis) for redis in servers]
        before = [[cpu_s(pid) for pid in pair] for pair in pids]
        began_s = time.monotonic()
        time.sleep(SECONDS)
        came = [added(redis) - was for redis, was in zip(servers, frames_before, strict=True)]
        if min(came) < 0.9 * (time.monotonic() - began_s) * FRAMES_S:
            raise RuntimeError(f"of {FRAMES_S:,} frames/s only {min(came):,} came in {SECONDS:g} s")
        used = [
            [(cpu_s(pid) - was) / frames * 1e6 for pid, was in zip(*each, strict=True)]
            for *each, frames in zip(pids, before, came, strict=True)
        ]
        return Pair((used[0][0], used[1][0]), (used[0][1], used[1][1]))


def _start(
    stack: ExitStack, folder: Path, tree: Path, exchange: Exchange, redis: RedisServer, tls: dict[str, Path]
) -> "subprocess.Popen[bytes]":
    """Only with settings that every version knows."""
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
    env = {f"MASERVER_{name}": str(value) for name, value in settings.items()}
    log = stack.enter_context((folder / "ingest.out").open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", "ingest"],
        cwd=tree,
        env={**os.environ, "SSL_CERT_FILE": str(tls["ca"]), **env},
        stdout=log,
        stderr=log,
    )
    stack.callback(end, process)
    return process
