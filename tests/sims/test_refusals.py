"""Reconnects that the exchange refuses."""

import time
from pathlib import Path

from tests.conftest import Tell
from tests.sims.matrix import ALONE_AND_TWINS, LONG, accounted, all_connected, alone_and_twins, recording

pytestmark = LONG

RATE_LIMIT: dict[str, object] = {"status": 429, "retry_after": 1}


@alone_and_twins("refusal", [RATE_LIMIT, {"status": 403}, {"status": 503}, {"refuse": True}], twins=[RATE_LIMIT])
def test_a_reconnect_that_is_refused(collectors: int, refusal: dict[str, object], tmp_path: Path, tell: Tell) -> None:
    """The exchange refuses the handshakes after a cut: tried again until it lets us in; one row for the whole time."""
    with recording(tmp_path, collectors=collectors) as built:
        built.exchange.fault("handshake", n=6 * collectors, **refusal)
        built.exchange.fault("cut", how="fin")
        time.sleep(9)
        accounted(built, tell, "disconnect")
        assert "answered the handshake" in built.log("ingest") or "no connection" in built.log("ingest")


@ALONE_AND_TWINS
def test_nobody_listens_for_a_while(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """The exchange's ports are closed for some seconds."""
    with recording(tmp_path, collectors=collectors) as built:
        built.exchange.fault("handshake", refuse=True, seconds=5.0)
        built.exchange.fault("cut", how="rst")
        time.sleep(8)
        all_connected(built, collectors)  # who was refused 20 times waits for its next turn
        time.sleep(2)
        accounted(built, tell, "disconnect")
