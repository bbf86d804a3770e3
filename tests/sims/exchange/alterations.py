"""The faults of single frames: skip, repeat, reorder, and the ways in which a payload is altered. Pure."""

import re
from collections.abc import Callable

from tests.sims.exchange import sent

FLAGS = {"skip": sent.SKIPPED, "repeat": sent.REPEATED, "reorder": sent.REORDERED, "alter": sent.ALTERED}


def _with_blanks(payload: bytes) -> bytes:
    """Blanks after commas and colons (no text of the protocol holds one before a quote, so texts stay as they are)."""
    return re.sub(rb'([,:])(?=["\[{\dtf-])', rb"\1 ", payload)


def _with_unknown_key(payload: bytes) -> bytes:
    return payload[:-1] + b',"zz":"new"}'


def _with_empty_levels(payload: bytes) -> bytes:
    return re.sub(rb'"(b|a|bids|asks)":\[(?:\["[^"]*","[^"]*"\],?)*\]', rb'"\1":[]', payload)


def _with_pair_outside(payload: bytes) -> bytes:
    """The forceOrder of the connector's models: `ps` and `st` at the top level (reference 2.2)."""
    match = re.search(rb',"ps":"[^"]*","st":\d+', payload)
    if match is None:
        return payload
    return payload[: match.start()] + payload[match.end() : -1] + match[0] + b"}"


def _with_earlier_time(payload: bytes) -> bytes:
    """The event time 5 s back."""
    return re.sub(rb'"E":(\d+)', lambda match: b'"E":%d' % (int(match[1]) - 5_000), payload, count=1)


ALTERATIONS: dict[str, Callable[[bytes], bytes]] = {
    "blanks": _with_blanks,
    "unknown_key": _with_unknown_key,
    "empty_levels": _with_empty_levels,
    "pair_outside": _with_pair_outside,
    "earlier_time": _with_earlier_time,
}


class Plan:
    """A fault that befalls the next `n` frames of a stream, or the next `n` of those that contain `where`.

    Args:
        kind: `skip`, `repeat`, `reorder` or `alter`.
        n: How many frames.
        where: A part of the payload that singles frames out, for instance `"x":true`.
        how: For `alter`, one of `ALTERATIONS`.

    Raises:
        ValueError: The kind or the way is unknown, or `n` is not positive.
    """

    def __init__(self, kind: str, n: int, where: str = "", how: str = "") -> None:
        if kind not in FLAGS:
            raise ValueError(f"unknown fault of frames {kind!r}")
        if n < 1:
            raise ValueError(f"n is {n}, and must be at least 1")
        if kind == "alter" and how not in ALTERATIONS:
            raise ValueError(f"how is {how!r}, and must be one of {', '.join(ALTERATIONS)}")
        self.flag = FLAGS[kind]
        self._left = n
        self._where = where.encode()
        self._how = ALTERATIONS.get(how)

    def meets(self, payload: bytes) -> bool:
        """Whether the fault befalls this frame; counts it if so."""
        if self._left < 1 or self._where not in payload:
            return False
        self._left -= 1
        return True

    @property
    def is_spent(self) -> bool:
        return self._left < 1

    def alter(self, payload: bytes) -> bytes:
        return self._how(payload) if self._how else payload
