"""Real recordings through the real stack of containers, across midnight."""

import math
import time
from pathlib import Path

import pytest

from common.clock import DAY_NS, SECOND_NS
from common.paths import day_of, parquet_day, raw_day
from common.streams import Stream
from tests.e2e.project import MARKS, Project, running
from tests.sims.exchange.recording import read_all
from tests.sims.recordings import DATA, MIDNIGHT, PRESENT, compare

pytestmark = [
    *MARKS,
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the recordings are not beside the repository"),
]

BEFORE_S, AFTER_S = 8.0, 12.0
"""So much of the recording is played before and after its midnight."""

START_S = 75.0
"""Until then images are built and services have begun."""

NAMES = {"depth20": "depth20@100ms", "aggTrade": "aggTrade", "bookTicker": "bookTicker", "markPrice": "markPrice@1s"}


def project(
    folder: Path, files: tuple[Path, ...], window_s: tuple[float, float], channels: tuple[str, ...], offset_s: float
) -> Project:
    played = " ".join(f"/recordings/{file.relative_to(DATA)}" for file in files)
    environ = {
        "MASERVER_SYMBOLS": "BTCUSDT",
        "MASERVER_CHANNELS": ",".join(channels),
        "MASERVER_ARCHIVER__BUNDLE_AFTER_S": "1",
        "MASERVER_CLOCK_OFFSET_S": f"{offset_s:.3f}",
        "MASERVER_TEST_SIM_ARGS": f"--replay {played} --replay-window {window_s[0]}:{window_s[1]} --replay-wait 1000",
    }
    return Project(folder, DATA, environ)


def play(built: Project, streams: dict[Stream, str], at_s: float) -> None:
    exchange = built.exchange()
    built.until(lambda: exchange.state()["replay"]["subscribed"] == len(streams))
    time.sleep(max(0.0, at_s - time.time()))
    exchange.start_replay()
    built.until(lambda: exchange.state()["replay"]["state"] == "done")


def of(channels: tuple[str, ...]) -> dict[Stream, str]:
    return {Stream("um", channel, "BTCUSDT"): f"btcusdt@{NAMES[channel]}" for channel in channels}


def test_a_recorded_midnight_through_compose(tmp_path: Path) -> None:
    """Books, tickers and marks around midnight: each frame once, byte for byte; the first day is bundled."""
    channels = ("depth20", "bookTicker", "markPrice")
    frames = read_all(MIDNIGHT, (0, math.inf))
    midnight_s = (-(-frames[0].at_ns // DAY_NS) * DAY_NS - frames[0].at_ns) / SECOND_NS
    window = midnight_s - BEFORE_S, midnight_s + AFTER_S
    clock_midnight_ns = (time.time_ns() // DAY_NS + 2) * DAY_NS
    begin_s = time.time() + START_S
    offset_s = clock_midnight_ns / SECOND_NS - BEFORE_S - begin_s
    with running(project(tmp_path, MIDNIGHT, window, channels, offset_s)) as built:
        play(built, of(channels), begin_s)
        before = day_of(clock_midnight_ns - 1)
        days = [built.data / path(stream, before) for stream in of(channels) for path in (raw_day, parquet_day)]
        built.until(lambda: all(day.exists() for day in days), 90.0)
        built.settle(offset_s)
        compare(built.exchange(), built.data, of(channels), MIDNIGHT, window)


def test_payloads_of_2026_through_compose(tmp_path: Path) -> None:
    """Trades and marks as the exchange sends them now."""
    channels, window = ("aggTrade", "markPrice"), (0.0, 20.0)
    with running(project(tmp_path, PRESENT, window, channels, 0.0)) as built:
        play(built, of(channels), 0.0)
        built.settle()
        compare(built.exchange(), built.data, of(channels), PRESENT, window)
