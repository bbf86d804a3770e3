"""Connections that are lost."""

import time
from pathlib import Path

import pytest

from tests.conftest import LENGTH, Tell
from tests.sims.matrix import LONG, accounted, recording

pytestmark = LONG

ROUNDS = max(1, round(LENGTH / 2))


@pytest.mark.parametrize("how", ["fin", "rst", "close", "half_open"])
def test_every_connection_cut_at_once(how: str, tmp_path: Path, tell: Tell) -> None:
    """Every connection is lost: they are opened again, and the time between is in the ledger."""
    with recording(tmp_path) as built:
        for _ in range(ROUNDS):
            built.exchange.fault("cut", how=how)
            time.sleep(12 if how == "half_open" else 4)
        result = accounted(built, tell, "disconnect", "stale")
        assert result.holding()
