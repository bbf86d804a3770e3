"""Connections that are lost."""

import time
from pathlib import Path

from tests.conftest import LENGTH, Tell
from tests.sims.matrix import LONG, accounted, all_connected, alone_and_twins, connections, recording

pytestmark = LONG

ROUNDS = max(1, round(LENGTH / 2))


@alone_and_twins("how", ["fin", "rst", "close", "half_open"], twins=["fin", "half_open"])
def test_every_connection_cut_at_once(collectors: int, how: str, tmp_path: Path, tell: Tell) -> None:
    """Every connection is lost: they are opened again, and the time between is in the ledger."""
    with recording(tmp_path, collectors=collectors) as built:
        for _ in range(ROUNDS):
            built.exchange.fault("cut", how=how)
            time.sleep(12 if how == "half_open" else 4)
        if ROUNDS > 1:  # a cut may hit a connection that was to replace another: the end is to be no gap besides
            all_connected(built, collectors, within_s=60.0)
            time.sleep(4)
        result = accounted(built, tell, "disconnect", "stale")
        assert result.holding()


@alone_and_twins("how", ["half_open"], twins=[])
def test_the_next_connection_dies_too(collectors: int, how: str, tmp_path: Path, tell: Tell) -> None:
    """It delivers, but is not proven yet, for a bar comes only now and then: a third one comes without much ado."""
    with recording(tmp_path, collectors=collectors) as built:
        old = connections(built)
        built.exchange.fault("cut", how=how)
        while sum(
            one["id"] > old[-1] and one["frames_sent"] > 0 for one in built.exchange.state()["connections"]
        ) < len(old):
            time.sleep(0.1)
        built.exchange.fault("cut", how=how)
        all_connected(built, collectors, within_s=20.0)
        time.sleep(4)  # for the slowest of the streams to speak, so that the end is no gap
        accounted(built, tell, "disconnect", "stale")
