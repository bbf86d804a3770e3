"""The house's wall clock: the only place that reads it.

`MASERVER_CLOCK_OFFSET_S` moves it (for the tests and the simulated exchange: midnight can be tested at noon), and the
file that `MASERVER_TEST_CLOCK` names moves it while it runs: two little-endian int64, by how many ns the wall clock is
stepped, and for how many ns the machine seems to have slept. Durations are never measured with it: they use
`time.monotonic`.
"""

import mmap
import os
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS

_OFFSET_NS = int(float(os.environ.get("MASERVER_CLOCK_OFFSET_S", "0") or 0) * SECOND_NS)
_MOVED_BY = struct.Struct("<qq")


def _moved_now_ns() -> int:
    return time.time_ns() + _OFFSET_NS


def _slept_s() -> float:
    """How long the machine has slept since its start; 0 where the system does not say (it is not Linux)."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boot) - time.clock_gettime(time.CLOCK_MONOTONIC) if boot is not None else 0.0


def _moved_by(path: str) -> tuple[Callable[[], int], Callable[[], float]]:
    """The two clocks of a test that steps them while we run."""
    with open(path, "rb") as file:  # noqa: PTH123 - read once, mapped for ever
        moved = mmap.mmap(file.fileno(), _MOVED_BY.size, access=mmap.ACCESS_READ)
    return (
        lambda: _moved_now_ns() + _MOVED_BY.unpack_from(moved)[0],
        lambda: _slept_s() + _MOVED_BY.unpack_from(moved)[1] / SECOND_NS,
    )


now_ns: Callable[[], int] = _moved_now_ns if _OFFSET_NS else time.time_ns
"""Wall clock, UTC, in ns since 1970."""

asleep_s: Callable[[], float] = _slept_s
"""How long the machine has slept since its start, in s."""

if "MASERVER_TEST_CLOCK" in os.environ:
    now_ns, asleep_s = _moved_by(os.environ["MASERVER_TEST_CLOCK"])


def iso(at_ns: int) -> str:
    """ISO-8601 in UTC with all nine decimals: `2026-11-21T03:27:41.123456789Z`."""
    seconds, rest = divmod(at_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def from_iso(text: str) -> int:
    """The inverse of `iso`, in ns."""
    head, _, rest = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp())
    return seconds * SECOND_NS + int((rest or "0").ljust(9, "0")[:9])
