"""Which streams there are: each stands in `md:streams` and has its group before its first frame (DESIGN section 3)."""

import logging
from collections.abc import Iterable
from typing import Any

from common.streams import GROUP, STREAMS_SET, Stream
from common.wire import Link, ReplyError, pack, raise_first

log = logging.getLogger(__name__)

_KNOWN = frozenset({"BUSYGROUP"})


class Registry:
    """The streams that a producer writes to."""

    def __init__(self) -> None:
        self._streams: dict[Stream, None] = {}

    def add(self, streams: Iterable[Stream], link: Link | None) -> None:
        """More streams, registered at once where there is a link; what is sent on it later finds them there."""
        new = [stream for stream in streams if stream not in self._streams]
        self._streams.update(dict.fromkeys(new))
        if link is not None and new:
            link.send(_commands(new), 2 * len(new), lambda replies: _answered(link, replies))

    async def register(self, link: Link) -> None:
        """Registers all of them over a new link.

        Raises:
            ReplyError: Redis does not take it.
            LinkLost: The link is gone.
        """
        known = 0
        while known < len(self._streams):  # some may be added while we wait
            new = list(self._streams)[known:]
            known += len(new)
            raise_first(await link.replies(_commands(new), 2 * len(new)), but=_KNOWN)

    async def renew(self, link: Link) -> None:
        """Registers again what Redis no longer names: FLUSHALL or DEL by somebody breaks no connection of ours.

        Raises:
            ReplyError: Redis does not take it.
            LinkLost: The link is gone.
        """
        if not self._streams:
            return
        streams = list(self._streams)
        named = await link.call("SMISMEMBER", STREAMS_SET, *(stream.key for stream in streams))
        gone = [stream for stream, is_named in zip(streams, named, strict=True) if not is_named]
        if gone:
            log.error("somebody deleted %d streams from %s, naming them again", len(gone), STREAMS_SET)
            raise_first(await link.replies(_commands(gone), 2 * len(gone)), but=_KNOWN)


def _commands(streams: Iterable[Stream]) -> bytes:
    return b"".join(
        pack("SADD", STREAMS_SET, stream.key) + pack("XGROUP", "CREATE", stream.key, GROUP, "0", "MKSTREAM")
        for stream in streams
    )


def _answered(link: Link, replies: list[Any]) -> None:
    """What could not be registered is tried again with a new link."""
    try:
        raise_first(replies, but=_KNOWN)
    except ReplyError as error:
        link.close(error)
