"""The whole way, without a fault: exchange, sockets, Redis, files."""

from pathlib import Path

from tests.conftest import Tell
from tests.sims.accounting import account, lines, streams
from tests.sims.house import house

CHANNELS = "depth20,aggTrade,markPrice,forceOrder,bookTicker,kline_1m"


def test_everything_sent_is_archived_once(tmp_path: Path, tell: Tell) -> None:
    """Every frame of every channel of both markets is in the archive, once, byte for byte; the ledger is empty."""
    with house(tmp_path, MARKETS="um,spot", CHANNELS=CHANNELS) as built:
        built.start("ingest")
        built.start("archiver")
        built.wait_for_frames(1000)
        built.settle()
        result = account(built.exchange, built.data)
        tell(**result.figures)
        assert result.archived > 900
        assert (result.missing, result.doubled, result.alien) == ({}, {}, {})
        found = streams(built.exchange)
        assert len(found) == 2 * 10
        assert all(lines(built.data, stream) for stream in found.values() if stream.channel != "forceOrder")
