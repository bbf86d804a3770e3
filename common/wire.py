"""A socket to Redis for the frame path: commands packed by hand, replies parsed by hiredis, many in flight.

redis-py's Python per command is the largest cost of an honest pipeline (reference: PERFORMANCE, "Where the time goes"),
so what runs per frame goes through here, and a command's bytes are made once. It speaks RESP2 and knows no retry: when
the socket is lost every waiter gets `LinkLost`, and who holds the data decides what to send again.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from common import names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 30.0
"""A server that says nothing for so long is given up: a slow fsync blocks it for seconds, not for half a minute."""


class LinkLost(ConnectionError):
    """The socket to Redis is gone, or could not be had."""


class ReplyError(Exception):
    """Redis answered with an error."""

    @property
    def code(self) -> str:
        """The first word: `OOM`, `MISCONF`, `LOADING`, `BUSYGROUP`, `NOGROUP`, ..."""
        return str(self).split(" ", 1)[0]

    @property
    def passes(self) -> bool:
        """Whether the same command may be accepted later: the server is full, loading, or cannot write its log."""
        return self.code in _PASSING


_PASSING = frozenset({"OOM", "MISCONF", "LOADING", "BUSY", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN"})


def pack(*words: bytes | str | int) -> bytes:
    """A command in the Redis protocol: `pack("GET", "a")` is `*2 $3 GET $1 a`, each followed by CRLF."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


class Link(asyncio.Protocol):
    """One connection to one Redis server. Made by `connect`."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=ReplyError, protocolError=LinkLost)
        self._waiting: deque[tuple[int, list[Any], Callable[[list[Any]], None], asyncio.Future[None] | None]] = deque()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.pause_s = 0.0
        """So long replies gather in the socket, from one look to the next."""
        self.lost: asyncio.Future[Exception] = self._loop.create_future()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                count, replies, done, _ = self._waiting[0]
                replies.append(reply)
                if len(replies) == count:
                    self._waiting.popleft()
                    done(replies)
        except (LinkLost, IndexError) as error:
            self.close(LinkLost(f"Redis sent what is no reply: {error}"))
        if self.pause_s and self._transport is not None and not self.lost.done():
            self._transport.pause_reading()
            self._loop.call_later(self.pause_s, self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(LinkLost(f"the connection to Redis is gone: {exc or 'closed by the server'}"))

    # What we call.

    def send(self, packed: bytes, count: int, done: Callable[[list[Any]], None]) -> None:
        """Writes commands that give `count` replies; `done` gets them, errors among them as `ReplyError` instances.

        When the link is lost first, `done` is never called; `lost` tells.
        """
        if self._transport is None or self.lost.done():
            return
        self._waiting.append((count, [], done, None))
        self._transport.write(packed)

    async def replies(self, packed: bytes, count: int, *, timeout_s: float = REPLY_TIMEOUT_S) -> list[Any]:
        """Writes commands that give `count` replies and waits for them.

        Raises:
            LinkLost: The socket is gone, or no answer came in `timeout_s`; the link is closed then.
        """
        if self._transport is None or self.lost.done():
            raise LinkLost("the connection to Redis is gone")
        if not count:
            return []
        answer: asyncio.Future[None] = self._loop.create_future()
        got: list[Any] = []

        def done(replies: list[Any]) -> None:
            got.extend(replies)
            if not answer.done():
                answer.set_result(None)

        self._waiting.append((count, [], done, answer))
        self._transport.write(packed)
        try:
            async with asyncio.timeout(timeout_s):
                await answer
        except TimeoutError:
            error = LinkLost(f"Redis did not answer for {timeout_s:g} s")
            self.close(error)
            raise error from None
        return got

    async def call(self, *words: bytes | str | int) -> Any:
        """One command and its reply.

        Raises:
            ReplyError: Redis answered with an error.
            LinkLost: The socket is gone.
        """
        (reply,) = await self.replies(pack(*words), 1)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def close(self, reason: Exception | None = None) -> None:
        """Closes the socket; who waits for replies gets `LinkLost`. May be called again."""
        if self.lost.done():
            return
        error = reason or LinkLost("the connection to Redis was closed")
        self.lost.set_result(error)
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            answer = self._waiting.popleft()[3]
            if answer is not None and not answer.done():
                answer.set_exception(error)


async def connect(url: str, *, name: str) -> Link:
    """Connects to `redis://[user:password@]host[:port][/db]`, `rediss://...` or `unix://path?db=0`.

    Raises:
        LinkLost: Nothing answers there, or it refuses us.
    """
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if parts.scheme == "unix":
                _, link = await loop.create_unix_connection(Link, parts.path)
                db = parse_qs(parts.query).get("db", ["0"])[0]
            else:
                tls = ssl.create_default_context() if parts.scheme == "rediss" else None
                host = parts.hostname or "127.0.0.1"
                await names.look_up(host)
                _, link = await loop.create_connection(Link, host, parts.port or 6379, ssl=tls)
                db = parts.path.strip("/") or "0"
    except (OSError, TimeoutError) as error:
        raise LinkLost(f"no Redis at {_without_password(url)}: {str(error) or 'no answer'}") from error
    try:
        if parts.password:
            await link.call("AUTH", unquote(parts.username or "default"), unquote(parts.password))
        if db != "0":
            await link.call("SELECT", db)
        await link.call("CLIENT", "SETNAME", name)
    except ReplyError as error:
        link.close()
        raise LinkLost(f"Redis at {_without_password(url)} refuses us: {error}") from error
    return link


@asynccontextmanager
async def linked(url: str, *, name: str) -> "AsyncIterator[Link]":
    """`connect`, closed at the end."""
    link = await connect(url, name=name)
    try:
        yield link
    finally:
        link.close()


def raise_first(replies: Sequence[Any], *, but: frozenset[str] = frozenset()) -> None:
    """Raises the first error among replies whose code is not in `but`."""
    for reply in replies:
        if isinstance(reply, ReplyError) and reply.code not in but:
            raise reply


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
