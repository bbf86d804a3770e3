"""How a row of the ledger that is known changes with what is known by now; pure."""

from collections.abc import Iterable

import msgspec

from archiver.coverage import NEAR_NS
from common.ledger import Row


def informed(row: Row, known: Row | None) -> Row:
    """The row with what an archiver before us knew of its ids: we know those only since our own start."""
    if known is None or row.frames_missing is not None or (known.from_, known.to) != (row.from_, row.to):
        return row
    if known.healed_by == "resumed":  # it was not, as is known by now
        return row
    return msgspec.structs.replace(row, frames_missing=known.frames_missing, healed_by=known.healed_by)


def as_healed_as(row: Row, known: Row | None) -> Row:
    """A row as it is now, and healed if it was so before."""
    return row if known is None else msgspec.structs.replace(row, healed_by=known.healed_by)


def same(row: Row, known: Row | None) -> bool:
    return known is not None and msgspec.structs.replace(row, revision=known.revision) == known


def explained(rows: Iterable[Row], upstream: Row) -> bool:
    """Whether another row has the cause of what ids alone had shown before."""
    to_ns = upstream.to_ns or upstream.from_ns
    return any(row.cause != "upstream" and _overlaps(row, upstream.from_ns, to_ns) for row in rows)


def _overlaps(row: Row, from_ns: int, to_ns: int) -> bool:
    return row.from_ns - NEAR_NS <= to_ns and (row.to_ns is None or from_ns <= row.to_ns + NEAR_NS)


def withdrawn(known: Iterable[Row], now: Iterable[Row], by: str) -> list[Row]:
    """Rows that were written and hold no more: their gap turned out to be covered after all."""
    there = {row.id for row in now}
    return [
        msgspec.structs.replace(row, to=row.to or row.from_, frames_missing=0, healed_by=by)
        for row in known
        if row.id not in there and row.healed_by is None
    ]
