"""The names of the Redis keys: the contract between the services (DESIGN section 3).

A stream is `md:<market>:<channel>:<SYMBOL>`; every command touches one key, so the same code runs on Redis Cluster.
"""

import re
from typing import NamedTuple

from common.channels import CHANNELS, MARKETS, UNKNOWN

STREAMS_SET = "md:streams"
"""The set of the names of all streams; ingest adds a name before the stream's first frame."""

GROUP = "archiver"
"""The group whose last-delivered-id is the archive's position in a stream: what comes after it is never trimmed."""


_UNSAFE = re.compile(r"[/\\\0]|^\.")
"""A symbol is a folder's name in the archive: it must not lead out of it."""


def is_symbol(name: str) -> bool:
    """Whether a name has a symbol's shape: letters and digits of any script, and _, in upper case."""
    return bool(name) and all(char.isalnum() or char == "_" for char in name) and name == name.upper()


class Stream(NamedTuple):
    """One symbol's frames of one channel."""

    market: str
    channel: str
    symbol: str

    @property
    def key(self) -> str:
        """The name of the Redis stream."""
        return f"md:{self.market}:{self.channel}:{self.symbol}"

    @property
    def exchange_name(self) -> str:
        """What the exchange calls it: `btcusdt@depth20@100ms`."""
        return f"{self.symbol.lower()}@{CHANNELS[self.channel].suffix}"

    @classmethod
    def from_key(cls, key: str) -> "Stream":
        """Reads a stream's name.

        Raises:
            ValueError: The name is not `md:<market>:<channel>:<SYMBOL>` with a known market and channel.
        """
        parts = key.split(":", 3)
        if len(parts) != 4 or parts[0] != "md" or parts[1] not in MARKETS or not parts[3] or _UNSAFE.search(parts[3]):
            raise ValueError(f"not the name of a stream: {key!r}")
        if parts[2] not in CHANNELS and parts[2] != UNKNOWN:
            raise ValueError(f"unknown channel {parts[2]!r} in the name of the stream {key!r}")
        return cls(*parts[1:])


def unknown(market: str) -> Stream:
    """Where frames of no known stream of a market go."""
    return Stream(market, UNKNOWN, "_")
