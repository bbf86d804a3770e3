"""Our collector and cryptofeed's, each alone, in flood: over TLS into Redis, and nobody reads what comes.

cryptofeed wants libraries of its own, so it is run by another interpreter (`--cryptofeed`). Book tickers are what both
take from the exchange as they are. It knows no partial books: it takes snapshots by REST and changes, keeps the books
and writes the changes; ours takes the partial books (1 KB) and keeps none. Recorded changes have 350 bytes a frame
(the means of two recordings of small symbols, 2021) to 510, 650, 670, 1,390 and 1,620 (five of BTCUSDT, 2023 and 2024).
"""

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.chains import SYMBOLS, exchange_args, symbols
from tests.bench.processes import Peak, Watcher, added, cpu_s, kept_frames, running
from tests.redis_server import RedisServer
from tests.sims.exchange.client import Exchange
from tests.sims.house import ROOT, House

SECONDS = 10.0
WARM_S = 3.0
SCRIPT = ROOT / "tests" / "bench" / "cryptofeed_ingest.py"


CHANNELS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "book tickers": ("bookTicker", "ticker", ()),
    "books": ("depth20", "l2_book", ()),
    "books like BTCUSDT": ("depth20", "l2_book", ("--changes", "20")),
}
"""What is collected: our channel, cryptofeed's, and the exchange's arguments."""


@dataclass(frozen=True)
class Collected:
    """What one collector gave: CPU seconds per million frames and frames a second, of those that it kept, and its peak
    of memory."""

    cpu_s: float
    frames_s: float
    memory: Peak


def measure(
    folder: Path, tls: dict[str, Path], python: Path, rounds: int, say: Callable[[str], None]
) -> dict[str, dict[str, list[Collected]]]:
    """Runs both in turns, with each of `CHANNELS`.

    Args:
        folder: For everything that is written.
        tls: `ca`, `cert` and `key`.
        python: An interpreter that has cryptofeed.
        rounds: How many turns of each.
        say: Gets what is being done.
    """
    found: dict[str, dict[str, list[Collected]]] = {what: {"house": [], "cryptofeed": []} for what in CHANNELS}
    for number in range(rounds):
        for what, (ours, theirs, made) in CHANNELS.items():
            args = [*exchange_args(tls), "--flood", "--no-record", *made]
            env = {"SSL_CERT_FILE": str(tls["ca"])}
            for name, channel in (("house", ours), ("cryptofeed", theirs)):
                say(f"{what}, {name}, round {number + 1} of {rounds}")
                where = folder / f"{name}-{what.replace(' ', '-')}-{number}"
                with Exchange.started(*args, env=env) as exchange:
                    found[what][name].append(_run(name, channel, where, exchange, env, python))
    return found


def _run(name: str, channel: str, folder: Path, exchange: Exchange, env: dict[str, str], python: Path) -> Collected:
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(folder / "redis", "--maxmemory", "4gb"))
        if name == "house":
            settings = {"MARKETS": "um", "CHANNELS": channel, "SYMBOLS": ",".join(symbols())}
            house = House(folder, exchange, redis, settings)
            stack.callback(house.close)
            house.start("ingest", **env)
            process = house.process("ingest")
            count = partial(kept_frames, house)
        else:
            where = (exchange.um_ws, exchange.http, str(redis.port))
            command = [str(python), str(SCRIPT), channel, *where, ",".join(symbols())]
            process = stack.enter_context(running(command, folder, env, folder / "cryptofeed.out"))
            count = partial(added, redis)
        _wait(process, redis)
        with Watcher({name: process.pid}) as watcher:
            frames, used_s, began_s = count(), cpu_s(process.pid), time.monotonic()
            time.sleep(SECONDS)
            frames, used_s = count() - frames, cpu_s(process.pid) - used_s
            took_s = time.monotonic() - began_s
        if not frames:
            raise RuntimeError(f"{name}: nothing came in {took_s:.0f} s")
        return Collected(used_s / frames * 1e6, frames / took_s, watcher.peaks[name])


def _wait(process: "subprocess.Popen[bytes]", redis: RedisServer, within_s: float = 60.0) -> None:
    """Until frames have come for a while, from all connections."""
    deadline = time.monotonic() + within_s
    while added(redis) < SYMBOLS:
        if process.poll() is not None:
            raise RuntimeError(f"the collector ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came within {within_s:.0f} s")
        time.sleep(0.2)
    time.sleep(WARM_S)
