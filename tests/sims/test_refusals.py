"""Reconnects that the exchange refuses."""

import time
from pathlib import Path

import pytest

from tests.conftest import Tell
from tests.sims.matrix import LONG, accounted, recording

pytestmark = LONG


@pytest.mark.parametrize(
    "refusal", [{"status": 429, "retry_after": 1}, {"status": 403}, {"status": 503}, {"refuse": True}], ids=str
)
def test_a_reconnect_that_is_refused(refusal: dict[str, object], tmp_path: Path, tell: Tell) -> None:
    """The exchange refuses the handshakes after a cut: tried again until it lets us in; one row for the whole time."""
    with recording(tmp_path) as built:
        built.exchange.fault("handshake", n=6, **refusal)
        built.exchange.fault("cut", how="fin")
        time.sleep(9)
        accounted(built, tell, "disconnect")
        assert "answered the handshake" in built.log("ingest") or "no connection" in built.log("ingest")


def test_nobody_listens_for_a_while(tmp_path: Path, tell: Tell) -> None:
    """The exchange's ports are closed for some seconds."""
    with recording(tmp_path) as built:
        built.exchange.fault("handshake", refuse=True, seconds=5.0)
        built.exchange.fault("cut", how="rst")
        time.sleep(10)
        accounted(built, tell, "disconnect")
