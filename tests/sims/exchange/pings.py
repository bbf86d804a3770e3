"""The server's pings to one client, and the pong that it owes."""

import time

from common.clock import now_ns


class Pings:
    """When the next ping is due, and since when a pong is owed."""

    def __init__(self) -> None:
        self._sent_at = time.monotonic()
        self._owed_since: float | None = None
        self._payload = b""

    def is_overdue(self, pong_s: float) -> bool:
        """Whether the client has owed a pong for so long."""
        return self._owed_since is not None and time.monotonic() - self._owed_since >= pong_s

    def due(self, ping_s: float) -> bytes | None:
        """The payload of a ping that is to be sent now, each `ping_s`; None where none is due."""
        now = time.monotonic()
        if now - self._sent_at < ping_s:
            return None
        self._sent_at = now
        if self._owed_since is None:
            self._owed_since = now
        self._payload = str(now_ns() // 1_000_000).encode()
        return self._payload

    def take_pong(self, payload: bytes, *, needs_same: bool) -> None:
        """A pong came; where it must repeat the ping's payload, another one does not count."""
        if not needs_same or payload == self._payload:
            self._owed_since = None
