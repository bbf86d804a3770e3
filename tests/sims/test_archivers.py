"""Several archivers, and clocks that lie."""

import json
import re
import time
from collections import Counter
from pathlib import Path

from common.clock import DAY_NS, MINUTE_NS, now_ns
from common.streams import Stream
from tests.conftest import Tell
from tests.sims.accounting import account, lines
from tests.sims.house import House, house

CHANNELS = "depth20,aggTrade,markPrice,bookTicker"


def test_two_archivers_share_and_inherit(tmp_path: Path, tell: Tell) -> None:
    """Two archivers write one archive; when one is killed, and when one is stopped for long, the other takes over."""
    with house(tmp_path, "--symbols", "BTCUSDT,ETHUSDT,SOLUSDT", SYMBOLS="BTCUSDT,ETHUSDT,SOLUSDT", CHANNELS=CHANNELS,
               ARCHIVER__STAGE_BYTES=100_000) as built:  # fmt: skip
        built.start("ingest")
        built.start("archiver")
        built.start("archiver-2")
        built.wait_for_frames(500)
        time.sleep(8)
        held = [
            line for line in (built.log("archiver") + built.log("archiver-2")).splitlines() if "shards held" in line
        ]
        assert any("[0, 1" not in line and line.count(",") > 3 for line in held)
        with built.paused("archiver"):
            time.sleep(8)
        time.sleep(3)
        built.kill("archiver-2")
        time.sleep(6)
        built.settle()
        result = account(built.exchange, built.data)
        tell(**result.figures)
        assert (result.missing, result.doubled, result.alien) == ({}, {}, {})


def test_days_off_the_year_2100_and_steps_rewrite_no_file_per_batch(tmp_path: Path) -> None:
    """Frames of last week, of the year 2100 and of a stepping clock are archived, each file written a few times."""
    stream = Stream("um", "depth20", "BTCUSDT")
    now = now_ns()
    week_ago, far = now - 7 * DAY_NS, now + 74 * 365 * DAY_NS
    payload = {"e": "depthUpdate", "E": 0, "T": 1, "s": "BTCUSDT", "U": 1, "u": 1, "pu": 0, "b": [], "a": []}
    entries = []
    for number in range(3000):
        receive_ns = (week_ago + number * 50_000_000, far + number * 1000, now - number * 10_000_000)[number % 3]
        event_ms = (receive_ns if number % 3 == 0 else now) // 1_000_000
        body = json.dumps({**payload, "E": event_ms, "u": number}, separators=(",", ":"))
        entries.append({"c": "test-1", "t": f"{receive_ns:019d}", "n": number + 1, "d": body})
    with house(tmp_path) as built:
        built.start("archiver")
        with built.redis.client() as client:
            client.sadd("md:streams", stream.key)
            for start in range(0, len(entries), 100):
                for entry in entries[start : start + 100]:
                    client.xadd(stream.key, entry)
                time.sleep(0.1)
        time.sleep(6)
        built.settle()
        found = lines(built.data, stream)
        assert Counter(line.counter for line in found) == Counter(range(1, 3001))
        minutes = {line.receive_ns // MINUTE_NS for line in found}
        assert written_minutes(built) <= 3 * len(minutes)


def written_minutes(built: House) -> int:
    """How many times a minute was written, parts and late ones included, by both archivers of the test."""
    return sum(int(match[1]) for match in re.finditer(r"(\d+) minutes written since the start", built.log("archiver")))
