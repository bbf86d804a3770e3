"""What `exchangeInfo` says: a body's bytes to the symbols that a market lists. Pure.

Recorded unnamed (by `all` or a pattern) is what trades: status `TRADING`, and on um a contract without an end:
`PERPETUAL`, since 2025-12 `TRADIFI_PERPETUAL`, `PERPETUAL_DELIVERING` until it stops, and whatever else is called
perpetual one day. Left out are the contracts with a date (`CURRENT_QUARTER` and its kin): each ends within months, and
who wants them names them. A status that is unknown is no error; it is not `TRADING`.

Source: reference/binance-protocol.md sections 2.2 (statuses), 4.2 and 4.3 (shapes). Surprising: a um symbol that is not
yet open may have no contract type at all (recorded 2021-07-22), and `serverTime` may be days old.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from common import symbols

TRADING = "TRADING"
GONE = "GONE"
"""Our own word for what was listed once and is not any more; no status of the exchange."""


class NotExchangeInfo(ValueError):
    """The body is not what `exchangeInfo` answers; the message says how it begins."""


class Listed(NamedTuple):
    """One symbol of a market.

    Attributes:
        symbol: `BTCUSDT`.
        status: The exchange's word, or `GONE`.
        contract_type: On um `PERPETUAL`, `CURRENT_QUARTER`, ...; empty on spot.
        quote_asset: `USDT`.
        onboard_ms: When trading begins or began, in ms since 1970; 0 where it is not told (spot).
    """

    symbol: str
    status: str
    contract_type: str = ""
    quote_asset: str = ""
    onboard_ms: int = 0

    @property
    def is_trading(self) -> bool:
        return self.status == TRADING

    @property
    def is_dated(self) -> bool:
        """Whether it is a contract that ends on a day."""
        return bool(self.contract_type) and "PERPETUAL" not in self.contract_type


@dataclass(frozen=True, slots=True)
class Listing:
    """What one market lists, at one moment.

    Attributes:
        symbols: Symbol to what is said of it, in the exchange's order.
        odd: Names that cannot be a key and a folder, and are left out for that.
    """

    symbols: Mapping[str, Listed]
    odd: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Listed], odd: tuple[str, ...] = ()) -> "Listing":
        return cls({row.symbol: row for row in rows}, odd)

    @property
    def trading(self) -> int:
        """How many symbols trade."""
        return sum(row.is_trading for row in self.symbols.values())


class _Row(msgspec.Struct):
    symbol: str
    status: str = ""
    contractType: Any = ""
    quoteAsset: Any = ""
    onboardDate: Any = 0


class _Body(msgspec.Struct):
    symbols: list[_Row]


_decoder = msgspec.json.Decoder(_Body)


def read(body: bytes | bytearray) -> Listing:
    """The listing in a body of `/fapi/v1/exchangeInfo` or `/api/v3/exchangeInfo`; other keys are not looked at.

    Raises:
        NotExchangeInfo: It is no JSON, is cut short, lists nothing, or tells no status.
    """
    try:
        rows = _decoder.decode(body).symbols
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotExchangeInfo(f"no exchangeInfo ({error}): {_shown(body)}") from None
    if not rows:
        raise NotExchangeInfo(f"exchangeInfo without any symbol: {_shown(body)}")
    if not any(row.status for row in rows):
        raise NotExchangeInfo(f"exchangeInfo without any status: {_shown(body)}")
    odd = {row.symbol for row in rows if _is_odd(row.symbol)}
    return Listing.of((_listed(row) for row in rows if row.symbol not in odd), tuple(sorted(odd)))


def _is_odd(name: str) -> bool:
    is_plain = name.isalnum() and name == name.upper()  # nearly all are, and the answer is quick
    return not is_plain and (symbols.ANY in name or symbols.problem(name) is not None)


def _listed(row: _Row) -> Listed:
    return Listed(
        row.symbol,
        row.status,
        row.contractType if isinstance(row.contractType, str) else "",
        row.quoteAsset if isinstance(row.quoteAsset, str) else "",
        row.onboardDate if isinstance(row.onboardDate, int) else 0,
    )


def _shown(body: bytes | bytearray) -> str:
    begins = body[:60].decode("utf-8", "replace")
    return f"{len(body)} bytes that begin with {begins!r}" if body else "it is empty"
