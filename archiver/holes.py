"""Silences in what was recorded, against the ledger: each must have a row (DESIGN section 6). Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from common.channels import CHANNELS
from common.clock import SECOND_NS, iso
from common.ledger import Row
from common.streams import Stream

_SHORTEST_NS = 5 * SECOND_NS
_SLACK_NS = 2 * SECOND_NS
"""A row begins and ends at the last and the first frame of a session, or when its collector noticed."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A time in which a steady stream delivered nothing and that no row of the ledger explains; receive times in ns."""

    from_ns: int
    to_ns: int

    def __str__(self) -> str:
        return f"nothing for {(self.to_ns - self.from_ns) / SECOND_NS:.1f} s, {iso(self.from_ns)} to {iso(self.to_ns)}"


class Silences:
    """Follows a stream's receive times, minute after minute, and finds the silences that nothing explains.

    Args:
        stream: Whose frames; of a channel without a pace no silence is too long.
        rows: The ledger's rows, of any stream. A healed row explains too.
    """

    def __init__(self, stream: Stream, rows: Iterable[Row]) -> None:
        channel = CHANNELS.get(stream.channel)
        pace_s = channel.pace_s if channel else None
        self._longest_ns = max(_SHORTEST_NS, int(3 * pace_s * SECOND_NS)) if pace_s is not None else None
        self._explained = sorted(
            (row.from_ns - _SLACK_NS, (2**63 if row.to_ns is None else row.to_ns) + _SLACK_NS)
            for row in rows
            if row.stream == stream
        )
        self._last_ns: int | None = None

    def after(self, times: Iterable[int]) -> list[Hole]:
        """The holes that frames with these receive times, in ns, end."""
        if self._longest_ns is None:
            return []
        found: list[Hole] = []
        for at in times:
            if self._last_ns is not None and at - self._last_ns > self._longest_ns:
                found += self._unexplained(self._last_ns, at, self._longest_ns)
            self._last_ns = at if self._last_ns is None else max(self._last_ns, at)
        return found

    def _unexplained(self, from_ns: int, to_ns: int, longest_ns: int) -> list[Hole]:
        rest, at = [], from_ns
        for start, end in self._explained:
            if start > at:
                rest.append(Hole(at, min(start, to_ns)))
            at = max(at, end)
            if at >= to_ns:
                break
        if at < to_ns:
            rest.append(Hole(at, to_ns))
        return [hole for hole in rest if hole.to_ns - hole.from_ns > longest_ns]
