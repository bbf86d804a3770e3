"""The real `compose.yaml` with the simulated exchange: it records, confined and within its memory, and outlives kills.

One project for all tests of this file, in the order of the file; each also runs alone. It has a name of its own, and
volumes, ports and folders of its own, so that a house that runs here is not touched.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.redis_server import free_port
from tests.sims.accounting import account, verify_holds
from tests.sims.exchange.client import Exchange
from tests.sims.house import AHEAD_S, JUDGED_S, unacknowledged

ROOT = Path(__file__).parents[2]
SERVICES = ("ingest", "archiver", "redis")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
CHANNELS = ("depth20", "aggTrade", "markPrice", "bookTicker")
UID = 4321
MINUTE_WITHIN_S = 180.0


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
pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(MISSING) and os.environ.get("MASERVER_TEST_REQUIRE_DOCKER") != "1", reason=MISSING),
]


class Project:
    """A Compose project of the whole house, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.name = f"maserver-test-{secrets.token_hex(3)}"
        self.data = folder / "data"
        self.sim_port, self.redis_port = free_port(), free_port()
        folders = [f"{folder / name}:/{name}" for name in ("data", "state", "reports")]
        services: dict[str, dict[str, list[str]]] = {
            name: {"volumes": folders} for name in ("init", "ingest", "archiver")
        }
        services["redis"] = {"ports": [f"127.0.0.1:{self.redis_port}:6379"]}
        override = folder / "override.yaml"
        override.write_text(json.dumps({"services": services}))
        files = (ROOT / "compose.yaml", ROOT / "compose.sim.yaml", override)
        named = [word for file in files for word in ("-f", str(file))]
        self._command = ["docker", "compose", "--project-name", self.name, *named]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MASERVER_")}
        self._environ = clean | {
            "MASERVER_UID": str(UID),
            "MASERVER_GID": str(UID),
            "MASERVER_SYMBOLS": ",".join(SYMBOLS),
            "MASERVER_CHANNELS": ",".join(CHANNELS),
            "MASERVER_ARCHIVER__GRACE_S": "1.5",
            "MASERVER_ARCHIVER__LEASE_S": "2",
            "MASERVER_ARCHIVER__DEAD_AFTER_S": "4",
            "MASERVER_TEST_SIM_PORT": str(self.sim_port),
        }

    def run(self, *words: str, code: int = 0) -> str:
        """`docker compose ...`; gives its standard output."""
        command = [*self._command, *words]
        run = subprocess.run(
            command, env=self._environ, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
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

    def record_on(self) -> None:
        """Waits until frames come and are read by an archiver."""
        self.until(lambda: self.received() >= 0)
        wanted = self.received() + 100

        def is_reading() -> bool:
            with self.client() as client:
                lags = [client.xinfo_groups(name)[0]["lag"] for name in client.smembers("md:streams")]
            return self.received() > wanted and max(lag or 0 for lag in lags) < 50

        self.until(is_reading)


def inspect(container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(subprocess.check_output(["docker", "inspect", container], timeout=30))
    return found[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The house, recording; everything of it is removed at the end."""
    assert not MISSING, MISSING
    built = Project(tmp_path_factory.mktemp("compose"))
    try:
        built.run("up", "-d", "--build")
        yield built
    finally:
        built.run("down", "--volumes", "--remove-orphans", "--timeout", "5")


def test_containers_are_confined(project: Project) -> None:
    """Each container is a normal user's, without capabilities or new privileges, with a read-only root."""
    for service in (*SERVICES, "exchange"):
        (container,) = project.containers(service)
        host = inspect(container)["HostConfig"]
        assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"]) == (True, False, ["ALL"])
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        status = project.run("exec", "-T", service, "cat", "/proc/1/status")
        assert re.findall(r"^Cap(?:Eff|Prm|Bnd):\t(\d+)$", status, re.MULTILINE) == ["0" * 16] * 3
        uid = 999 if service == "redis" else UID
        assert re.search(rf"^Uid:\t{uid}\t{uid}\t", status, re.MULTILINE)
        project.run("exec", "-T", service, "sh", "-c", "! touch /there 2>/dev/null")


def test_minute_files_of_every_stream_appear(project: Project) -> None:
    """Within three minutes every channel of every symbol has a minute, raw and Parquet, that anyone can read."""
    wanted = {f"um/{channel}/{symbol}" for channel in CHANNELS for symbol in SYMBOLS}
    project.until(lambda: project.minutes("raw") == project.minutes("parquet") == wanted, MINUTE_WITHIN_S)
    for path in (each for kind in ("raw", "parquet") for each in (project.data / kind).rglob("*")):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (UID, UID), path
        assert found.st_mode & 0o044 == 0o044, path


def test_memory_stays_under_the_caps(project: Project) -> None:
    """After a minute of recording each container uses less than its cap, and has one."""
    project.until(lambda: bool(project.minutes("raw")), MINUTE_WITHIN_S)
    ids = [container for service in (*SERVICES, "exchange") for container in project.containers(service)]
    said = subprocess.check_output(["docker", "stats", "--no-stream", "--format", "{{json .}}", *ids], text=True)
    stats = [json.loads(line) for line in said.splitlines()]
    assert len(stats) == len(ids) == 4
    for container, one in zip(ids, stats, strict=True):
        assert inspect(container)["HostConfig"]["Memory"] > 0
        assert 0 < float(one["MemPerc"].rstrip("%")) < 90, one


def test_commands_run_in_a_container(project: Project) -> None:
    """`docker compose run --rm archiver status` shows what is recorded; a service's `--check-config` is good."""
    project.until(lambda: project.minutes("raw") != set(), MINUTE_WITHIN_S)
    shown = project.run("run", "--rm", "-T", "-e", "COLUMNS=200", "archiver", "status")
    assert "Recorded (UTC)" in shown
    assert [stream for stream in project.minutes("raw") if stream.rpartition("/")[2] not in shown] == []
    checked = project.run("run", "--rm", "-T", "ingest", "python", "-m", "ingest", "--check-config")
    assert checked == "ingest: the configuration is good\n"


def test_archivers_scale(project: Project) -> None:
    """With `--scale archiver=2` each of the two holds shards, and no shard has two holders."""
    project.run("up", "-d", "--no-recreate", "--scale", "archiver=2")

    def held() -> list[set[str]]:
        found = []
        for container in project.containers("archiver"):
            run = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True, timeout=30)
            lists = re.findall(r"shards held: \[([\d, ]*)\]", run.stdout + run.stderr)
            found.append(set(re.findall(r"\d+", lists[-1])) if lists else set())
        return found

    def are_shared() -> bool:
        shares = held()
        return len(shares) == 2 and all(shares) and not shares[0] & shares[1] and len(shares[0] | shares[1]) == 8

    project.until(are_shared)
    project.record_on()


def test_a_process_that_dies_is_started_again(project: Project) -> None:
    """A collector that is killed within its container is back by itself."""
    (container,) = project.containers("ingest")
    before = inspect(container)["RestartCount"]
    subprocess.run(
        ["docker", "exec", container, "sh", "-c", "kill -9 -1"], capture_output=True, check=False, timeout=30
    )
    project.until(lambda: bool(inspect(container)["RestartCount"] > before))
    project.record_on()


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_container_goes_on(project: Project, service: str) -> None:
    """After `docker compose kill` of a service, and `up` again, it records on."""
    project.run("kill", "-s", "KILL", service)
    time.sleep(1)
    project.run("up", "-d", "--no-recreate")
    project.record_on()


def test_down_and_up_goes_on(project: Project) -> None:
    """After `down` and `up` of the house, with new containers, it records on; the exchange sends all the while."""
    before = {container for service in SERVICES for container in project.containers(service)}
    project.run("down", "init", *SERVICES)
    assert [project.containers(service) for service in SERVICES] == [[], [], []]
    project.run("up", "-d")
    assert not before & {container for service in SERVICES for container in project.containers(service)}
    project.record_on()


def test_nothing_was_lost_but_what_the_ledger_says(project: Project) -> None:
    """After all of this each frame sent is archived once or lies in a row of the ledger, and `verify` finds nothing."""
    project.record_on()
    project.run("stop", "ingest")
    project.run("stop", "archiver")
    ahead = project.run("run", "-d", "-T", "-e", f"MASERVER_CLOCK_OFFSET_S={AHEAD_S}", "archiver").split()[-1]
    time.sleep(JUDGED_S)
    with project.client() as client:
        project.until(lambda: not unacknowledged(client))
    subprocess.run(["docker", "stop", ahead], check=True, capture_output=True, timeout=60)
    assert project.run("run", "--rm", "-T", "archiver", "verify") == "everything holds\n"
    result = account(project.exchange(), project.data)
    assert (result.doubled, result.alien) == ({}, {})
    assert result.archived > 1000
    assert result.story() == ""
    assert result.causes() <= {"crash", "maintenance"}
    assert verify_holds(project.data) == []
