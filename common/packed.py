"""Reads packed commands back: which connections they came from, until when, and to which streams they go."""

import hiredis

from common.streams import Stream


def heard(packed: bytes) -> tuple[dict[str, int], set[Stream]]:
    """What a record of a spill tells of its entries, without looking into them.

    Returns:
        Connection to its last receive time in ns, and the streams. What is no XADD to a stream of ours is passed over.
    """
    reader = hiredis.Reader()
    reader.feed(packed)
    until: dict[str, int] = {}
    keys: set[bytes] = set()
    while (words := reader.gets()) is not False:
        if not isinstance(words, list) or words[:1] != [b"XADD"]:
            continue
        keys.add(words[1])
        fields = dict(zip(words[3::2], words[4::2], strict=False))
        if b"c" in fields and b"t" in fields:
            name = fields[b"c"].decode()
            until[name] = max(until.get(name, 0), int(fields[b"t"]))
    return until, {stream for key in keys if (stream := _stream(key)) is not None}


def _stream(key: bytes) -> Stream | None:
    try:
        return Stream.from_key(key.decode())
    except ValueError:
        return None
