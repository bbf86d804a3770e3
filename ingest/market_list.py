"""Asks one market's REST what it lists: one call, one answer or one reason.

The only file of ingest that speaks HTTP. It does so in a thread, by the standard library: for one call in some minutes
aiohttp would take a sixth of the collector's memory (9 of 58 MiB). When the exchange says wait, nothing is asked before
that time is over: asking on while limited leads to a ban, and asking while banned makes it longer
(reference/binance-protocol.md section 5.2).
"""

import asyncio
import re
import socket
import threading
import time
import zlib
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection, IncompleteRead
from urllib.parse import urlencode, urlsplit

from common import names
from common.clock import now_ns
from common.version import VERSION
from ingest.exchange_info import Listing, NotExchangeInfo, read

CONNECT_S = 5.0
SILENT_S = 10.0
WHOLE_S = 60.0
BODY_BYTES = 64 << 20
"""What is larger is no list (spot's had 1.9 MB in 2021)."""

LONGEST_BAN_S = 3 * 86_400.0
BLOCKED_S = 300.0
ELSEWHERE_S = 600.0
BAN_S = 120.0

_CHUNK_BYTES = 65_536
_GZIP = 31
"""zlib's `wbits` for gzip."""

_BANNED_UNTIL = re.compile(rb"banned until (\d{13})")


