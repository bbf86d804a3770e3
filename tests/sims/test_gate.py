"""The latency gate and the collector that obeys it."""

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Tell
from tests.sims.house import House
from tests.sims.matrix import TWINS_IN_SOAK, accounted, collector_names, recording

QUICK: dict[str, Any] = {
    "CHANNELS": "depth20,aggTrade,markPrice,forceOrder", "MARKETS": "um",
    "GATE__PROBE_S": 2, "GATE__DWELL_S": 2, "GATE__WINDOW": 5, "GATE__SAMPLES": 3,
    "GATE__CLOSE_ABOVE_MS": 1000, "GATE__OPEN_BELOW_MS": 500,
}  # fmt: skip


SYMBOLS = ("BTCUSDT", "ETHUSDT")


def decisions(built: House, word: str) -> list[int]:
    """How often the gate said so of each symbol; of those that it judges in the same second it says so in one line."""
    said = Counter(
        symbol
        for names in re.findall(rf'"message": "um: ([^":]*): {word}: ', built.log("gate"))
        for symbol in names.split(", ")
    )
    return [said[symbol] for symbol in SYMBOLS]


def wait_for(built: House, word: str, within_s: float = 30.0) -> None:
    """Waits until it has said so of both."""
    deadline = time.monotonic() + within_s
    while not all(decisions(built, word)):
        assert time.monotonic() < deadline, built.log("gate")[-3000:]
        time.sleep(0.2)


def latency(built: House, seconds: float) -> None:
    built.exchange.fault("latency", seconds=seconds, market="um")


@pytest.mark.parametrize("mode", ["pause", "flag"])
def test_latency_step_by_step_past_the_threshold_and_back(mode: str, tmp_path: Path, tell: Tell) -> None:
    """The gate closes once and opens once, without flapping; paused there is a gap, flagged only a mark."""
    closed = {"pause": "closed", "flag": "flagged"}[mode]
    with recording(tmp_path, **QUICK, GATE__MODE=mode) as built:
        built.start("gate")
        wait_for(built, "latency valid")
        for seconds in (0.3, 0.7, 0.9):
            latency(built, seconds)
            time.sleep(4)
        assert decisions(built, closed) == [0, 0]
        for seconds in (1.4, 1.6):
            latency(built, seconds)
            time.sleep(4)
        wait_for(built, closed)
        for seconds in (0.9, 0.7):
            latency(built, seconds)
            time.sleep(5)
        assert decisions(built, "opened") == [0, 0]
        latency(built, 0.0)
        wait_for(built, "opened")
        time.sleep(4)
        assert (decisions(built, closed), decisions(built, "opened")) == ([1, 1], [1, 1])
        if mode == "pause":
            result = accounted(built, tell, "gate")
            assert result.missing
            assert {row.cause for row in result.holding()} == {"gate"}
        else:
            result = accounted(built, tell)
            assert result.missing == {}
            assert {(row.cause, row.frames_missing) for row in result.marks()} == {("gate", 0)}
            assert len({row.stream for row in result.marks()}) == 8


@TWINS_IN_SOAK
def test_a_gate_that_is_killed_leaves_the_recording_alone(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """Killed while closed: after a while the collector records again and says so; a gate that comes back is obeyed."""
    with recording(tmp_path, collectors=collectors, **QUICK, GATE__SILENT_AFTER_S=4) as built:
        built.start("gate")
        wait_for(built, "latency valid")
        latency(built, 2.0)
        wait_for(built, "closed")
        time.sleep(3)
        built.kill("gate")
        time.sleep(8)
        for name in collector_names(collectors):
            assert "the gate has given no sign" in built.log(name)
        latency(built, 0.0)
        time.sleep(2)
        built.start("gate")
        time.sleep(12)
        result = accounted(built, tell, "gate")
        assert result.missing


def test_a_collector_that_starts_while_the_gate_is_closed(tmp_path: Path, tell: Tell) -> None:
    """It reads the gate's state first and subscribes to nothing that is closed."""
    with recording(tmp_path, **QUICK) as built:
        built.start("gate")
        wait_for(built, "latency valid")
        latency(built, 2.0)
        wait_for(built, "closed")
        time.sleep(2)
        assert built.stop("ingest") == 0
        built.start("ingest")
        time.sleep(5)
        assert all(not one["streams"] for one in built.exchange.state()["connections"] if one["route"] == "public")
        latency(built, 0.0)
        wait_for(built, "opened")
        time.sleep(5)
        result = accounted(built, tell, "gate", "maintenance")
        assert all(row.to is not None for row in result.holding())
