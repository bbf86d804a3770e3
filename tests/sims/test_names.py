"""The exchange's name, which nobody knows any more: the real resolver fails."""

import re
import time
from pathlib import Path

import pytest

from tests.conftest import Tell
from tests.sims.matrix import ALONE_AND_TWINS, LONG, accounted, collector_names, recording
from tests.sims.own_names import OwnNames, allowed

pytestmark = [LONG, ALONE_AND_TWINS]

NO_NAME = re.compile("no connection: .*(?:Name or service not known|Temporary failure in name resolution)")


@pytest.fixture
def names(tmp_path: Path) -> OwnNames:
    if not allowed():
        pytest.skip("this machine gives a process no mount namespace of its own (unshare --mount)")
    return OwnNames(tmp_path)


def test_the_exchange_loses_its_name(collectors: int, names: OwnNames, tmp_path: Path, tell: Tell) -> None:
    """Connections are cut while nobody knows the name: one row from the cut until somebody does."""
    with recording(tmp_path, collectors=collectors, names=names) as built:
        names.take()
        time.sleep(2)  # connections that are there stay
        built.exchange.fault("cut", how="rst")
        time.sleep(8)
        names.give()
        time.sleep(5)
        result = accounted(built, tell, "disconnect")
        assert result.missing
        assert len(result.holding()) == len({row.stream for row in result.holding()})
        for name in collector_names(collectors):
            assert NO_NAME.search(built.log(name))


def test_a_rotation_without_a_name(collectors: int, names: OwnNames, tmp_path: Path, tell: Tell) -> None:
    """The next connection cannot be opened while nobody knows the name: the old one stays, and nothing is missing."""
    with recording(tmp_path, collectors=collectors, names=names, INGEST__ROTATE_AFTER_S=3) as built:
        names.take()
        time.sleep(9)
        for name in collector_names(collectors):
            failed = re.findall("maserver_ingest_failed_rotations_total{.*} (.*)", built.metrics(name))
            assert sum(map(float, failed)) >= 1, failed
        names.give()
        time.sleep(6)
        assert accounted(built, tell).missing == {}
        for name in collector_names(collectors):
            assert NO_NAME.search(built.log(name))
