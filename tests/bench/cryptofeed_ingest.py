"""cryptofeed's book tickers into Redis, to be measured beside our collector.

Run by an interpreter that has cryptofeed, in a process of its own; imports nothing of ours.

    PYTHON tests/bench/cryptofeed_ingest.py WEBSOCKET HTTP REDIS_PORT SYMBOL,SYMBOL
"""

import sys

from cryptofeed import FeedHandler
from cryptofeed.backends.redis import TickerStream
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.defines import TICKER
from cryptofeed.exchanges import BinanceFutures


def main(websocket: str, http: str, redis_port: str, symbols: str) -> None:
    """Receives until it is ended. A full queue makes it read slower: it drops nothing."""
    BinanceFutures.websocket_endpoints = [WebsocketEndpoint(websocket, options={"compression": None})]
    BinanceFutures.rest_endpoints = [RestEndpoint(http, routes=Routes("/fapi/v1/exchangeInfo"))]
    wanted = set(symbols.split(","))
    names = [name for name, symbol in BinanceFutures.symbol_mapping().items() if symbol in wanted]
    handler = FeedHandler()
    stream = TickerStream(port=int(redis_port), overflow="block")
    handler.add_feed(BinanceFutures(symbols=names, channels=[TICKER], callbacks={TICKER: stream}))
    handler.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
