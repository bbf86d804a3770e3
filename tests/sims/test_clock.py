"""Machines that sleep and clocks that are stepped, as far as a process can see it."""

import struct
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from common.clock import SECOND_NS
from tests.conftest import Tell
from tests.sims.matrix import ALONE_AND_TWINS, accounted, collector_names, recording


class Clock:
    """The clocks of a process under test, by the file that moves them (`common.clock`)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "clock"
        self._moved_ns, self._slept_ns = 0, 0
        self._write()

    def _write(self) -> None:
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("<qq", self._moved_ns, self._slept_ns))

    def step(self, by_s: float) -> None:
        """As `date -s` does it."""
        self._moved_ns += int(by_s * SECOND_NS)
        self._write()

    def slept(self, for_s: float) -> None:
        """The machine was asleep: its boot-time clock went on and its monotonic clock did not."""
        self._slept_ns += int(for_s * SECOND_NS)
        self._write()


@ALONE_AND_TWINS
def test_a_laptop_that_sleeps(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """The sleep is a row `suspend` in every stream, and everything is connected anew."""
    clock = Clock(tmp_path)
    names = collector_names(collectors)
    with recording(tmp_path, collectors=collectors) as built:
        for name in names:
            assert built.stop(name) == 0
        for name in names:
            built.start(name, MASERVER_TEST_CLOCK=clock.path)
        time.sleep(5)
        built.exchange.fault("cut", how="half_open")
        with ExitStack() as asleep_together:
            for name in names:
                asleep_together.enter_context(built.paused(name))
            time.sleep(6)
            clock.slept(6)  # the monotonic clock went on too, so the wall clock seems to be stepped back as well
        time.sleep(7)
        result = accounted(built, tell, "suspend", "maintenance")
        asleep = [row for row in result.holding() if row.cause == "suspend"]
        assert len({row.stream for row in asleep}) == 20
        for name in names:
            assert "the machine slept for 6" in built.log(name)


@pytest.mark.parametrize("by_s", [3.0, -3.0])
def test_a_clock_that_is_stepped(by_s: float, tmp_path: Path, tell: Tell) -> None:
    """A step is a mark in every stream: nothing is missing, and every frame is archived."""
    clock = Clock(tmp_path)
    with recording(tmp_path) as built:
        assert built.stop("ingest") == 0
        built.start("ingest", MASERVER_TEST_CLOCK=clock.path)
        time.sleep(5)
        clock.step(by_s)
        time.sleep(4)
        clock.step(-by_s)  # back, so that the two clocks agree on what is compared
        time.sleep(3)
        result = accounted(built, tell, "maintenance")
        assert {(row.cause, row.frames_missing) for row in result.marks()} == {("suspend", 0)}
        assert len({row.stream for row in result.marks()}) == 20
        assert f"the clock was stepped by {'+' if by_s > 0 else '-'}" in built.log("ingest")
