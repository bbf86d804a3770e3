"""A test's own client of the simulated exchange: one WebSocket, read by hand."""

import json
import time
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


def opened(url: str, **options: Any) -> ClientConnection:
    """A connection that takes everything and offers no compression."""
    connection: ClientConnection = connect(
        url, compression=None, max_queue=None, max_size=None, close_timeout=2, **options
    )
    return connection


def touch(url: str) -> None:
    """Connects and leaves."""
    with opened(url):
        pass


def ask(socket_: ClientConnection, method: str, params: list[Any] | None = None, request_id: Any = 1) -> Any:
    """Sends a control message and returns the next reply, past all data frames."""
    message = {"method": method, "id": request_id} | ({"params": params} if params is not None else {})
    socket_.send(json.dumps(message))
    return reply(socket_)


def reply(socket_: ClientConnection) -> Any:
    """The next reply, past all data frames."""
    return following(socket_, lambda frame: not ({"stream", "e", "lastUpdateId"} & frame.keys()))


def following(socket_: ClientConnection, wanted: Callable[[Any], bool] = lambda _: True, timeout_s: float = 5.0) -> Any:
    """The next frame that is wanted."""
    ends = time.monotonic() + timeout_s
    while True:
        frame = json.loads(socket_.recv(timeout=ends - time.monotonic()))
        if wanted(frame):
            return frame


def is_silent(socket_: ClientConnection, seconds: float = 0.25) -> bool:
    """Whether nothing comes for so long."""
    try:
        socket_.recv(timeout=seconds)
    except TimeoutError:
        return True
    return False


def close_code(socket_: ClientConnection) -> int:
    """Reads on to the end; 1006 where there was no close frame."""
    try:
        while True:
            socket_.recv(timeout=5)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
