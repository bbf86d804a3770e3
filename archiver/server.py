"""Redis as a server: how full it is, and its log, which is rewritten while little is kept.

A rewrite writes all that Redis keeps: at a minute's end the whole minute, once that is archived a quarter of it. So the
archiver asks for it then; Redis's own rule (`config/redis.conf`) is for when it does not, or a rewrite failed.
"""

import logging
import math

from common.wire import Link, ReplyError

log = logging.getLogger(__name__)

LOG_BYTES = 512 << 20
"""A shorter log is not worth a rewrite."""

FACTOR = 4
"""A log that is so many times what is kept is rewritten."""

PAUSE_S = 60.0
"""So long at least lies between two rewrites that were asked for."""


class Server:
    """What the archiver knows of its Redis.

    Args:
        log_bytes: A shorter log is left alone.

    Attributes:
        used_bytes: What it kept when it was last asked.
    """

    def __init__(self, *, log_bytes: int = LOG_BYTES) -> None:
        self._log_bytes = log_bytes
        self._next_s = -math.inf
        self.used_bytes = 0

    async def share(self, link: Link) -> float:
        """How full it is, from 0 to 1; 0 where it has no bound."""
        info = await _info(link, "memory")
        self.used_bytes, most = int(info[b"used_memory"]), int(info[b"maxmemory"])
        return self.used_bytes / most if most else 0.0

    async def shorten_log(self, link: Link, now_s: float) -> None:
        """Has the log rewritten where it is long and little is kept, as `share` last saw."""
        if now_s < self._next_s:
            return
        info = await _info(link, "persistence")
        if info[b"aof_last_bgrewrite_status"] != b"ok":
            return  # its own rule waits longer from try to try: each leaves a file
        length = int(info.get(b"aof_current_size", 0))  # it is not there where the log is off
        if length <= max(self._log_bytes, FACTOR * self.used_bytes):
            return
        self._next_s = now_s + PAUSE_S
        try:
            await link.call("BGREWRITEAOF")
        except ReplyError as error:  # somebody else asked, or it may not: its own rule holds then
            log.info("redis does not rewrite its log of %d MB now: %s", length >> 20, error)


async def _info(link: Link, section: str) -> dict[bytes, bytes]:
    said: bytes = await link.call("INFO", section)
    return dict(line.split(b":", 1) for line in said.split(b"\r\n") if b":" in line)
