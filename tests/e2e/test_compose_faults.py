"""Faults that only containers have, in the real `compose.yaml`: networks and names that go away, frozen services.

One project for all tests of this file, recording both markets. Each test is a fault, and notes when it was and which
causes a gap in that time may have; the last one compares what was sent with the archive and the ledger.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from common.clock import SECOND_NS, now_ns
from common.ledger import Row
from tests.e2e.network import nameless, offline
from tests.e2e.project import MARKS, Project, running
from tests.sims.accounting import account, verify_holds

pytestmark = MARKS

SETTINGS = {
    "MASERVER_MARKETS": "um,spot",
    "MASERVER_SYMBOLS": "BTCUSDT,ETHUSDT",
    "MASERVER_CHANNELS": "depth20,aggTrade,markPrice,bookTicker",
    "MASERVER_INGEST__BACKOFF_MAX_S": "2",
    "MASERVER_GATE__WINDOW": "5",
    "MASERVER_GATE__SAMPLES": "3",
    "MASERVER_GATE__DWELL_S": "2",
    "MASERVER_GATE__PROBE_S": "2",
    "MASERVER_GATE__SILENT_AFTER_S": "4",
}
LATE_S = 3.0
"""More than the latency at which the gate closes; the step to it is no silence that `verify` would ask a row for."""

AWAY_S = 10.0

NO_NAME = "no connection: .*(?:Name or service not known|Temporary failure in name resolution)"


class Fault(NamedTuple):
    """What was done, from when to when, and the causes that a gap of it may have."""

    name: str
    from_ns: int
    to_ns: int
    causes: frozenset[str]

    def explains(self, row: Row) -> bool:
        """Whether the gap lies in the fault's time and has a cause of it."""
        to_ns = row.to_ns if row.to_ns is not None else self.to_ns
        return row.cause in self.causes and self.from_ns - SECOND_NS <= row.from_ns and to_ns <= self.to_ns + SECOND_NS


@dataclass
class Recording:
    """The house, and what was done to it so far."""

    project: Project
    faults: list[Fault] = field(default_factory=list)

    @contextmanager
    def fault(self, name: str, *causes: str) -> Iterator[None]:
        """A fault; it is over when every book comes again."""
        from_ns = now_ns()
        yield
        self.project.books_come()
        self.faults.append(Fault(name, from_ns, now_ns(), frozenset(causes)))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """The house, recording, and the gate knowing the latency."""
    with running(Project(tmp_path_factory.mktemp("faults"), environ=SETTINGS)) as project:
        project.record_on()
        project.until(lambda: "latency valid" in said(project, "gate"))
        yield Recording(project)


def said(project: Project, service: str) -> str:
    """The log of a service's containers."""
    return project.run("logs", "--no-log-prefix", service)


def says(project: Project, service: str, pattern: str) -> Callable[[], bool]:
    """Whether the service has said so since now."""

    def count() -> int:
        return len(re.findall(pattern, said(project, service)))

    before = count()
    return lambda: count() > before


def spilled(project: Project) -> int:
    """Bytes of frames that wait on the collectors' disk."""
    return sum(path.stat().st_size for path in (project.state / "spill").rglob("*.batches"))


def test_the_collector_loses_its_network(recording: Recording) -> None:
    """Neither the exchange nor Redis is there, nor a name server; what was in hand comes later."""
    project = recording.project
    failing = says(project, "ingest", NO_NAME)
    back = says(project, "ingest", "redis takes everything again")
    with recording.fault("network", "disconnect", "stale"):
        with offline(project, "ingest"):
            project.exchange().fault("cut", how="rst")
            time.sleep(AWAY_S)
            project.until(failing)
            assert spilled(project)
        project.until(back)


def test_the_exchange_loses_its_name(recording: Recording) -> None:
    """The connections are cut, and the name is not found when they are to be opened again."""
    project = recording.project
    failing = says(project, "ingest", NO_NAME)
    with recording.fault("name", "disconnect"), nameless(project, "exchange"):
        project.exchange().fault("cut", how="fin")
        time.sleep(AWAY_S)
        assert failing()


def test_redis_is_frozen(recording: Recording) -> None:
    """What comes goes to disk, and from there to Redis: no gap."""
    project = recording.project
    back = says(project, "ingest", "redis takes everything again")
    with recording.fault("frozen"):
        project.run("pause", "redis")
        time.sleep(AWAY_S)
        assert spilled(project)
        project.run("unpause", "redis")
        project.until(back)


