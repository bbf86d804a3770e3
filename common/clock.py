"""The house's wall clock: the only place that reads it.

`MASERVER_CLOCK_OFFSET_S` moves it (for the tests and the simulated exchange: midnight can be tested at noon). Durations
are never measured with it: they use `time.monotonic`.
"""

import os
import time
from datetime import UTC, datetime

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS

_OFFSET_NS = int(float(os.environ.get("MASERVER_CLOCK_OFFSET_S", "0") or 0) * SECOND_NS)


def _moved_now_ns() -> int:
    return time.time_ns() + _OFFSET_NS


now_ns = _moved_now_ns if _OFFSET_NS else time.time_ns
"""Wall clock, UTC, in ns since 1970."""


def iso(at_ns: int) -> str:
    """ISO-8601 in UTC with all nine decimals: `2026-11-21T03:27:41.123456789Z`."""
    seconds, rest = divmod(at_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def from_iso(text: str) -> int:
    """The inverse of `iso`, in ns."""
    head, _, rest = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp())
    return seconds * SECOND_NS + int((rest or "0").ljust(9, "0")[:9])
