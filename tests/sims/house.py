"""The whole house for a test: simulated exchange, real Redis, the services as processes that can be killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import redis

from archiver import layout
from common.streams import GROUP
from tests.redis_server import RedisServer
from tests.sims.exchange.client import Exchange

ROOT = Path(__file__).parents[2]
SETTLE_S = 90.0
JUDGED_S = 8.0
"""After so long an archiver has noticed a collector that died before it started (dead_after_s below, and a bit)."""

AHEAD_S = 200
"""An archiver whose clock is so far ahead finds every minute over, so a test need not wait for it."""


class House:
    """Everything that runs, in one folder.

    Args:
        folder: For data, state, Redis and logs.
        exchange: A running simulated exchange.
        redis: A running Redis.
        settings: `MASERVER_*` variables without the prefix.
        data: The data folder, where it is not `folder/data`.
    """

    def __init__(
        self,
        folder: Path,
        exchange: Exchange,
        redis: RedisServer,
        settings: Mapping[str, object],
        data: Path | None = None,
    ) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self.exchange = exchange
        self.redis = redis
        values = {
            "REDIS_URL": redis.url,
            "UM_WS_URL": exchange.um_ws,
            "SPOT_WS_URL": exchange.spot_ws,
            "UM_REST_URL": exchange.http,
            "SPOT_REST_URL": exchange.http,
            "DATA_DIR": self.data,
            "STATE_DIR": folder / "state",
            "INGEST__METRICS_PORT": 0,
            "GATE__METRICS_PORT": 0,
            "INGEST__BACKOFF_FIRST_S": 0.1,
            "INGEST__BACKOFF_MAX_S": 1,
            "ARCHIVER__METRICS_PORT": 0,
            "ARCHIVER__GRACE_S": 1.5,
            "ARCHIVER__LEASE_S": 2,
            "ARCHIVER__DEAD_AFTER_S": 4,
            "ARCHIVER__WORKERS": 1,
            **settings,
        }
        self.env = {f"MASERVER_{name}": str(value) for name, value in values.items()}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *, within: Sequence[str] = (), **env: object) -> None:
        """Starts a service: `ingest`, `archiver`, `gate`, or another instance of one: `archiver-2`.

        Args:
            name: Of the instance.
            within: A command that runs the rest of its line, as the same process.
            env: Added to the environment.
        """
        assert name not in self._processes
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*within, sys.executable, "-m", name.partition("-")[0]],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **self.env, **{key: str(value) for key, value in env.items()}},
            )

    def call_exchange(self, host: str) -> None:
        """The services that are started from now on find the exchange by this name."""
        for name in ("UM_WS_URL", "SPOT_WS_URL", "UM_REST_URL", "SPOT_REST_URL"):
            self.env[f"MASERVER_{name}"] = self.env[f"MASERVER_{name}"].replace("127.0.0.1", host)

    def process(self, name: str) -> "subprocess.Popen[bytes]":
        return self._processes[name]

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str, within_s: float = 15.0) -> int:
        """SIGTERM; gives the exit code."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            return process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """SIGSTOP around a step."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def metrics(self, name: str) -> str:
        """What a service tells Prometheus now."""
        lines = map(json.loads, self.log(name).splitlines())
        ports = [line["metrics_port"] for line in lines if "metrics_port" in line]
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[-1]}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def wait_for_frames(self, count: int, within_s: float = 30.0) -> None:
        """Waits until so many entries are in Redis, over all streams."""
        deadline = time.monotonic() + within_s
        with self.redis.client() as client:
            while sum(client.xinfo_stream(name)["entries-added"] for name in client.smembers("md:streams")) < count:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"fewer than {count} entries came\n{self.log('ingest')[-3000:]}")
                time.sleep(0.1)

    def wait_for_words(self, service: str, words: str, within_s: float = 60.0) -> None:
        """Waits until a service has said them in its log."""
        deadline = time.monotonic() + within_s
        while words not in self.log(service):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{service} did not say {words!r}\n{self.log(service)[-3000:]}")
            time.sleep(0.1)

    def settle(self) -> None:
        """Stops collecting, and waits until an archiver has written everything and moved its positions."""
        for name in list(self._processes):
            code = self.stop(name)
            assert code == 0, f"{name} ended with {code}\n{self.log(name)[-3000:]}"
        offset_s = float(self.env.get("MASERVER_CLOCK_OFFSET_S", 0))
        self.start("archiver", MASERVER_CLOCK_OFFSET_S=offset_s + AHEAD_S)
        time.sleep(JUDGED_S)
        deadline = time.monotonic() + SETTLE_S
        while left := self.unacknowledged() or layout.without_parquet(self.data, layout.streams(self.data)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not archived: {left}\n{self.log('archiver')[-3000:]}")
            time.sleep(0.2)
        assert self.stop("archiver") == 0

    def unacknowledged(self) -> dict[str, bytes]:
        """Streams with entries that are not durable in files yet, and how far they are."""
        with self.redis.client() as client:
            return unacknowledged(client)

    def close(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self._processes.clear()


def unacknowledged(client: "redis.Redis") -> dict[str, bytes]:
    """As `House.unacknowledged`, of any Redis. It checks too that nothing pends, and that Redis knows the lag."""
    left = {}
    for name in client.smembers("md:streams"):
        for group in client.xinfo_groups(name):
            if group["name"] == GROUP.encode():
                assert not group["pending"], f"{name!r} has pending entries"
                position = group["last-delivered-id"]
                if position != client.xinfo_stream(name)["last-generated-id"]:
                    left[str(name, "utf-8") if isinstance(name, bytes) else name] = position
                else:
                    assert group["lag"] in (0, None), f"{name!r} is archived, and has a lag of {group['lag']}"
    return left


@contextlib.contextmanager
def house(
    folder: Path,
    *exchange_args: str,
    redis_options: tuple[str, ...] = (),
    redis_folder: Path | None = None,
    data: Path | None = None,
    env: Mapping[str, str] | None = None,
    **settings: object,
) -> Iterator[House]:
    """An exchange, a Redis and a house around them; the services are not started yet."""
    with (
        Exchange.started(*exchange_args, env=env) as exchange,
        RedisServer(redis_folder or folder / "redis", *redis_options) as redis,
    ):
        built = House(folder, exchange, redis, settings, data)
        if env:
            built.env.update(env)
        try:
            yield built
        finally:
            built.close()
