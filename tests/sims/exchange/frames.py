"""The payloads as the exchange writes them: key order, blanks and added fields as in the captures of 2026.

Source: reference/binance-protocol.md sections 2.1 and 2.2; recordings of 2026-08 and 2026-10 (um), of 2021 and 2024
(spot).
"""


def um_depth(
    at_ms: int | str, engine_ms: int | str, symbol: str, ids: tuple[int | str, ...], bids: str, asks: str
) -> str:
    """Partial and diff depth of um, which have the same keys; `ids` are first, final and previous update id.

    Times and ids may be texts that stand for them.
    """
    return (
        f'{{"e":"depthUpdate","E":{at_ms},"T":{engine_ms},"s":"{symbol}","ps":"{symbol}",'
        f'"U":{ids[0]},"u":{ids[1]},"pu":{ids[2]},"b":[{bids}],"a":[{asks}],"st":1}}'
    )


def spot_partial_depth(last_id: int, bids: str, asks: str) -> str:
    """Partial depth of spot: neither event type, nor time, nor symbol."""
    return f'{{"lastUpdateId":{last_id},"bids":[{bids}],"asks":[{asks}]}}'


def spot_diff_depth(at_ms: int, symbol: str, first_id: int, final_id: int, bids: str, asks: str) -> str:
    return f'{{"e":"depthUpdate","E":{at_ms},"s":"{symbol}","U":{first_id},"u":{final_id},"b":[{bids}],"a":[{asks}]}}'


def um_book_ticker(at_ms: int, engine_ms: int, symbol: str, update_id: int, best: tuple[str, str, str, str]) -> str:
    bid, bid_size, ask, ask_size = best
    return (
        f'{{"e":"bookTicker","u":{update_id},"s":"{symbol}","ps":"{symbol}","b":"{bid}","B":"{bid_size}",'
        f'"a":"{ask}","A":"{ask_size}","T":{engine_ms},"E":{at_ms},"st":1}}'
    )


def spot_book_ticker(symbol: str, update_id: int, best: tuple[str, str, str, str]) -> str:
    bid, bid_size, ask, ask_size = best
    return f'{{"u":{update_id},"s":"{symbol}","b":"{bid}","B":"{bid_size}","a":"{ask}","A":"{ask_size}"}}'


def um_agg_trade(
    at_ms: int,
    engine_ms: int,
    symbol: str,
    agg_id: int,
    price: str,
    quantities: tuple[str, str],
    ids: tuple[int, int],
    maker: str,
) -> str:
    """`quantities` with and without RPI orders (`q`, `nq`); `ids` first and last trade id; `maker` as JSON text."""
    return (
        f'{{"e":"aggTrade","E":{at_ms},"a":{agg_id},"s":"{symbol}","p":"{price}","q":"{quantities[0]}",'
        f'"nq":"{quantities[1]}","f":{ids[0]},"l":{ids[1]},"T":{engine_ms},"m":{maker},"st":1}}'
    )


def spot_agg_trade(
    at_ms: int, engine_ms: int, symbol: str, agg_id: int, price: str, quantity: str, ids: tuple[int, int], maker: str
) -> str:
    return (
        f'{{"e":"aggTrade","E":{at_ms},"s":"{symbol}","a":{agg_id},"p":"{price}","q":"{quantity}",'
        f'"f":{ids[0]},"l":{ids[1]},"T":{engine_ms},"m":{maker},"M":true}}'
    )


def mark_price(
    at_ms: int, symbol: str, prices: tuple[str, str, str, str], rate: str, next_funding_ms: int, symbol_type: int = 1
) -> str:
    """`prices` are mark, its moving average, estimated settle price, index; `rate` is the running funding rate."""
    mark, average, settle, index = prices
    return (
        f'{{"e":"markPriceUpdate","E":{at_ms},"s":"{symbol}","p":"{mark}","ap":"{average}","P":"{settle}",'
        f'"i":"{index}","r":"{rate}","T":{next_funding_ms},"st":{symbol_type}}}'
    )


def force_order(
    at_ms: int, engine_ms: int, symbol: str, side: str, quantity: str, prices: tuple[str, str], symbol_type: int = 1
) -> str:
    """A liquidation; `prices` are the order's and the average. Captures of 2026-10 have `ps` and `st` inside `o`."""
    pair = symbol.partition("_")[0]
    return (
        f'{{"e":"forceOrder","E":{at_ms},"o":{{"s":"{symbol}","S":"{side}","o":"LIMIT","f":"IOC","q":"{quantity}",'
        f'"p":"{prices[0]}","ap":"{prices[1]}","X":"FILLED","l":"{quantity}","z":"{quantity}","T":{engine_ms},'
        f'"ps":"{pair}","st":{symbol_type}}}}}'
    )


def kline(market: str, at_ms: int, symbol: str, members: list[tuple[str, str]]) -> str:
    """A bar; um writes blanks after the commas inside `k` (captures of 2026-10), spot does not."""
    comma = ", " if market == "um" else ","
    bar = comma.join(f'"{key}":{value}' for key, value in members)
    return f'{{"e":"kline","E":{at_ms},"s":"{symbol}","k":{{{bar}}}}}'
