"""Connections that are lost."""

import time
from pathlib import Path

from tests.conftest import LENGTH, Tell
from tests.sims.matrix import LONG, accounted, alone_and_twins, recording

pytestmark = LONG

ROUNDS = max(1, round(LENGTH / 2))


@alone_and_twins("how", ["fin", "rst", "close", "half_open"], twins=["fin", "half_open"])
def test_every_connection_cut_at_once(collectors: int, how: str, tmp_path: Path, tell: Tell) -> None:
    """Every connection is lost: they are opened again, and the time between is in the ledger."""
    with recording(tmp_path, collectors=collectors) as built:
        for _ in range(ROUNDS):
            built.exchange.fault("cut", how=how)
            time.sleep(12 if how == "half_open" else 4)
        result = accounted(built, tell, "disconnect", "stale")
        assert result.holding()
