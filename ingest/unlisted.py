"""What the settings ask for and no market lists, as sentences. Pure."""

from collections.abc import Collection, Iterator, Mapping

from common.config_rules import nearest
from common.symbols import DATE, Wanted, fits
from ingest.exchange_info import Listed, Listing


def unlisted(wanted: Wanted, lists: Mapping[str, Listing]) -> Iterator[str]:
    """A sentence for each name that is in no list, and for each pattern that takes nothing of any.

    Args:
        wanted: What the settings ask for.
        lists: Market to its list, of all markets; what was listed once (status `GONE`) counts as listed.
    """
    markets = " or ".join(lists)
    rows = [row for listing in lists.values() for row in listing.symbols.values()]
    listed = {row.symbol for row in rows}
    trading = {row.symbol for row in rows if row.is_trading}
    for name in wanted.names:
        if name not in listed:
            yield f"symbols: {name} is not listed on {markets}{nearest(name, trading or listed)}"
    for pattern in wanted.patterns:
        if not any(_takes(pattern, wanted, row) for row in rows):
            yield f"symbols: nothing on {markets} fits {pattern}{_why(pattern, wanted, rows)}"


def _takes(pattern: str, wanted: Wanted, row: Listed) -> bool:
    return Wanted((), (pattern,), wanted.left_out).takes(row.symbol, is_dated=row.is_dated)


def _why(pattern: str, wanted: Wanted, rows: Collection[Listed]) -> str:
    fitting = [row for row in rows if fits(pattern, row.symbol)]
    if not fitting:
        return ""
    if DATE not in pattern and all(row.is_dated for row in fitting):
        return f" but contracts with a date; to record those, write a pattern with {DATE}"
    return " that is not left out again"
