"""Connections that are replaced before they end: nothing is missing, and no row says that something were."""

import time
from pathlib import Path

import pytest

from tests.conftest import LENGTH, Tell
from tests.sims.matrix import ALONE_AND_TWINS, LONG, accounted, alone_and_twins, recording

pytestmark = LONG


def rotations(log: str) -> int:
    return log.count("the next connection has taken over")


def test_rotation_all_the_time(tmp_path: Path, tell: Tell) -> None:
    """Every connection is replaced again and again: each frame once, and an empty ledger."""
    every_s, for_s = (3, 20) if LENGTH <= 2 else (60, 600)
    with recording(tmp_path, INGEST__ROTATE_AFTER_S=every_s) as built:
        time.sleep(for_s)
        result = accounted(built, tell)
        assert result.missing == {}
        count = rotations(built.log("ingest"))
        tell(rotations=count)
        assert count >= 3 * (for_s // every_s // 2)


@pytest.mark.parametrize("how", ["close", "rst"])
def test_rotation_comes_before_the_cut_by_age(how: str, tmp_path: Path, tell: Tell) -> None:
    """The exchange cuts what is old; the house has replaced it before."""
    with recording(tmp_path, INGEST__ROTATE_AFTER_S=5) as built:
        built.exchange.fault("max_age", seconds=9.0, how=how)
        time.sleep(25)
        assert accounted(built, tell).missing == {}
        assert rotations(built.log("ingest")) >= 9


@ALONE_AND_TWINS
def test_an_age_cut_that_comes_first_is_in_the_ledger(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """Where the exchange cuts earlier than it should, the connection is opened again."""
    with recording(tmp_path, collectors=collectors) as built:
        built.exchange.fault("max_age", seconds=6.0, how="close")
        time.sleep(14)
        built.exchange.fault("max_age", seconds=86_400.0)
        time.sleep(2)
        accounted(built, tell, "disconnect")


@alone_and_twins("market", ["um", "spot"], twins=["um"])
def test_server_shutdown_is_obeyed_at_once(collectors: int, market: str, tmp_path: Path, tell: Tell) -> None:
    """The exchange says that it goes down: the next connection has taken over before it does."""
    with recording(tmp_path, collectors=collectors) as built:
        built.exchange.fault("server_shutdown", market=market, cut_after_s=8.0)
        time.sleep(14)
        assert accounted(built, tell).missing == {}
        assert rotations(built.log("ingest")) >= 1


@ALONE_AND_TWINS
def test_a_server_that_goes_down_as_it_says_so(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """No time between the word and the deed: a row for what that costs."""
    with recording(tmp_path, collectors=collectors) as built:
        built.exchange.fault("server_shutdown", cut_after_s=0.01)
        time.sleep(6)
        accounted(built, tell, "disconnect")


def test_a_connection_that_lags_is_replaced_without_a_gap(tmp_path: Path, tell: Tell) -> None:
    """One connection is nine seconds late: the next one takes over, and the old one stays until it has caught up."""
    with recording(tmp_path, warm_s=8) as built:
        number = next(one["id"] for one in built.exchange.state()["connections"] if one["route"] == "public")
        for seconds in (3.0, 6.0, 9.0):  # each step is a pause, and none of them a silence
            built.exchange.fault("latency", seconds=seconds, connection=number)
            time.sleep(5)
        time.sleep(26)
        assert "it lags by" in built.log("ingest")
        assert accounted(built, tell).missing == {}


def test_a_connection_that_dies_while_it_lags(tmp_path: Path, tell: Tell) -> None:
    """What was on its way is lost with it: the row begins where the last frame that came was sent."""
    with recording(tmp_path, warm_s=8) as built:
        built.exchange.fault("latency", seconds=3.0, market="um")
        time.sleep(6)
        built.exchange.fault("cut", how="rst", market="um")
        time.sleep(8)
        result = accounted(built, tell, "disconnect")
        assert result.missing
