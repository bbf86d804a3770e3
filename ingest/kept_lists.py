"""The last list of each market, kept in the state folder: what serves when the exchange cannot be asked at the start.

It remembers what was listed once: a symbol that is missing from a newer list stays, as `GONE`, so that a name which was
delisted since the settings were written is told from a name that never was. The file can be deleted at any time.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from common import files
from ingest.exchange_info import GONE, Listed, Listing

log = logging.getLogger(__name__)

FILE = "symbols.json"


class KeptLists:
    """Market to its last list.

    Args:
        state_dir: The state folder.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        self.lists: dict[str, Listing] = {}
        self._written: dict[str, Listing] = {}

    def load(self) -> None:
        """Reads the file. One that is missing is no news; one that is damaged is told, and counts as missing."""
        try:
            rows = msgspec.json.decode(self.path.read_bytes(), type=dict[str, list[Listed]])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s: cannot be read, and is not used: %s", self.path, error)
            return
        self.lists = {market: Listing.of(listed) for market, listed in rows.items()}
        self._written = dict(self.lists)

    def put(self, market: str, listing: Listing) -> None:
        """Takes a new list."""
        gone = (row._replace(status=GONE) for row in self._rows(market).values() if row.symbol not in listing.symbols)
        self.lists[market] = Listing.of((*listing.symbols.values(), *gone))

    def was_listed(self, symbol: str) -> bool:
        """Whether any market has ever listed it, as far as is known."""
        return any(symbol in listing.symbols for listing in self.lists.values())

    def save(self) -> None:
        """Writes the file, where the lists have changed; blocks until it is on disk.

        Raises:
            OSError: It cannot be written.
        """
        lists = dict(self.lists)
        if lists == self._written:
            return
        rows = {market: list(listing.symbols.values()) for market, listing in lists.items()}
        files.write(self.path, msgspec.json.encode(rows))
        self._written = lists

    def _rows(self, market: str) -> Mapping[str, Listed]:
        return self.lists[market].symbols if market in self.lists else {}
