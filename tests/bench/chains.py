"""One run of a chain: the house's or the naive one, at 5,000 frames/s or in flood, from the exchange to its files.

Before what counts, a few seconds warm everything up (imports, the archiver's workers). What counts begins with a
minute, because the exchange's clock and the services' are moved so that one begins then: no file of the minute before
is written again. Redis's and the archiver's CPU counts until all is written; ingest's while frames come.
"""

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from archiver import layout
from common.streams import Stream
from tests.bench.naive import GROUP, STREAM
from tests.bench.probe import Probe
from tests.bench.processes import Peak, Watcher, cpu_s, kept_frames
from tests.redis_server import RedisServer
from tests.sims.exchange.client import Exchange
from tests.sims.exchange.symbols import default_symbols
from tests.sims.house import AHEAD_S, ROOT, House

SYMBOLS = 500
SUSTAINED_RATE = 8.05
"""40,250 frames/s, for a little more than 40,000 must come: so many times the pace of `paced`."""

PROBED = 16
WARM_S = 4.0
LEAD_S = 20.0
"""The minute that counts begins so long after the exchange's start."""

GRACE_S = 2.0
PROBE_AFTER = 0.6
"""The probe looks in the last part of the time: the end of the minute, when files are written, is in it."""


@dataclass
class Run:
    """What one run gave.

    Attributes:
        frames: How many came into Redis.
        kept: How many ingest took and kept: in flood, what Redis does not take in time is on its disk.
        seconds: In so long.
        cpu_s: Process to CPU seconds per million frames: ingest's of those that it kept, the others' of those in Redis.
        latencies_ms: Send to Redis, sorted; none in flood.
        memory: Process to its peak.
        redis_bytes: Redis memory a frame, pending entry included where there is one.
        payload_bytes: Mean payload.
        files: Where the minute files are.
        minute: The name of the first minute that counts, `HH-MM`.
    """

    chain: str
    mode: str
    frames: int
    kept: int
    seconds: float
    cpu_s: dict[str, float]
    latencies_ms: list[float]
    memory: dict[str, Peak]
    redis_bytes: float
    payload_bytes: float
    files: Path
    minute: str

    @property
    def total_cpu_s(self) -> float:
        return sum(self.cpu_s.values())

    @property
    def frames_s(self) -> float:
        """Frames a second that came into Redis."""
        return self.frames / self.seconds

    @property
    def kept_s(self) -> float:
        """Frames a second that ingest kept."""
        return self.kept / self.seconds


class Chain(Protocol):
    """What a run asks of a chain."""

    files: Path

    @property
    def keys(self) -> Sequence[str]: ...

    def start_archiver(self) -> int: ...
    def start_ingest(self) -> int: ...
    def stop_ingest(self) -> None: ...
    def is_written(self) -> bool: ...
    def frames(self) -> int: ...
    def kept(self) -> int: ...
    def dead(self) -> str: ...
    def stop(self) -> None: ...


_LIGHT = ("--no-record", "--loop-books", "64")
"""What the exchange takes of the two cores is missing to the chain."""
_MODES = {"paced": (), "flood": ("--flood", *_LIGHT), "sustained": ("--rate", str(SUSTAINED_RATE), *_LIGHT)}
"""The exchange's arguments beside those that are always the same."""


def symbols() -> list[str]:
    return default_symbols(SYMBOLS)


def exchange_args(tls: dict[str, Path]) -> list[str]:
    """The simulated exchange of the bench: its symbols over TLS."""
    return ["--symbol-count", str(SYMBOLS), "--tls-cert", str(tls["cert"]), "--tls-key", str(tls["key"])]


