"""Where the archive keeps what (DESIGN section 5), relative to the data folder. All times are UTC."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path

from common.clock import MINUTE_NS, SECOND_NS
from common.streams import Stream


@dataclass(frozen=True, slots=True, order=True)
class Minute:
    """One minute of one stream: the unit in which the archive is written."""

    stream: Stream
    number: int
    """Minutes since 1970."""

    @property
    def start_ns(self) -> int:
        return self.number * MINUTE_NS

    @property
    def end_ns(self) -> int:
        return self.start_ns + MINUTE_NS

    @property
    def day(self) -> date:
        return day_of(self.start_ns)

    @property
    def name(self) -> str:
        """`HH-MM`."""
        return f"{datetime.fromtimestamp(self.number * 60, UTC):%H-%M}"


def day_of(at_ns: int) -> date:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).date()


def folder(kind: str, stream: Stream) -> Path:
    """`kind` is `raw` or `parquet`."""
    return Path(kind, stream.market, stream.channel, stream.symbol)


@lru_cache(maxsize=4096)
def raw_minute(minute: Minute) -> Path:
    return folder("raw", minute.stream) / minute.day.isoformat() / f"{minute.name}.zip"


@lru_cache(maxsize=4096)
def raw_day(stream: Stream, day: date) -> Path:
    return folder("raw", stream) / f"{day.isoformat()}.zip"


@lru_cache(maxsize=4096)
def parquet_minute(minute: Minute) -> Path:
    return folder("parquet", minute.stream) / minute.day.isoformat() / f"{minute.name}.parquet"


def parquet_day(stream: Stream, day: date) -> Path:
    return folder("parquet", stream) / f"{day.isoformat()}.parquet"


def ledger_day(day: date) -> Path:
    return Path("ledger", f"{day.isoformat()}.jsonl")
