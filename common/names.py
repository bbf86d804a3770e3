"""Looks host names up: for each name one lookup at a time, however many wait for it and whoever gives up.

A lookup cannot be called off: without a network it sits in one of the resolver's few threads for up to half a minute.
If each attempt to connect began one of its own, they would queue, and delay the first that can succeed.
"""

import asyncio
import socket
from typing import Any
from weakref import WeakKeyDictionary

_pending: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Future[Any]]] = WeakKeyDictionary()


async def look_up(host: str) -> None:
    """Waits until the name has an address; who connects to it then finds it at once.

    Raises:
        OSError: It has none, or no name server answers.
    """
    loop = asyncio.get_running_loop()
    pending = _pending.setdefault(loop, {})
    lookup = pending.get(host)
    if lookup is None:
        lookup = pending[host] = asyncio.ensure_future(loop.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        lookup.add_done_callback(lambda done: _ended(pending, host, done))
    await asyncio.wait((lookup,))
    lookup.result()


def _ended(pending: dict[str, asyncio.Future[Any]], host: str, lookup: asyncio.Future[Any]) -> None:
    del pending[host]
    if not lookup.cancelled():
        lookup.exception()  # known by now, also where nobody waits for it any more
