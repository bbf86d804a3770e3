"""A small archive for tests: frames of a made-up book, staged and written as the archiver does it."""

from collections.abc import Iterable
from pathlib import Path

from archiver import lines, members
from archiver.jobs import Job, Written
from archiver.minutes import write_minutes
from common.clock import DAY_NS, MINUTE_NS
from common.frame import Frame, to_staged_line
from common.paths import Minute, raw_day, raw_minute
from common.streams import Stream

BOOK = Stream("um", "depth20", "BTCUSDT")
SPOT = Stream("spot", "depth20", "测试USDT")
TRADES = Stream("um", "aggTrade", "BTCUSDT")
DAY_START_NS = 20_000 * DAY_NS


def minute(number: int, stream: Stream = BOOK) -> Minute:
    """A minute of the day of all tests, by its number in the day."""
    return Minute(stream, DAY_START_NS // MINUTE_NS + number)


def book_payload(u: int, event_ns: int, extra: str = "") -> bytes:
    at = event_ns // 1_000_000
    text = (
        f'{{"e":"depthUpdate","E":{at},"T":{at},"s":"BTCUSDT","U":{u},"u":{u},"pu":{u - 1},'
        f'"b":[["61800.{u % 90 + 10}","2.890"],["61799.10","0.696"]],"a":[["61801.00","1.{u % 9}23"]]{extra}}}'
    )
    return text.encode()


def trade_payload(number: int, event_ns: int) -> bytes:
    at = event_ns // 1_000_000
    text = (
        f'{{"e":"aggTrade","E":{at},"s":"BTCUSDT","a":{number},"p":"61800.10","q":"0.015","f":{number},"l":{number},'
        f'"T":{at},"m":true}}'
    )
    return text.encode()


def book_frames(of: Minute, count: int = 60, connection: str = "a-1", late_ns: int = 0, step: int = 1) -> list[Frame]:
    """A minute's frames, spread evenly; connections that deliver the same minute deliver the same ids."""
    frames = []
    for n in range(0, count, step):
        event_ns = of.start_ns + n * MINUTE_NS // count
        number = of.number * 1000 + n
        payload = trade_payload(number, event_ns) if of.stream.channel == "aggTrade" else book_payload(number, event_ns)
        frames.append(Frame(event_ns + late_ns, connection, number, payload))
    return frames


def stage(folder: Path, frames: Iterable[Frame]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}"
    path.write_bytes(b"".join([to_staged_line(frame) + b"\n" for frame in frames]))
    return path


def archive(data: Path, *parts: tuple[Minute, list[Frame]], grows: bool = False) -> list[Written]:
    """Stages and writes minutes into the archive."""
    jobs = [Job(of, (stage(data.parent / "stage", frames),), grows) for of, frames in parts]
    return write_minutes(data, jobs)


def archived(data: Path, of: Minute) -> list[Frame]:
    """What the minute's own file holds."""
    return lines.parse(members.read_member(data / raw_minute(of), members.member_name(of)))


def everything(data: Path, stream: Stream, of: Minute) -> list[Frame]:
    """The frames of a stream's day, from its bundle and its minute files, each minute's together."""
    found: list[Frame] = []
    bundle = data / raw_day(stream, of.day)
    if bundle.exists():
        for member in members.directory(bundle).members:
            found += lines.parse(members.read_member(bundle, member.name))
    for path in sorted((data / raw_minute(of)).parent.glob("*.zip")):
        found += lines.parse(members.read_member(path, f"{path.stem}.jsonl"))
    return found
