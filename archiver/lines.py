"""The lines of a minute: between the bytes of a `.jsonl` file and its frames, fast for a whole minute at once."""

import re
from collections.abc import Sequence

import msgspec

from common.frame import Frame, from_line, to_line, to_staged_line

_LINE = re.compile(rb'^\{"t":(\d{1,20}),"c":"([0-9a-zA-Z_.-]{1,64})","n":(\d{1,20}),"d":(.*)\}\n', re.MULTILINE)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])


def parse(content: bytes) -> list[Frame]:
    """The frames of lines that each end with `\\n`.

    Raises:
        ValueError: One of them is no line of the archive, or the last is cut off.
    """
    found = _LINE.findall(content)
    if len(found) == content.count(b"\n") and content.endswith(b"\n"):
        names = {name: name.decode() for name in {each[1] for each in found}}
        return [Frame(int(at), names[name], int(counter), payload) for at, name, counter, payload in found]
    *lines, rest = content.split(b"\n")
    if rest:
        raise ValueError(f"the last line is cut off: {rest[:80]!r}")
    return [from_line(line) for line in lines]


def render(frames: Sequence[Frame]) -> bytes:
    """The inverse of `parse`: payloads that are no JSON on one line stand there as base64."""
    to_text = to_staged_line if are_json([frame.payload for frame in frames]) else to_line
    return b"".join([to_text(frame) + b"\n" for frame in frames])


def are_json(payloads: Sequence[bytes]) -> bool:
    """Whether each of them is valid UTF-8 JSON on one line without blanks around it.

    They are decoded as one list: if its items have the payloads' lengths, then each item is one payload. That costs a
    fifth of asking one by one.
    """
    joined = b"[%b]" % b",".join(payloads)
    if b"\n" in joined or b"\r" in joined:
        return False
    try:
        if not joined.isascii():
            joined.decode()
        items = _RAWS.decode(joined)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return False
    return list(map(len, items)) == list(map(len, payloads))
