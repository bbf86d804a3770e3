"""Session events: what a collector says about its coverage of a stream, in the stream's own order (DESIGN section 6).

A session is the time in which one connection was subscribed to one exchange stream. A connection may have several of a
stream, one after the other: it was unsubscribed and subscribed again, or the stream fell silent and spoke again. A
collector knows when its sessions opened and closed and what it dropped; it cannot know what its twin received, so it
writes no rows: the archiver does.

Times are wall clock in ns, and the *exchange's*: what a lagging connection delivers late was covered when it was sent.
"""

from typing import Literal

import msgspec

Cause = Literal[
    "disconnect", "rotation", "stale", "gate", "suspend", "overflow", "redis", "crash", "maintenance", "halted",
    "rejected", "upstream",
]  # fmt: skip
"""Why an interval has no data, or not all of it."""


class Opened(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", tag="open"):
    """The stream is subscribed: the exchange said so, or a first frame came.

    Attributes:
        at: Covered from here on, in ns.
        session: Which of the connection's sessions of this stream, from 1. Session 0 covers nothing: it says why
            nothing is covered.
    """

    at: int
    session: int = 1


class Closed(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", tag="close"):
    """The session ended.

    Attributes:
        at: Covered until here, in ns: after it, frames may be missing.
        cause: Why.
        reason: The same in words, for a person.
        session: Which of the connection's sessions of this stream.
    """

    at: int
    cause: Cause
    reason: str = ""
    session: int = 1


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


class Marked(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", tag="mark"):
    """Everything is recorded, and something about it should be known.

    Attributes:
        at: From here on, in ns.
        cause: `gate`: the latency gate is closed and only marks; `suspend`: the clock was stepped.
        to: Until here, in ns; None while it lasts. It ends with the connection at the latest.
        reason: The same in words, for a person.
    """

    at: int
    cause: Cause
    to: int | None = None
    reason: str = ""


Event = Opened | Closed | Dropped | Marked

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode
