"""The whole way with real recordings: what was once sent is archived as it was, and its Parquet says the same."""

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from common.clock import DAY_NS, SECOND_NS
from common.paths import day_of, folder, parquet_day, raw_day
from common.streams import Stream
from tests.sims.accounting import lines
from tests.sims.exchange.recording import read_all
from tests.sims.house import House, house
from tests.sims.recordings import DATA, MIDNIGHT, PRESENT, compare

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the recordings are not beside the repository"),
]

BEFORE_S = 12.0
"""So much of the recording is played before its midnight."""
START_S = 8.0
"""Until then the services have begun, on a busy machine too."""


def test_a_recorded_midnight_is_archived_in_both_days(tmp_path: Path) -> None:
    """Thirty seconds around a recorded midnight, played at the clock's midnight: every frame once, byte for byte, in
    its day; the first day is bundled and its minutes are gone; every Parquet value is that of the JSON."""
    frames = read_all(MIDNIGHT, (0, math.inf))
    midnight_s = (-(-frames[0].at_ns // DAY_NS) * DAY_NS - frames[0].at_ns) / SECOND_NS
    window = midnight_s - BEFORE_S, midnight_s + 18
    clock_midnight_ns = (time.time_ns() // DAY_NS + 2) * DAY_NS
    offset_s = clock_midnight_ns / SECOND_NS - (time.time() + START_S + BEFORE_S)
    channels = {"depth20": "depth20@100ms", "bookTicker": "bookTicker", "markPrice": "markPrice@1s"}
    streams = {Stream("um", channel, "BTCUSDT"): f"btcusdt@{name}" for channel, name in channels.items()}
    with house(
        tmp_path, *replay(MIDNIGHT, window), env={"MASERVER_CLOCK_OFFSET_S": f"{offset_s:.3f}"},
        SYMBOLS="BTCUSDT", CHANNELS=",".join(channels), ARCHIVER__BUNDLE_AFTER_S=1,
    ) as built:  # fmt: skip
        built.start("ingest")
        built.start("archiver")
        until(lambda: built.exchange.state()["replay"]["subscribed"] == len(channels), built)
        time.sleep(max(0.0, clock_midnight_ns / SECOND_NS - offset_s - BEFORE_S - time.time()))
        built.exchange.start_replay()
        before, after = day_of(clock_midnight_ns - 1), day_of(clock_midnight_ns)
        bundles = [built.data / raw_day(stream, before) for stream in streams]
        until(lambda: built.exchange.state()["replay"]["state"] == "done", built)
        until(lambda: all(bundle.exists() for bundle in bundles), built)
        built.settle()
        compare(built.exchange, built.data, streams, MIDNIGHT, window)
        for stream in streams:
            for kind, bundle in (("raw", raw_day(stream, before)), ("parquet", parquet_day(stream, before))):
                days = sorted(path.name for path in (built.data / folder(kind, stream)).iterdir())
                assert days == [bundle.name, after.isoformat()]
            event_days = Counter(
                day_of(json.loads(line.payload)["E"] * 1_000_000) for line in lines(built.data, stream)
            )
            assert set(event_days) == {before, after}


def test_payloads_of_the_present_are_archived_as_they_are(tmp_path: Path) -> None:
    """aggTrade and markPrice as the exchange sends them in 2026, with the keys `nq`, `st` and `ap`."""
    window = 0.0, 24.0
    streams = {
        Stream("um", "aggTrade", "BTCUSDT"): "btcusdt@aggTrade",
        Stream("um", "markPrice", "BTCUSDT"): "btcusdt@markPrice@1s",
    }
    with house(tmp_path, *replay(PRESENT, window), SYMBOLS="BTCUSDT", CHANNELS="aggTrade,markPrice") as built:
        built.start("ingest")
        built.start("archiver")
        until(lambda: built.exchange.state()["replay"]["subscribed"] == len(streams), built)
        built.exchange.start_replay()
        until(lambda: built.exchange.state()["replay"]["state"] == "done", built)
        built.settle()
        compare(built.exchange, built.data, streams, PRESENT, window)


def replay(files: tuple[Path, ...], window_s: tuple[float, float]) -> tuple[str, ...]:
    """Arguments of an exchange that plays recordings once it is told to."""
    never = "1000"
    return "--replay", *map(str, files), "--replay-window", "{}:{}".format(*window_s), "--replay-wait", never


def until(reached: Callable[[], bool], built: House, within_s: float = 70.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, built.log("ingest")[-2000:] + built.log("archiver")[-2000:]
        time.sleep(0.1)
