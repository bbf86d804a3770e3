"""Thrift's compact protocol, as much of it as a Parquet footer needs.

Source: thrift/doc/specs/thrift-compact-protocol.md. A struct is its fields in rising order of their numbers; each field
is a byte with the step from the number before and the type, then the value; a zero byte ends it.
"""

from collections.abc import Iterable, Sequence

_TRUE, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 5, 6, 8, 9, 12

_SHORT = [bytes((number,)) for number in range(128)]


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; not negative."""
    if number < 128:
        return _SHORT[number]
    if number < 16_384:
        return bytes((number & 127 | 128, number >> 7))
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def zigzag(number: int) -> bytes:
    """Signed, of at most 64 bits: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


class Field(bytes):
    """A value with its type."""

    type: int

    def __new__(cls, type_: int, content: bytes) -> "Field":
        field = super().__new__(cls, content)
        field.type = type_
        return field


TRUE = Field(_TRUE, b"")


def i32(number: int) -> Field:
    return Field(_I32, zigzag(number))


def i64(number: int) -> Field:
    return Field(_I64, zigzag(number))


def binary(content: bytes) -> Field:
    return Field(_BINARY, varint(len(content)) + content)


def listed(fields: Sequence[Field]) -> Field:
    """A list of one type, not empty."""
    count, kind = len(fields), fields[0].type
    head = bytes((count << 4 | kind,)) if count < 15 else bytes((0xF0 | kind,)) + varint(count)
    return Field(_LIST, head + b"".join(fields))


def after(before: int, number: int, field: Field) -> bytes:
    """A field of a struct, at most 15 behind the field before it."""
    return bytes(((number - before) << 4 | field.type,)) + field


def struct(fields: Iterable[tuple[int, Field]]) -> Field:
    """A struct of (number, value), the numbers rising by at most 15."""
    pieces = []
    before = 0
    for number, field in fields:
        pieces.append(after(before, number, field))
        before = number
    return Field(_STRUCT, b"".join(pieces) + b"\0")
