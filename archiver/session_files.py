"""The session events as they are archived: `ledger/sessions/<YYYY-MM-DD>.jsonl`, of the day on which they were read."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from archiver.staging import Said
from common import ledger
from common.clock import now_ns
from common.paths import day_of
from common.session import Event

log = logging.getLogger(__name__)


class Line(msgspec.Struct, frozen=True):
    """A line of such a file: the stream's key, the connection, the event."""

    stream: str
    c: str
    event: Event


def files(data: Path) -> list[Path]:
    """All of them, by date."""
    return sorted((data / "ledger" / "sessions").glob("????-??-??.jsonl"))


def read(file: Path) -> Iterator[Line]:
    """The events of a file; lines that are none are left out and logged."""
    for number, text in enumerate(file.read_bytes().split(b"\n"), 1):
        if text:
            try:
                yield msgspec.json.decode(text, type=Line)
            except msgspec.DecodeError as error:
                log.error("%s line %d is no session event: %s", file, number, error)


def append(data: Path, said: Iterable[Said]) -> None:
    """Makes events durable.

    Raises:
        OSError: The disk does not take them.
    """
    lines = [msgspec.json.encode(Line(one.stream.key, one.connection, one.event)) for one in said]
    if lines:
        with ledger.locked_file(data / "ledger" / "sessions" / f"{day_of(now_ns())}.jsonl") as descriptor:
            ledger.append_lines(descriptor, lines)
