"""cryptofeed's book tickers or books into Redis, to be measured beside our collector.

Run by an interpreter that has cryptofeed, in a process of its own; imports nothing of ours.

    PYTHON tests/bench/cryptofeed_ingest.py ticker|l2_book WEBSOCKET HTTP REDIS_PORT SYMBOL,SYMBOL
"""

import sys

from cryptofeed import FeedHandler
from cryptofeed.backends.redis import BookStream, TickerStream
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.defines import L2_BOOK, TICKER
from cryptofeed.exchanges import BinanceFutures

ROUTES = Routes("/fapi/v1/exchangeInfo", l2book="/fapi/v1/depth?symbol={}&limit={}")
SNAPSHOT_LEVELS = 20
"""Of each of 500 books: those of a thousand levels would need four minutes of the exchange's weight."""


def main(channel: str, websocket: str, http: str, redis_port: str, symbols: str) -> None:
    """Receives until it is ended. A full queue makes it read slower: it drops nothing."""
    BinanceFutures.websocket_endpoints = [WebsocketEndpoint(websocket, options={"compression": None})]
    BinanceFutures.rest_endpoints = [RestEndpoint(http, routes=ROUTES)]
    BinanceFutures.DEFAULT_SNAPSHOT_DEPTH = SNAPSHOT_LEVELS
    wanted = set(symbols.split(","))
    names = [name for name, symbol in BinanceFutures.symbol_mapping().items() if symbol in wanted]
    handler = FeedHandler()
    backend = {TICKER: TickerStream, L2_BOOK: BookStream}[channel]
    stream = backend(port=int(redis_port), overflow="block")
    handler.add_feed(BinanceFutures(symbols=names, channels=[channel], callbacks={channel: stream}))
    handler.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
