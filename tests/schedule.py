"""Who runs which test when several processes do (pytest-xdist).

A file stays in one process, so that what its tests share (a house in containers, an exchange) is made once. Simulations
share nothing and last half a minute each: any process takes the next one. In the order of the folders the longest
files come first, and the many short unit tests fill up the end.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

_ALONE = "tests/sims/"


class Schedule(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Files, and simulations one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_ALONE) else str(super()._split_scope(nodeid))


def of(config: pytest.Config, log: Any) -> Schedule:
    """The schedule of this run."""
    config.option.loadscopereorder = False
    return Schedule(config, log)
