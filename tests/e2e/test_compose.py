"""The real `compose.yaml` with the simulated exchange: it records, confined and within its memory, and outlives kills.

One project for all tests of this file, in the order of the file; each also runs alone. It has a name of its own, and
volumes, ports and folders of its own, so that a house that runs here is not touched.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.e2e.project import MARKS, UID, Project, inspect, running
from tests.sims.accounting import account, verify_holds

SERVICES = ("ingest", "archiver", "gate", "redis")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
CHANNELS = ("depth20", "aggTrade", "markPrice", "bookTicker")
MINUTE_WITHIN_S = 180.0
pytestmark = MARKS


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The house, recording."""
    environ = {"MASERVER_SYMBOLS": ",".join(SYMBOLS), "MASERVER_CHANNELS": ",".join(CHANNELS)}
    with running(Project(tmp_path_factory.mktemp("compose"), environ=environ)) as built:
        yield built


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
    assert len(stats) == len(ids) == 5
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
    assert [project.containers(service) for service in SERVICES] == [[]] * len(SERVICES)
    project.run("up", "-d")
    assert not before & {container for service in SERVICES for container in project.containers(service)}
    project.record_on()


def test_nothing_was_lost_but_what_the_ledger_says(project: Project) -> None:
    """After all of this each frame sent is archived once or lies in a row of the ledger, and `verify` finds nothing."""
    project.record_on()
    project.settle()
    assert project.run("run", "--rm", "-T", "archiver", "verify") == "everything holds\n"
    result = account(project.exchange(), project.data)
    assert (result.doubled, result.alien) == ({}, {})
    assert result.archived > 1000
    assert result.story() == ""
    assert result.causes() <= {"crash", "maintenance"}
    assert verify_holds(project.data) == []
