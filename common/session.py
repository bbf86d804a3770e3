"""Session events: what a collector says about its coverage of a stream, in the stream's own order (DESIGN section 6).

A session is the time in which one connection was subscribed to one exchange stream. A collector knows when its sessions
opened and closed and what it dropped; it cannot know what its twin received, so it writes no rows: the archiver does.
"""

from typing import Literal

import msgspec

Cause = Literal[
    "disconnect", "rotation", "stale", "gate", "suspend", "overflow", "redis", "crash", "maintenance", "halted",
    "rejected", "upstream",
]  # fmt: skip
"""Why an interval has no data, or not all of it."""


class Opened(msgspec.Struct, frozen=True, tag_field="event", tag="open"):
    """The stream is subscribed: the exchange said so, or a first frame came.

    Attributes:
        at: Wall clock in ns.
    """

    at: int


class Closed(msgspec.Struct, frozen=True, tag_field="event", tag="close"):
    """The session ended.

    Attributes:
        at: When the connection was last heard of, in ns: after it, frames may be missing.
        cause: Why.
        reason: The same in words, for a person.
    """

    at: int
    cause: Cause
    reason: str = ""


class Dropped(msgspec.Struct, frozen=True, tag_field="event", tag="drop"):
    """Frames were received and could not be kept.

    Attributes:
        at: Receive time of the first of them, in ns.
        to: Receive time of the last of them, in ns.
        frames: How many.
        cause: `redis` when Redis did not take them, `overflow` when they came too fast.
    """

    at: int
    to: int
    frames: int
    cause: Cause


Event = Opened | Closed | Dropped

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode
