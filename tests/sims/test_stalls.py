"""Connections that are held up, and then deliver or die."""

import time
from pathlib import Path

from tests.conftest import LENGTH, Tell
from tests.sims.matrix import ALONE_AND_TWINS, LONG, accounted, alone_and_twins, recording

pytestmark = LONG

LATE_S = 1.2
"""Longer than a look at the connections, and than every stream's ordinary pause."""

STALL_S = 11.0 if LENGTH <= 2 else 30.0


@ALONE_AND_TWINS
def test_a_stall_and_then_a_burst(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """Everything is held back, then comes at once: doubted meanwhile, nothing is missing, and no row holds."""
    with recording(tmp_path, collectors=collectors) as built:
        built.exchange.fault("stall", seconds=STALL_S)
        time.sleep(STALL_S + 6)
        assert accounted(built, tell).missing == {}
        assert "is silent" in built.log("ingest")


@ALONE_AND_TWINS
def test_a_stall_that_ends_with_the_connection(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """What was held back is lost with the connection: it lies in a row."""
    with recording(tmp_path, collectors=collectors) as built:
        built.exchange.fault("stall", seconds=60.0, market="um")
        time.sleep(3)
        built.exchange.fault("cut", how="fin", market="um")
        time.sleep(5)
        accounted(built, tell, "disconnect")


@alone_and_twins("channels", ["depth20,aggTrade,markPrice,bookTicker", "depth20", "bookTicker"], twins=["depth20"])
def test_the_last_frames_and_the_end_come_late(collectors: int, channels: str, tmp_path: Path, tell: Tell) -> None:
    """The network was away while the exchange let go: what it had sent comes with the end, and nobody looked between.

    Of spot's depth20 and bookTicker no frame tells when it was sent.
    """
    with recording(tmp_path, collectors=collectors, CHANNELS=channels) as built:
        built.exchange.fault("stall", seconds=60.0)
        time.sleep(0.05)
        built.exchange.fault("cut", how="fin", late_s=LATE_S)
        time.sleep(5)
        result = accounted(built, tell, "disconnect")
        assert result.missing


@ALONE_AND_TWINS
def test_pings_without_pong(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """The exchange answers no pings: it is no loss while frames come."""
    with recording(tmp_path, collectors=collectors, INGEST__IDLE_PING_S=1) as built:
        built.exchange.fault("pongs", answers=False)
        time.sleep(10)
        built.exchange.fault("pongs", answers=True)
        accounted(built, tell, "disconnect")
