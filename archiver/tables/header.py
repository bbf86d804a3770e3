"""The keys of a payload that have a column of their own: decoded strictly and fast, or key by key where one is unusual.

The fast way takes a whole minute as one JSON array and refuses it if any payload has an unknown key, lacks a required
one, or has a value of another type. The slow way keeps what it does not know, verbatim, as `extra`.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec

from archiver.alike import Alike
from archiver.tables.minute_file import Values
from common.columns import CONSTANTS, Column, columns
from common.streams import Stream

_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_INT8 = Annotated[int, msgspec.Meta(ge=-128, le=127)]
_TIME_MS = Annotated[int, msgspec.Meta(ge=0, le=2**63 // 1_000_000 - 1)]  # what still fits into 64 bits of ns
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Loose(NamedTuple):
    """One payload, decoded key by key.

    Attributes:
        values: Key path to value, of the keys with a column; what is absent or unusual is missing.
        raw: Key path to the value's JSON, of the same keys and of those in `asked`.
        extra: Key to the JSON of its value, or to such a mapping for the keys inside `k` or `o`.
    """

    values: dict[str, Any]
    raw: dict[str, str]
    extra: dict[str, Any]


def _type(column: Column) -> Any:
    if column.type == "bool" or column.name == "taker_side":
        return bool
    if column.group or column.type == "category":
        return str
    return {"time_ms": _TIME_MS, "int8": _INT8}.get(column.type, _INT64)


class Header:
    """The keys of one stream's payloads."""

    def __init__(self, stream: Stream) -> None:
        fixed = CONSTANTS[stream.market, stream.channel]
        self.constants = {path: stream.symbol if value is None else value for path, value in fixed.items()}
        self.columns = {column.key: column for column in columns(stream.market, stream.channel) if column.key}
        self._types: dict[str, Any] = dict.fromkeys(self.constants, str)
        self._types |= {path: _type(column) for path, column in self.columns.items()}
        self._required = {*self.constants, *(path for path, column in self.columns.items() if column.required)}
        self.nested = next((path.split(".")[0] for path in self._types if "." in path), "")
        self._payloads = msgspec.json.Decoder(list[self._struct()])  # type: ignore[misc]

    def _struct(self) -> Any:
        def fields(paths: dict[str, str]) -> list[Any]:
            named = [
                (key, self._types[path]) if path in self._required else (key, self._types[path], None)
                for key, path in paths.items()
            ]
            return sorted(named, key=len)

        outer: list[Any] = fields({path: path for path in self._types if "." not in path})
        if self.nested:
            inner = fields({path.split(".")[1]: path for path in self._types if "." in path})
            outer.insert(0, (self.nested, msgspec.defstruct("Inner", inner, forbid_unknown_fields=True, gc=False)))
        return msgspec.defstruct("Payload", outer, forbid_unknown_fields=True, gc=False)

    def decode(self, payloads: Sequence[bytes]) -> dict[str, list[Any]] | None:
        """The values of each key with a column, None where it is absent; None instead if a payload is unusual."""
        # a brace at each end and a line's end between: two broken payloads cannot make two whole ones together
        if not all(payload.startswith(b"{") and payload.endswith(b"}") for payload in payloads):
            return None
        try:
            rows = self._payloads.decode(b"[" + b",\n".join(payloads) + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if len(rows) != len(payloads):
            return None
        inner = [getattr(row, self.nested) for row in rows] if self.nested else []
        found = {}
        for path in self._types:
            key = path.rpartition(".")[2]
            found[path] = [getattr(row, key) for row in (inner if "." in path else rows)]
        for path, value in self.constants.items():
            if found.pop(path).count(value) != len(rows):
                return None
        return found

    def decode_alike(self, alike: Alike, pieces: Sequence[slice]) -> dict[str, Values] | None:
        """As `decode`, by column, for payloads without lists that differ in their digits only.

        Args:
            alike: Lines that hold a payload each.
            pieces: Where it is in the first line, but for what is left out of it.
        """
        decoded = self.decode([b"".join([alike.first[piece] for piece in pieces])])
        numbers = alike.numbers
        if decoded is None or numbers is None:
            return None
        found: dict[str, Values] = {}
        fixed = {run for piece in pieces for run in alike.runs(piece.start, piece.stop)}
        for path, (value,) in decoded.items():
            if value is None or isinstance(value, str):
                found[self.columns[path].name] = value
                continue
            run = _run_of(alike, path, pieces)
            if run not in numbers or numbers[run][0] != value:
                return None
            low, high = int(numbers[run].min()), int(numbers[run].max())
            try:
                msgspec.convert([low, high], list[self._types[path]])  # type: ignore[name-defined]
            except msgspec.ValidationError:
                return None
            fixed.discard(run)
            found[self.columns[path].name] = low if low == high else numbers[run]
        return found if alike.are_constant(sorted(fixed)) else None

    def decode_loosely(self, payload: bytes, asked: Sequence[str] = ()) -> Loose:
        """One payload, key by key.

        Raises:
            ValueError: It is no JSON object, belongs to another stream, or a required key is absent or of another type.
        """
        try:
            json.loads(payload.decode())
            top: dict[str, Any] = {key: bytes(raw) for key, raw in _OBJECT.decode(payload).items()}
            if self.nested:
                inside = _OBJECT.decode(top.pop(self.nested, b"null")).items()
                top |= {f"{self.nested}.{key}": bytes(raw) for key, raw in inside}
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        values: dict[str, Any] = {}
        raws = {path: raw.decode() for path, raw in top.items()}
        for path, expected in self._types.items():
            if path not in top:
                if path in self._required:
                    raise ValueError(f"it has no {path!r}")
                continue
            try:
                values[path] = msgspec.json.decode(top[path], type=expected)
            except msgspec.DecodeError as error:
                if path in self._required:
                    raise ValueError(f"its {path!r} is unusual: {error}") from error
        for path, value in self.constants.items():
            if values.pop(path) != value:
                raise ValueError(f"its {path!r} is not {value!r}")
        extra: dict[str, Any] = {}
        for path, raw in raws.items():
            if path not in values and path not in self.constants and path not in asked:
                self.keep(extra, path, raw)
        return Loose(values, raws, extra)

    def keep(self, extra: dict[str, Any], path: str, raw: str) -> None:
        """Adds a key that no column holds."""
        outer, _, inner = path.partition(".")
        if self.nested and outer == self.nested and inner:
            extra.setdefault(outer, {})[inner] = raw
        else:
            extra[path] = raw


def _run_of(alike: Alike, path: str, pieces: Sequence[slice]) -> int:
    """Which run of digits the value of a key is; -1 where that is not plain."""
    mark = b'"%b":' % path.encode()
    found = [at + len(mark) for piece in pieces if (at := alike.first.find(mark, piece.start, piece.stop)) >= 0]
    runs = alike.runs(found[0], found[0] + 1) if len(found) == 1 else ()
    return runs[0] if runs else -1


def extra_text(extra: dict[str, Any]) -> str | None:
    """The `extra` column's JSON: each value verbatim; None if there is none."""
    if not extra:
        return None
    values = {key: extra_text(raw) if isinstance(raw, dict) else raw for key, raw in extra.items()}
    members = (f"{json.dumps(key, ensure_ascii=False)}:{raw}" for key, raw in values.items())
    return "{" + ",".join(members) + "}"


@lru_cache(maxsize=4096)
def header(stream: Stream) -> Header:
    """The stream's header, built once in each worker.

    Raises:
        ValueError: The channel has no Parquet.
    """
    return Header(stream)
