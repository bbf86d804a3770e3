"""A plain minute: the staged lines of one connection, in order, that differ in their digits only.

There is nothing to unite, to sort or to validate line by line in such a minute: its lines are the file's, as they are.
Almost every minute of depth20 is plain; where one is not, `archiver.lines` and `archiver.merge` find out what it is.
"""

import re
from dataclasses import dataclass
from typing import Self

from archiver import lines
from archiver.alike import Alike, Integers
from archiver.summaries import Summary
from common.frame import Frame, is_json_line

_HEAD = re.compile(rb'\{"t":(\d+),"c":"([0-9a-zA-Z_.-]{1,64})","n":(\d+),"d":')


@dataclass(frozen=True, eq=False)
class Plain:
    """A plain minute.

    Attributes:
        content: The lines.
        alike: The same, taken apart.
        head_bytes: Where the payload begins in the first line.
        connection: The connection of all frames.
        receive_ns: When each frame came; never falls.
        counters: Each frame's place among those of its connection; rises.
    """

    content: bytes
    alike: Alike
    head_bytes: int
    connection: str
    receive_ns: Integers
    counters: Integers

    @classmethod
    def of(cls, content: bytes) -> Self | None:
        """The minute of these lines, as they were staged; None if it is not plain."""
        alike = Alike.of(content)
        if alike is None:
            return None
        head = _HEAD.match(alike.first)
        if head is None or not is_json_line(alike.first[head.end() : -2]) or alike.numbers is None:
            return None
        at, *inside, counter = alike.runs(0, head.end())
        receive_ns, counters = alike.numbers[at], alike.numbers[counter]
        if (receive_ns[1:] < receive_ns[:-1]).any() or (counters[1:] <= counters[:-1]).any():
            return None
        if not alike.are_constant(inside):
            return None
        return cls(content, alike, head.end(), head[2].decode(), receive_ns, counters)

    def __len__(self) -> int:
        return self.alike.count

    @property
    def payload(self) -> slice:
        """Where the payload is in the first line."""
        return slice(self.head_bytes, len(self.alike.first) - 2)

    @property
    def first_ns(self) -> int:
        return int(self.receive_ns[0])

    @property
    def last_ns(self) -> int:
        return int(self.receive_ns[-1])

    def summary(self) -> Summary:
        """What it holds."""
        connections = {self.connection: (len(self), self.first_ns, self.last_ns)}
        return Summary(len(self), self.first_ns, self.last_ns, connections)

    def frames(self) -> list[Frame]:
        """All frames."""
        return lines.parse(self.content)

    def ends(self, within_ns: int) -> list[Frame]:
        """The frames that came within some time of the first or of the last one."""
        stop = int(self.receive_ns.searchsorted(self.first_ns + within_ns, "right"))
        start = int(self.receive_ns.searchsorted(self.last_ns - within_ns, "left"))
        if start <= stop:
            return self.frames()
        borders = self.alike.starts[[stop, start], 0] - self.alike.starts[0, 0]
        return lines.parse(self.content[: borders[0]] + self.content[borders[1] :])
