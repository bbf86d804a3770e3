"""What Redis says it has on disk: `WAITAOF` on a connection of its own, and the signs of life that go before it.

`WAITAOF` takes about a second under `everysec`, blocks its connection, and counts only from a write of that connection.
"""

import logging
from typing import NamedTuple

from common.wire import Link, LinkLost, ReplyError, pack

log = logging.getLogger(__name__)

BEATS = "ingest:beats"
"""Hash: connection id to `<heard_ns> <now_ns>`: all that it received up to the first is in Redis, and its collector was
alive at the second. Written before each WAITAOF."""

BEATS_KEPT_S = 30 * 86_400
WAITAOF_TIMEOUT_MS = 5_000


class Said(NamedTuple):
    """What Redis answered.

    Attributes:
        covered: Whether what it had accepted before is on disk.
        beaten: Whether it took the signs of life.
    """

    covered: bool
    beaten: bool


class Durability:
    """Asks one server after the other."""

    def __init__(self) -> None:
        self.known = True
        """Whether the server can say that what it took is on disk (Redis 7.2 and later, with its log on)."""

    async def ask(self, link: Link, beats: dict[str, str]) -> Said:
        """Writes signs of life, and waits until they and what was accepted before them are on disk.

        Raises:
            LinkLost: The link is gone.
            ReplyError: Redis answered with an error that waiting does not mend.
        """
        words = [word for beat in (beats or {"-": ""}).items() for word in beat]
        packed = pack("HSET", BEATS, *words)
        # PEXPIRE is taken even by a full Redis: WAITAOF counts only from a write of its own connection.
        packed += pack("PEXPIRE", BEATS, BEATS_KEPT_S * 1000) + pack("WAITAOF", 1, 0, WAITAOF_TIMEOUT_MS)
        beaten, expiring, waited = await link.replies(packed, 3)
        refused = isinstance(beaten, ReplyError)
        if isinstance(waited, ReplyError):
            if waited.passes:
                return Said(False, not refused)
            if self.known:
                log.warning(
                    "redis cannot say what is on disk (it is older than 7.2, or its log is off): "
                    "a crash of redis may lose what it had accepted. %s",
                    waited,
                )
            self.known = False
        elif isinstance(expiring, ReplyError) or not expiring or waited[0] < 1:
            return Said(False, not refused)
        if isinstance(beaten, ReplyError) and not beaten.passes:
            raise beaten
        return Said(True, not refused)


async def same_server(*links: Link) -> None:
    """A server that was replaced between two connects would confirm what its predecessor lost.

    Raises:
        LinkLost: The links lead to different runs of a server.
    """
    runs = {(await link.call("INFO", "server")).split(b"run_id:")[1][:40] for link in links}
    if len(runs) > 1:
        raise LinkLost("Redis was restarted while we connected")
