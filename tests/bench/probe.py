"""From the exchange's send to Redis, frame by frame, seen by a live reader.

A thread blocks in XREAD on some streams and takes the time as entries come. The exchange remembers when it made each
frame (ns, its sent record), and the digest of the payload joins the two. So what is measured is: made, written to the
socket, received, batched, accepted by Redis, delivered to a blocked reader. The reader's own wake-up is part of it, for
both chains alike. The entry's id would not do: its milliseconds are too coarse. Where the chain has one stream for all
symbols, the probe reads it whole and keeps the symbols asked for.
"""

import json
import threading
from collections.abc import Sequence
from typing import Any

import redis

from common.clock import now_ns
from tests.sims.exchange.client import Exchange

BLOCK_MS = 200


class Probe:
    """Measures while it is open.

    Args:
        port: Of the Redis.
        keys: The streams to read.
        symbols: Only their frames count.
        offset_ns: What the exchange's clock is ahead of this process's.
    """

    def __init__(self, port: int, keys: Sequence[str], symbols: Sequence[str], offset_ns: int) -> None:
        self._client = redis.Redis(port=port, socket_timeout=20, protocol=2)
        self._places: dict[Any, Any] = {key.encode(): b"$" for key in keys}
        self._symbols = {symbol.encode() for symbol in symbols}
        self._offset_ns = offset_ns
        self._seen: list[tuple[str, bytes, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Probe":
        for key in self._places:
            last: Any = self._client.xrevrange(key, count=1)
            self._places[key] = last[0][0] if last else b"0"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _read(self) -> None:
        while not self._stop.is_set():
            found: Any = self._client.xread(self._places, block=BLOCK_MS, count=200)
            at_ns = now_ns() + self._offset_ns
            for key, entries in found or ():
                self._places[key] = entries[-1][0]
                for _, fields in entries:
                    if b"d" not in fields:
                        continue
                    symbol = fields.get(b"s") or key.rpartition(b":")[2]
                    if symbol in self._symbols:
                        self._seen.append((symbol.decode(), fields[b"d"], at_ns))

    def latencies_ms(self, exchange: Exchange) -> list[float]:
        """Sorted, of every frame that was seen.

        Raises:
            ValueError: A frame came that the exchange did not send.
        """
        sent_ns = {
            (symbol, one.digest): one.sent_ns
            for symbol in {symbol for symbol, _, _ in self._seen}
            for one in exchange.sent("um", f"{symbol.lower()}@depth20@100ms")
        }
        found = []
        for symbol, payload, at_ns in self._seen:
            # the naive chain writes the payload anew, with blanks
            compact = json.dumps(json.loads(payload), separators=(",", ":")).encode()
            made_ns = sent_ns.get((symbol, exchange.digest(compact)))
            if made_ns is None:
                raise ValueError(f"the exchange did not send {payload[:100]!r}")
            found.append((at_ns - made_ns) / 1e6)
        return sorted(found)