def test_the_collector_is_restarted_while_redis_is_away(recording: Recording) -> None:
    """The next collector sends what the first one left on disk; only the time between them is missing."""
    project = recording.project
    with recording.fault("restart", "maintenance"):
        project.run("stop", "redis")
        time.sleep(AWAY_S)
        assert spilled(project)
        adopting = says(project, "ingest", "that an earlier collector could not send")
        project.run("restart", "ingest")
        project.until(adopting)
        time.sleep(AWAY_S / 2)
        project.run("start", "redis")
        project.until(lambda: not spilled(project))


def test_either_of_two_collectors_is_killed(recording: Recording) -> None:
    """With `--scale ingest=2` one at a time is killed and comes again: no gap."""
    project = recording.project
    with recording.fault("twins"):
        project.run("up", "-d", "--no-recreate", "--scale", "ingest=2")
        twins = project.containers("ingest")
        assert len(twins) == 2
        for container in twins:
            both_record(project)
            subprocess.run(["docker", "kill", container], check=True, capture_output=True, timeout=30)
            time.sleep(5)
            project.run("up", "-d", "--no-recreate", "--scale", "ingest=2")
        both_record(project)
        project.run("up", "-d", "--no-recreate", "--scale", "ingest=1")


def both_record(project: Project) -> None:
    """Waits until each stream of the exchange goes to two collectors."""
    exchange = project.exchange()

    def is_shared() -> bool:
        return all(
            stream["subscribers"] == 2
            for market in ("um", "spot")
            for name, stream in exchange.streams(market).items()
            if "depth20" in name  # the gate takes none of these
        )

    project.until(is_shared)
    time.sleep(2)


def status(project: Project) -> str:
    """What `docker compose run --rm gate status` shows, one blank between words."""
    return re.sub(r"[ │]+", " ", project.run("run", "--rm", "-T", "gate", "status"))


def test_the_gate_closes_opens_and_is_killed(recording: Recording) -> None:
    """`gate status` shows it closed and open again, with its decisions; without a gate the collector goes on."""
    project, exchange = recording.project, recording.project.exchange()
    with recording.fault("gate", "gate"):
        # each symbol by its own samples: the two may close in one second, in one line, or one after the other
        closed, opened = (
            [says(project, "gate", rf'"um: [^":]*\b{symbol}\b[^":]*: {word}:') for symbol in ("BTCUSDT", "ETHUSDT")]
            for word in ("closed", "opened")
        )
        exchange.fault("latency", seconds=LATE_S, market="um")
        project.until(lambda: all(one() for one in closed))
        shown = status(project)
        assert len(re.findall(r"^ um (?:BTC|ETH)USDT .* closed valid ", shown, re.MULTILINE)) == 2, shown
        exchange.fault("latency", seconds=0, market="um")
        project.until(lambda: all(one() for one in opened))
        shown = status(project)
        assert len(re.findall(r"^ um (?:BTC|ETH)USDT .* open valid ", shown, re.MULTILINE)) == 2, shown
        for decision in ("closed", "opened"):
            assert len(re.findall(rf" um (?:BTC|ETH)USDT {decision} ", shown)) == 2, shown
    with recording.fault("gate killed"):
        alone, again = (says(project, "ingest", words) for words in ("no sign for 4 s", "the gate is there again"))
        project.run("kill", "-s", "KILL", "gate")
        project.until(alone)
        assert "the gate has given no sign for" in status(project)
        project.record_on()
        project.run("up", "-d", "--no-recreate")
        project.until(again)


def test_each_frame_is_archived_or_in_the_ledger(recording: Recording) -> None:
    """After all of this: each frame once, a row for each gap, no row without one, and each within its fault."""
    project, faults = recording.project, recording.faults
    project.record_on()
    project.settle()
    result = account(project.exchange(), project.data)
    told = "\n".join(map(str, (*faults, *result.rows)))
    assert result.archived > 1000
    assert result.verdict({cause for fault in faults for cause in fault.causes}) == "", told
    stray = [row for row in result.holding() if not any(fault.explains(row) for fault in faults)]
    assert stray == [], told
    for fault in faults:
        assert bool(fault.causes) == any(fault.explains(row) for row in result.holding()), (fault, told)
    assert spilled(project) == 0
    assert verify_holds(project.data) == []
