"""A Compose project of the whole house, with a name, folders, ports and volumes of its own."""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from archiver import layout
from tests.e2e import images
from tests.redis_server import free_port
from tests.sims.exchange.client import Exchange
from tests.sims.house import AHEAD_S, JUDGED_S, unacknowledged

UID = 4321


def _missing() -> str:
    """Why there is no Docker engine with Compose here; empty where one answers."""
    if shutil.which("docker") is None:
        return "no docker on the PATH"
    for command in (("docker", "info"), ("docker", "compose", "version")):
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if run.returncode:
            return run.stderr.strip() or "no Docker engine answers"
    return ""


MISSING = _missing()
MARKS = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(MISSING) and os.environ.get("MASERVER_TEST_REQUIRE_DOCKER") != "1", reason=MISSING),
]


class Project:
    """The house as `compose.yaml` and `compose.sim.yaml` describe it.

    Args:
        folder: For data, state and reports.
        recordings: A folder that the exchange sees as `/recordings`.
        environ: More variables for `docker compose`.
    """

    def __init__(self, folder: Path, recordings: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        self.name = f"maserver-test-{secrets.token_hex(3)}"
        self.data, self.state = folder / "data", folder / "state"
        self.sim_port, self.redis_port = free_port(), free_port()
        folders = [f"{folder / name}:/{name}" for name in ("data", "state", "reports")]
        services = images.named()
        for name in ("init", "ingest", "archiver", "gate"):
            services[name]["volumes"] = folders
        services["redis"] = {"ports": [f"127.0.0.1:{self.redis_port}:6379"]}
        if recordings is not None:
            services["exchange"]["volumes"] = [f"{recordings.resolve()}:/recordings:ro"]
        override = folder / "override.yaml"
        override.write_text(json.dumps({"services": services}))
        named = [word for file in (*images.FILES, override) for word in ("-f", str(file))]
        self._command = ["docker", "compose", "--project-name", self.name, *named]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MASERVER_")}
        self._environ = clean | {
            "MASERVER_UID": str(UID),
            "MASERVER_GID": str(UID),
            "MASERVER_ARCHIVER__GRACE_S": "1.5",
            "MASERVER_ARCHIVER__LEASE_S": "2",
            "MASERVER_ARCHIVER__DEAD_AFTER_S": "4",
            # a minute is written in parts, so that a test need not wait for its end
            "MASERVER_ARCHIVER__STAGE_BYTES": "300000",
            # not one of those that are recorded: what only the gate receives would count as missing
            "MASERVER_GATE__CANARY_SYMBOL": "BNBUSDT",
            "MASERVER_TEST_SIM_ARGS": "--symbols BTCUSDT,ETHUSDT,BNBUSDT",
            "MASERVER_TEST_SIM_PORT": str(self.sim_port),
            **(environ or {}),
        }

    @property
    def network(self) -> str:
        return f"{self.name}_default"

    def run(self, *words: str, code: int = 0) -> str:
        """`docker compose ...`; gives its standard output."""
        command = [*self._command, *words]
        run = subprocess.run(
            command, env=self._environ, cwd=images.ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert run.returncode == code, f"{words}: {run.returncode}\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
        return run.stdout

    def containers(self, service: str) -> list[str]:
        return self.run("ps", "--quiet", service).split()

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.redis_port, socket_timeout=20)

    def exchange(self) -> Exchange:
        return Exchange.attached(f"http://127.0.0.1:{self.sim_port}")

    def minutes(self, kind: str) -> set[str]:
        """The streams that have a minute file: `um/depth20/BTCUSDT`."""
        root = self.data / kind
        return {str(path.relative_to(root).parent.parent) for path in root.rglob("??-??.*")}

    def until(self, reached: Callable[[], bool], within_s: float = 60.0) -> None:
        deadline = time.monotonic() + within_s
        while not reached():
            if time.monotonic() > deadline:
                raise TimeoutError(self.run("logs", "--tail", "30"))
            time.sleep(0.3)

    def received(self) -> int:
        """Entries that ever came into Redis; -1 while it does not answer."""
        try:
            with self.client() as client:
                return sum(client.xinfo_stream(name)["entries-added"] for name in client.smembers("md:streams"))
        except redis.RedisError:
            return -1

    def frames_come(self) -> None:
        """Waits until frames come into Redis."""
        self.until(lambda: self.received() >= 0)
        wanted = self.received() + 100
        self.until(lambda: self.received() > wanted)

    def books_come(self) -> None:
        """Waits until every book comes into Redis: each connection that was lost is there again."""
        self.frames_come()

        def added() -> dict[bytes, int]:
            with self.client() as client:
                books = [name for name in client.smembers("md:streams") if b":depth20:" in name]
                return {name: client.xinfo_stream(name)["entries-added"] for name in books}

        before = added()
        self.until(lambda: all(count > before.get(name, 0) + 5 for name, count in added().items()))

    def record_on(self) -> None:
        """Waits until frames come, and an archiver brings into files what was not there before."""
        self.frames_come()
        with self.client() as client:
            there = {name: client.xinfo_stream(name)["last-generated-id"] for name in client.smembers("md:streams")}

        def is_archived() -> bool:
            with self.client() as client:
                positions = {name: client.xinfo_groups(name)[0]["last-delivered-id"] for name in there}
            return any(_id(positions[name]) >= _id(last) for name, last in there.items())

        self.until(is_archived)

    def settle(self, offset_s: float = 0.0) -> None:
        """Stops collecting, and waits until everything is archived; the archiver's clock is ahead for that."""
        self.run("stop", "ingest")
        self.run("stop", "archiver")
        ahead = self.run("run", "-d", "-T", "-e", f"MASERVER_CLOCK_OFFSET_S={offset_s + AHEAD_S}", "archiver").split()[
            -1
        ]
        time.sleep(JUDGED_S)
        with self.client() as client:
            self.until(lambda: not unacknowledged(client))
        self.until(lambda: not layout.without_parquet(self.data, layout.streams(self.data)))
        subprocess.run(["docker", "stop", ahead], check=True, capture_output=True, timeout=60)


def _id(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))


@contextmanager
def running(project: Project) -> Iterator[Project]:
    """The project, up; everything of it is removed at the end."""
    assert not MISSING, MISSING
    images.build()
    try:
        project.run("up", "-d", "--no-build")
        yield project
    finally:
        project.run("down", "--volumes", "--remove-orphans", "--timeout", "5")


def inspect(container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(subprocess.check_output(["docker", "inspect", container], timeout=30))
    return found[0]
