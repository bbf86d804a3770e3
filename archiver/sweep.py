"""Removes what killed writers left in the archive: files with temporary names that nobody writes any more."""

import logging
from datetime import date
from pathlib import Path

from common.files import leftovers
from common.locks import locked
from common.streams import Stream

log = logging.getLogger(__name__)


def sweep(data: Path) -> int:
    """Removes the leftovers, each under the lock of its day: while we hold it nobody writes there. Returns how many."""
    removed = 0
    for kind in ("raw", "parquet"):
        for leftover in list(leftovers(data / kind)):
            place = _place(leftover.relative_to(data / kind))
            if place is not None:
                with locked(data, [place]):
                    leftover.unlink(missing_ok=True)
                removed += 1
    if removed:
        log.warning("removed %d unfinished files of a writer that was killed", removed)
    return removed


def _place(path: Path) -> tuple[Stream, date] | None:
    """Stream and day of `<market>/<channel>/<SYMBOL>/[<day>/].<name>.<..>.tmp`."""
    parts = path.parts
    if len(parts) not in (4, 5):
        return None
    text = parts[3] if len(parts) == 5 else parts[3][1:11]
    try:
        return Stream(*parts[:3]), date.fromisoformat(text)
    except ValueError:
        return None
