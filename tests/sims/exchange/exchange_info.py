"""The bodies of exchangeInfo of both markets, with the keys of 2026 (reference 4.2, 4.3). Pure."""

from datetime import datetime
from typing import Any

from tests.sims.exchange.symbols import Listing, decimal_text

LIMITS = {"um": 2_400, "spot": 6_000}
"""Weight that an IP may use in a minute."""


def um_exchange_info(listed: list[Listing], at_ms: int) -> dict[str, Any]:
    """The body of `/fapi/v1/exchangeInfo`, with the keys of 2026-08."""
    return {
        "timezone": "UTC",
        "serverTime": at_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": LIMITS["um"]},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ],
        "exchangeFilters": [],
        "assets": [
            {"asset": asset, "marginAvailable": True, "autoAssetExchange": "-10000"}
            for asset in sorted({listing.quote_asset for listing in listed} | {"USDT"})
        ],
        "symbols": [_um_symbol(listing) for listing in listed],
    }


def _um_symbol(listing: Listing) -> dict[str, Any]:
    tick, lot = decimal_text(listing.tick, listing.price_decimals), decimal_text(listing.lot, listing.quantity_decimals)
    return {
        "symbol": listing.symbol,
        "pair": listing.pair,
        "contractType": listing.contract_type,
        "deliveryDate": _delivery_ms(listing),
        "onboardDate": listing.onboard_ms,
        "status": listing.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": listing.base_asset,
        "quoteAsset": listing.quote_asset,
        "marginAsset": listing.quote_asset,
        "pricePrecision": listing.price_decimals,
        "quantityPrecision": listing.quantity_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "EQUITY" if listing.contract_type == "TRADIFI_PERPETUAL" else "COIN",
        "underlyingSubType": ["TradFi"] if listing.contract_type == "TRADIFI_PERPETUAL" else ["PoW"],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": [
            {"maxPrice": "4529764", "tickSize": tick, "minPrice": tick, "filterType": "PRICE_FILTER"},
            {"maxQty": "1000000", "minQty": lot, "filterType": "LOT_SIZE", "stepSize": lot},
            {"notional": "5", "filterType": "MIN_NOTIONAL"},
        ],
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "permissionSets": ["GRID", "COPY", "DCA"],
    }


def _delivery_ms(listing: Listing) -> int:
    """08:00 of the day in the symbol's name; in the year 2100 for a contract that has none, as the exchange says it."""
    _, _, day = listing.symbol.partition("_")
    if len(day) != 6 or not day.isdigit():
        return 4_133_404_800_000
    return int(datetime.strptime(f"{day}08+0000", "%y%m%d%H%z").timestamp()) * 1_000


def spot_exchange_info(listed: list[Listing], at_ms: int) -> dict[str, Any]:
    """The body of `/api/v3/exchangeInfo`."""
    return {
        "timezone": "UTC",
        "serverTime": at_ms,
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": LIMITS["spot"]},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000},
        ],
        "exchangeFilters": [],
        "symbols": [_spot_symbol(listing) for listing in listed],
    }


def _spot_symbol(listing: Listing) -> dict[str, Any]:
    tick, lot = decimal_text(listing.tick, listing.price_decimals), decimal_text(listing.lot, listing.quantity_decimals)
    return {
        "symbol": listing.symbol,
        "status": listing.status,
        "baseAsset": listing.base_asset,
        "baseAssetPrecision": 8,
        "quoteAsset": listing.quote_asset,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000.00000000", "stepSize": lot},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }
