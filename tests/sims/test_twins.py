"""Two collectors: what one loses the other has."""

import time
from pathlib import Path

import pytest

from tests.conftest import LENGTH, Tell
from tests.sims.house import House
from tests.sims.matrix import LONG, accounted, all_connected, connections, recording

pytestmark = LONG

ROUNDS = max(1, round(LENGTH / 2))


@pytest.mark.parametrize("how", ["fin", "rst", "half_open"])
def test_a_twin_covers_what_one_collector_loses(how: str, tmp_path: Path, tell: Tell) -> None:
    """Two collectors, one of which loses a connection again and again: nothing is missing, and no row says so."""
    with recording(tmp_path, collectors=2) as built:
        for _ in range(2 * ROUNDS):
            built.exchange.fault("cut", how=how, connection=connections(built)[0])
            time.sleep(9 if how == "half_open" else 4)
        result = accounted(built, tell)
        assert result.missing == {}


def test_a_collector_killed_beside_its_twin(tmp_path: Path, tell: Tell) -> None:
    """SIGKILL of either of two collectors leaves the ledger empty."""
    with recording(tmp_path, collectors=2) as built:
        built.kill("ingest")
        time.sleep(7)
        built.start("ingest")
        time.sleep(7)
        built.kill("ingest-2")
        time.sleep(7)
        assert accounted(built, tell).missing == {}


def _of_one_collector(built: House) -> list[int]:
    """The older half of the connections, when all are there: those of one collector."""
    found = all_connected(built, 2)
    return found[: len(found) // 2]


def test_two_collectors_cut_out_of_phase(tmp_path: Path, tell: Tell) -> None:
    """Each of two collectors loses all its connections again and again, never both at once: nothing is missing."""
    every_s = 8.0 if LENGTH <= 2 else 20.0
    with recording(tmp_path, warm_s=1.0) as built:
        all_connected(built, 1)  # before the twin begins: else its connections stand between the first one's
        built.start("ingest-2")
        all_connected(built, 2)
        time.sleep(2.0)
        ends_s = time.monotonic() + (24 if LENGTH <= 2 else 600)
        while time.monotonic() < ends_s:
            for mine in (0, 1):
                for number in _of_one_collector(built):  # the older half is the one that was not cut last
                    built.exchange.fault("cut", how=("fin", "rst")[mine], connection=number)
                time.sleep(every_s / 2)
        assert accounted(built, tell).missing == {}