class HouseChain:
    """The services as a user runs them; the archiver's clock is put ahead when no more comes, so that it writes all."""

    def __init__(
        self, folder: Path, exchange: Exchange, redis: RedisServer, env: dict[str, str], offset_s: float
    ) -> None:
        self.files = folder / "data"
        self._redis = redis
        self._offset_s = offset_s
        self._clock = folder / "archiver-clock"
        self._put_ahead(0)
        self._started: set[str] = set()
        names = symbols()
        self._house = House(
            folder,
            exchange,
            redis,
            {
                "MARKETS": "um",
                "CHANNELS": "depth20",
                "SYMBOLS": ",".join(names),
                "ARCHIVER__GRACE_S": GRACE_S,
                "ARCHIVER__WORKERS": 2,
                "ARCHIVER__LEASE_S": 10,
                "ARCHIVER__DEAD_AFTER_S": 15,
            },
        )
        self._house.env.update(env)
        self._streams = [Stream("um", "depth20", name) for name in names]
        self.keys = [stream.key for stream in self._streams]

    def start_archiver(self) -> int:
        self._started.add("archiver")
        self._house.start("archiver", MASERVER_CLOCK_OFFSET_S=self._offset_s, MASERVER_TEST_CLOCK=self._clock)
        return self._house.process("archiver").pid

    def _put_ahead(self, seconds: int) -> None:
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:  # it is mapped: the same file, always
            file.write(struct.pack("<qq", seconds * 1_000_000_000, 0))

    def start_ingest(self) -> int:
        self._put_ahead(0)
        self._started.add("ingest")
        self._house.start("ingest")
        return self._house.process("ingest").pid

    def stop_ingest(self) -> None:
        self._started.discard("ingest")
        self._house.stop("ingest", 60)
        self._put_ahead(AHEAD_S)

    def is_written(self) -> bool:
        return not self._house.unacknowledged() and not layout.without_parquet(self.files, self._streams)

    def frames(self) -> int:
        with self._redis.client() as client, client.pipeline(transaction=False) as pipeline:
            for key in self.keys:
                pipeline.xinfo_stream(key)
            return sum(
                reply["entries-added"] for reply in pipeline.execute(raise_on_error=False) if isinstance(reply, dict)
            )

    def kept(self) -> int:
        return kept_frames(self._house)

    def dead(self) -> str:
        """The end of the log of a service that ended by itself; empty while all live."""
        for name in self._started:
            if self._house.process(name).poll() is not None:
                return f"{name} ended\n{self._house.log(name)[-2000:]}"
        return ""

    def stop(self) -> None:
        if not self.dead():
            self._house.stop("archiver", 60)
        self._house.close()


class NaiveChain:
    """`tests.bench.naive` as two processes."""

    keys = (STREAM,)

    def __init__(
        self, folder: Path, exchange: Exchange, redis: RedisServer, env: dict[str, str], offset_s: float
    ) -> None:
        self.files = folder / "files"
        self._exchange = exchange
        self._redis = redis
        self._env = {**os.environ, **env}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def _start(self, name: str, *args: str) -> int:
        command = [sys.executable, "-m", "tests.bench.naive", name, *args]
        self._processes[name] = subprocess.Popen(command, cwd=ROOT, env=self._env)
        return self._processes[name].pid

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # its queue has grown past its hearing
            process.kill()
            process.wait()

    def start_archiver(self) -> int:
        return self._start("archiver", self._redis.url, str(self.files))

    def start_ingest(self) -> int:
        return self._start("ingest", self._exchange.um_ws, self._redis.url, ",".join(symbols()))

    def stop_ingest(self) -> None:
        self._end("ingest")

    def is_written(self) -> bool:
        with self._redis.client() as client:
            group = client.xinfo_groups(STREAM)[0]
            last = client.xinfo_stream(STREAM)["last-generated-id"]
        read = group["name"] == GROUP.encode() and not group["pending"] and group["last-delivered-id"] == last
        return read and not any(self.files.rglob("*.jsonl"))

    def frames(self) -> int:
        with self._redis.client() as client:
            return int(client.xinfo_stream(STREAM)["entries-added"]) if client.exists(STREAM) else 0

    def kept(self) -> int:
        return self.frames()

    def dead(self) -> str:
        """Which process ended by itself; empty while all live."""
        return ", ".join(f"{name} ended" for name, process in self._processes.items() if process.poll() is not None)

    def stop(self) -> None:
        for name in list(self._processes):
            self._end(name)


CHAINS: dict[str, type[HouseChain] | type[NaiveChain]] = {"house": HouseChain, "naive": NaiveChain}


@contextmanager
def _stage(
    name: str, mode: str, folder: Path, tls: dict[str, Path]
) -> Iterator[tuple[Chain, Exchange, RedisServer, float]]:
    begins_s = time.time() + LEAD_S
    offset_s = -begins_s % 60
    env = {"MASERVER_CLOCK_OFFSET_S": f"{offset_s:.6f}", "SSL_CERT_FILE": str(tls["ca"])}
    args = [*exchange_args(tls), *_MODES[mode]]
    options = ("--maxmemory", "640mb") if mode == "sustained" else ()
    with Exchange.started(*args, env=env) as exchange, RedisServer(folder / "redis", *options) as redis:
        chain = CHAINS[name](folder, exchange, redis, env, offset_s)
        try:
            yield chain, exchange, redis, offset_s
        finally:
            chain.stop()


