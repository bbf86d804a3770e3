"""Connections and streams that are there and say nothing."""

import re
import time
from pathlib import Path

from tests.conftest import LENGTH, Tell
from tests.sims.house import house
from tests.sims.matrix import ALONE_AND_TWINS, LONG, TWINS_IN_SOAK, accounted, connections, recording

pytestmark = LONG

BOOK, MARK = "btcusdt@depth20@100ms", "btcusdt@markPrice@1s"


@ALONE_AND_TWINS
def test_pings_go_on_and_no_data_comes(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """The silent death of a connection: replaced as soon as all its streams are silent together."""
    with recording(tmp_path, collectors=collectors) as built:
        built.exchange.fault("dead", market="um")
        time.sleep(14)
        accounted(built, tell, "stale")
        assert "the next connection is opened" in built.log("ingest")


@ALONE_AND_TWINS
def test_one_subscription_that_went_deaf(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """One stream of a connection falls silent, its neighbours go on: subscribed again, and it delivers again."""
    with recording(tmp_path, collectors=collectors, warm_s=8) as built:
        for number in connections(built, "um"):
            built.exchange.fault("silence", market="um", streams=[BOOK], connection=number)
        time.sleep(10)
        result = accounted(built, tell, "stale")
        assert {row.stream.channel for row in result.holding()} == {"depth20"}
        assert "md:um:depth20:BTCUSDT delivers again" in built.log("ingest")


@TWINS_IN_SOAK
def test_a_stream_that_the_exchange_does_not_send(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """Silent for everybody: named, its connection replaced, and the row ends with its first frame."""
    with recording(tmp_path, collectors=collectors, warm_s=8) as built:
        built.exchange.fault("silence", market="um", streams=[BOOK, MARK])
        time.sleep(26)
        assert "md:um:depth20:BTCUSDT is silent" in built.log("ingest")
        assert "md:um:markPrice:BTCUSDT is silent" in built.log("ingest")
        built.exchange.fault("speak", market="um", streams=[BOOK, MARK])
        time.sleep(4)
        result = accounted(built, tell, "stale")
        assert {row.stream.symbol for row in result.holding()} == {"BTCUSDT"}


@TWINS_IN_SOAK
def test_streams_that_moved_to_another_route(collectors: int, tmp_path: Path, tell: Tell) -> None:
    """What happened on 2026-04-23: acknowledged and silent from the start. Each names itself within a minute."""
    with recording(tmp_path, collectors=collectors, warm_s=0) as built:
        built.exchange.fault("reroute", streams=["btcusdt@aggTrade", "ethusdt@aggTrade"], route="public")
        built.exchange.fault("cut", how="fin", market="um")
        time.sleep(45)
        log = built.log("ingest")
        assert "md:um:aggTrade:BTCUSDT is silent" in log
        assert "md:um:aggTrade:ETHUSDT is silent" in log
        result = accounted(built, tell, "disconnect", "stale")
        assert {("aggTrade", "stale")} <= {(row.channel, row.cause) for row in result.rows}


def test_a_quiet_symbol_is_no_silent_one(tmp_path: Path, tell: Tell) -> None:
    """A symbol in which almost nothing happens gets no row."""
    with recording(
        tmp_path, "--symbols", "BTCUSDT,QUIETUSDT", "--quiet", "QUIETUSDT", SYMBOLS="BTCUSDT,QUIETUSDT",
        CHANNELS="depth20,aggTrade,bookTicker,forceOrder", warm_s=45 * max(1.0, LENGTH / 2),
    ) as built:  # fmt: skip
        accounted(built, tell)


def test_nothing_at_all_ends_the_process(tmp_path: Path) -> None:
    """Connections are there and nothing comes on any of them, old or new: the collector drains and ends with 1."""
    with recording(tmp_path, INGEST__EXIT_AFTER_S=12, warm_s=2) as built:
        names = {market: list(built.exchange.streams(market)) for market in ("um", "spot")}
        for market, streams in names.items():
            built.exchange.fault("silence", market=market, streams=streams)
        assert built.process("ingest").wait(40) == 1
        log = built.log("ingest")
        assert "nothing came from the exchange" in log
        assert "the next connection is opened" in log
        for market, streams in names.items():
            built.exchange.fault("speak", market=market, streams=streams)


def test_liquidations_that_do_not_come(tmp_path: Path) -> None:
    """Only what may be silent for hours is recorded, and it is: the exchange's pongs keep the collector well."""
    with house(tmp_path, MARKETS="um", CHANNELS="forceOrder", INGEST__IDLE_PING_S=1) as built:
        built.exchange.fault("silence", market="um", streams=["btcusdt@forceOrder", "ethusdt@forceOrder"])
        built.start("ingest")
        time.sleep(8)
        metrics = built.metrics("ingest")
        (age_s,) = re.findall('maserver_data_age_seconds{what="frames"} (.*)', metrics)
        assert float(age_s) < 5
        assert sum(map(float, re.findall("maserver_ingest_frames_total{.*} (.*)", metrics))) == 0
