"""The sent record: what the exchange generated for each stream, and on how many connections each frame went out.

One fixed record of 24 bytes a frame, so that hours fit in memory: an hour of one depth20 stream is 0.9 MB.
"""

import struct
from hashlib import blake2b
from typing import NamedTuple

SKIPPED = 1
"""Generated, its id consumed, and held back on purpose."""
INJECTED = 2
"""Sent because a test said so; the generator knows nothing of it."""
REPEATED = 4
"""Sent twice on each connection (`deliveries` counts connections)."""
REORDERED = 8
"""Sent after the frame that follows it here."""
ALTERED = 16
"""Changed by an `alter` fault before it was sent; the digest is of what was sent."""

DIGEST_BYTES = 8
_RECORD = struct.Struct("<q8sII")
RECORD_BYTES = _RECORD.size
_SENT_NS = struct.Struct("<q")
_DELIVERIES = struct.Struct("<I")
_DELIVERIES_AT = 16

pack = _RECORD.pack


class Sent(NamedTuple):
    """One frame that the exchange generated.

    Attributes:
        sent_ns: The exchange's wall clock in ns when the frame was generated.
        digest: blake2b of the payload (the `data` member, not the wrapping), 8 bytes.
        deliveries: The connections on which it was written to the socket; what a cut destroyed on its way counts.
        flags: `SKIPPED`, `INJECTED`, `REPEATED`, `REORDERED`, `ALTERED`.
    """

    sent_ns: int
    digest: bytes
    deliveries: int
    flags: int


def digest(payload: bytes) -> bytes:
    """The digest under which a payload stands in the record."""
    return blake2b(payload, digest_size=DIGEST_BYTES).digest()


def unpack(records: bytes) -> list[Sent]:
    """Reads a record as `GET /control/sent/<market>/<stream>` gives it.

    Raises:
        struct.error: The length is no multiple of 24.
    """
    return [Sent(*fields) for fields in _RECORD.iter_unpack(records)]


def sent_ns(records: bytearray, at_bytes: int) -> int:
    """When the frame was generated whose record starts at `at_bytes`."""
    at_ns: int = _SENT_NS.unpack_from(records, at_bytes)[0]
    return at_ns


def add_delivery(records: bytearray, at_bytes: int) -> None:
    """Counts one more connection for the record that starts at `at_bytes`."""
    at_bytes += _DELIVERIES_AT
    _DELIVERIES.pack_into(records, at_bytes, _DELIVERIES.unpack_from(records, at_bytes)[0] + 1)