class Unavailable(Exception):
    """The list cannot be had now; the message is a sentence for the log.

    Attributes:
        wait_s: How long the exchange wants no further call; 0 where it does not say.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Source:
    """Where a market's list is, below its REST address.

    Attributes:
        path: The endpoint.
        weight: What a call costs of the minute's budget (2,400 on um, 6,000 on spot).
        params: The query: permission sets make spot's body long, and are of no use here.
    """

    path: str
    weight: int
    params: dict[str, str] = field(default_factory=dict)


SOURCES = {
    "um": Source("/fapi/v1/exchangeInfo", 1),
    "spot": Source("/api/v3/exchangeInfo", 20, {"showPermissionSets": "false"}),
}
"""Source: reference/binance-protocol.md sections 4.2 and 4.3."""


class MarketList:
    """The list of one market.

    Args:
        market: `um` or `spot`.
        base_url: The market's REST address.
    """

    def __init__(self, market: str, base_url: str) -> None:
        self.market = market
        self._source = SOURCES[market]
        self._url = base_url + self._source.path
        self._free_at_s = 0.0

    @property
    def wait_s(self) -> float:
        """How long the exchange wants no further call."""
        return max(0.0, self._free_at_s - time.monotonic())

    async def fetch(self) -> Listing:
        """Asks once.

        Raises:
            Unavailable: No connection, no answer in time, a refusal, or a body that is no list.
        """
        if wait_s := self.wait_s:
            raise Unavailable(f"{self._url}: the exchange wants no call for {wait_s:.0f} s more", wait_s)
        try:
            status, headers, body = await self._get()
        except Unavailable as error:
            raise Unavailable(f"{self._url}: {error}") from None
        except TimeoutError:
            raise Unavailable(f"{self._url}: no answer in time") from None
        except (IncompleteRead, zlib.error) as error:
            raise Unavailable(f"{self._url}: the body ended early: {_line(str(error))}") from None
        except (HTTPException, OSError) as error:
            raise Unavailable(f"{self._url}: {_line(str(error)) or type(error).__name__}") from None
        if status != 200:
            refused = _refusal(status, headers.get("Retry-After", ""), body)
            self._free_at_s = time.monotonic() + refused.wait_s
            raise Unavailable(f"{self._url}: {refused}", refused.wait_s)
        try:
            return read(body)
        except NotExchangeInfo as error:
            raise Unavailable(f"{self._url}: {error}") from None

    async def _get(self) -> tuple[int, HTTPMessage, bytes]:
        """One call, in a thread; who is cancelled cuts it short."""
        url = urlsplit(self._url)
        host = url.hostname or ""
        connection = (HTTPSConnection if url.scheme == "https" else HTTPConnection)(host, url.port, timeout=CONNECT_S)
        query = f"?{urlencode(self._source.params)}" if self._source.params else ""
        async with asyncio.timeout(WHOLE_S):
            async with asyncio.timeout(CONNECT_S):
                await names.look_up(host)
            given_up = threading.Event()
            asking = asyncio.ensure_future(asyncio.to_thread(_ask, connection, url.path + query, given_up))
            try:
                return await asyncio.shield(asking)
            finally:
                if not asking.done():
                    given_up.set()
                    _cut(connection)
                    asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for it


def _ask(connection: HTTPConnection, target: str, given_up: threading.Event) -> tuple[int, HTTPMessage, bytes]:
    """Asks, and reads what comes.

    Raises:
        OSError, HTTPException, zlib.error: It did not come whole.
        Unavailable: It does not end.
    """
    with closing(connection):
        connection.connect()
        connection.sock.settimeout(0.0 if given_up.is_set() else SILENT_S)
        connection.request("GET", target, headers={"User-Agent": f"maserver/{VERSION}", "Accept-Encoding": "gzip"})
        with connection.getresponse() as answer:
            return answer.status, answer.headers, _body(answer)


def _body(answer: HTTPResponse) -> bytes:
    if answer.length is None and not answer.chunked and "Content-Length" in answer.headers:
        raise HTTPException("its Content-Length is no number")
    unpacking = zlib.decompressobj(_GZIP) if answer.headers.get("Content-Encoding") == "gzip" else None
    body = bytearray()
    while chunk := answer.read(_CHUNK_BYTES):
        body += unpacking.decompress(chunk, BODY_BYTES) if unpacking is not None else chunk
        if len(body) > BODY_BYTES or (unpacking is not None and unpacking.unconsumed_tail):
            raise Unavailable(f"more than {BODY_BYTES} bytes; that is no list")
    if answer.length or (unpacking is not None and not unpacking.eof):
        raise IncompleteRead(bytes(body), answer.length or None)
    return bytes(body)


def _cut(connection: HTTPConnection) -> None:
    """Ends what another thread waits for on it."""
    with suppress(OSError, AttributeError):  # not connected yet, or closed just now
        connection.sock.shutdown(socket.SHUT_RDWR)


def _refusal(status: int, retry_after: str, body: bytes) -> Unavailable:
    """Why the exchange refuses, and how long it wants no call (reference sections 1.8, 5.2, 5.3)."""
    told_s = min(float(retry_after), LONGEST_BAN_S) if retry_after.isascii() and retry_after.isdigit() else None
    if status == 418:
        until = _BANNED_UNTIL.search(body)
        ends_s = int(until[1]) / 1000 - now_ns() / 1e9 if until else BAN_S
        wait_s = max(told_s or 0.0, min(ends_s, LONGEST_BAN_S))
        return Unavailable(f"this address is banned for {wait_s:.0f} s (418)", wait_s)
    if status == 429:
        wait_s = 60 - now_ns() / 1e9 % 60 if told_s is None else told_s
        return Unavailable(f"too many requests from this address; waiting {wait_s:.0f} s (429)", wait_s)
    if status == 451:
        return Unavailable("the exchange does not serve this location (451)", told_s or ELSEWHERE_S)
    if status == 403:
        return Unavailable(f"the exchange's firewall blocks this address (403): {_text(body)}", told_s or BLOCKED_S)
    return Unavailable(f"status {status}: {_text(body)}", told_s or 0.0)


def _text(body: bytes) -> str:
    """What a refusal's body says, without HTML."""
    return _line(re.sub(r"<[^>]*>", " ", body[:4096].decode("utf-8", "replace"))) or "without a word"


def _line(text: str) -> str:
    """The text as one short line of a log."""
    return " ".join(text.split())[:160]