def run(name: str, mode: str, seconds: float, folder: Path, tls: dict[str, Path], say: Callable[[str], None]) -> Run:
    """Runs a chain once.

    Args:
        name: `house` or `naive`.
        mode: `paced` (5,000 frames/s), `sustained` (40,000 frames/s, Redis with the house's memory) or `flood`.
        seconds: How long frames come.
        folder: For everything that is written.
        tls: `ca`, `cert` and `key`.
        say: Gets what is being done.
    """
    folder.mkdir(parents=True)
    started_s = time.time()
    with _stage(name, mode, folder, tls) as (chain, exchange, redis, offset_s):
        archiver = chain.start_archiver()
        say("warming up")
        chain.start_ingest()
        _wait(chain, lambda: chain.frames() > 0)
        time.sleep(1.0 if mode == "flood" else WARM_S)
        chain.stop_ingest()
        _wait(chain, chain.is_written)
        time.sleep(max(0.0, started_s + LEAD_S + 0.3 - time.time()))
        empty = _kept(chain, redis)
        before = {"redis": cpu_s(redis.process.pid), "archiver": cpu_s(archiver)}
        frames_before = chain.frames()
        ingest = chain.start_ingest()
        _wait(chain, lambda: chain.frames() - frames_before > SYMBOLS)
        time.sleep(2.0)  # every connection is subscribed
        minute = time.strftime("%H-%M", time.gmtime(time.time() + offset_s))
        pids = {"ingest": ingest, "redis": redis.process.pid, "archiver": archiver}
        with Watcher(pids) as watcher:
            ingest_before, began_s = cpu_s(ingest), time.monotonic()
            kept_before, came_before = chain.kept(), chain.frames()
            say("measuring")
            time.sleep(seconds * PROBE_AFTER)
            redis_bytes, payload_bytes = _memory_a_frame(chain, redis, empty)
            latencies: list[float] = []
            rest_s = seconds * (1 - PROBE_AFTER)
            if mode == "paced":
                probed = symbols()[:: SYMBOLS // PROBED]
                keys = [key for key in chain.keys if key == STREAM or key.rpartition(":")[2] in probed]
                with Probe(redis.port, keys, probed, int(offset_s * 1e9)) as probe:
                    time.sleep(rest_s)
                latencies = probe.latencies_ms(exchange)
            else:
                time.sleep(rest_s)
            kept, came = chain.kept() - kept_before, chain.frames() - came_before
            ingest_cpu_s, took_s = cpu_s(ingest) - ingest_before, time.monotonic() - began_s
            chain.stop_ingest()
            say("waiting until all is written")
            _wait(chain, chain.is_written)
        frames = chain.frames() - frames_before
        millions = frames / 1e6
        return Run(
            chain=name,
            mode=mode,
            frames=came,
            kept=kept,
            seconds=took_s,
            cpu_s={
                "ingest": ingest_cpu_s / (kept / 1e6),
                "redis": (cpu_s(redis.process.pid) - before["redis"]) / millions,
                "archiver": (cpu_s(archiver) - before["archiver"]) / millions,
            },
            latencies_ms=latencies,
            memory=watcher.peaks,
            redis_bytes=redis_bytes,
            payload_bytes=payload_bytes,
            files=chain.files,
            minute=minute,
        )


def _kept(chain: Chain, redis: RedisServer) -> tuple[int, int]:
    """Bytes that Redis uses, and entries that it holds."""
    with redis.client() as client, client.pipeline(transaction=False) as pipeline:
        for key in chain.keys:
            pipeline.xlen(key)
        return client.info("memory")["used_memory"], sum(pipeline.execute())


def _memory_a_frame(chain: Chain, redis: RedisServer, empty: tuple[int, int]) -> tuple[float, float]:
    """Bytes of Redis and of payload for each entry since `empty`; nothing is trimmed before the minute is over."""
    used_bytes, entries = _kept(chain, redis)
    with redis.client() as client, client.pipeline(transaction=False) as pipeline:
        for key in chain.keys:
            pipeline.xrevrange(key, count=20 if len(chain.keys) > 1 else 2_000)
        sizes = [len(fields[b"d"]) for found in pipeline.execute() for _, fields in found if b"d" in fields]
    return (used_bytes - empty[0]) / (entries - empty[1]), sum(sizes) / len(sizes)


def _wait(chain: Chain, condition: Callable[[], bool], within_s: float = 300.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if dead := chain.dead():
            raise RuntimeError(dead)
        if time.monotonic() > deadline:
            raise TimeoutError("the chain did not get there")
        time.sleep(0.5)
