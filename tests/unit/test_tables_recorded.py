"""Real recordings to Parquet and back, value for value."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.tables import encode, payload_values, read, write
from archiver.tables.schema import stream_of
from common.frame import Frame
from common.streams import Stream

DATA = Path(__file__).parents[3] / "shared/data"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.exists(), reason="the recordings are not beside the repository"),
]


def frames_of(payloads: list[bytes]) -> list[Frame]:
    connection = "17e9a3b0c1d2e3f-ab12"
    return [Frame(1_790_526_539_000_000_000 + n, connection, n, payload) for n, payload in enumerate(payloads, 1)]


def assert_lossless(stream: Stream, payloads: list[bytes]) -> None:
    encoded = encode(stream, frames_of(payloads))
    assert encoded.rejected == []
    assert payload_values(encoded.table) == [json.loads(payload) for payload in payloads]


def recorded(channel: str, market: str, symbol: str) -> Iterator[bytes]:
    """The payloads of a stream in the recordings that hold one combined frame a line."""
    name = f"{symbol.lower()}@{channel}"
    for path in sorted(DATA.glob(f"ws/{market}_*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in content.splitlines():
            at = line.find(b'{"stream":"' + name.encode())
            if at >= 0 and b'"data":' in line:
                envelope = json.JSONDecoder().raw_decode(line[at:].decode())[0]
                if envelope["stream"] in (name, f"{name}@1s"):
                    start = line.index(b'"data":', at) + 7
                    yield line[start : line.rindex(b"}")]


@pytest.mark.parametrize("path", sorted(DATA.glob("derived/*depth20*")), ids=lambda path: path.name[:20])
def test_recorded_books_survive_a_file(path: Path, tmp_path: Path) -> None:
    """Real books come back from a Parquet file as the exchange sent them, with the columns' types and metadata."""
    stream = Stream(path.name.partition("_")[0], "depth20", "BTCUSDT")
    with gzip.open(path) as lines:
        payloads = [
            line[line.index(b'"data":') + 7 : line.rindex(b"}")] for line, _ in zip(lines, range(600), strict=False)
        ]
    encoded = encode(stream, frames_of(payloads))
    write(encoded.table, tmp_path / "minute")
    table = read(tmp_path / "minute")
    assert encoded.rejected == []
    assert table.equals(encoded.table, check_metadata=True)
    assert stream_of(table.schema) == stream
    assert payload_values(table) == [json.loads(payload) for payload in payloads]
    assert table.column("extra").null_count == 600


@pytest.mark.parametrize(
    ("market", "channel", "wire", "symbol"),
    [
        ("um", "aggTrade", "aggTrade", "SUSHIUSDT"),
        ("um", "bookTicker", "bookTicker", "BTCUSDT"),
        ("um", "markPrice", "markPrice", "BTCUSDT"),
        ("um", "forceOrder", "forceOrder", "BTCUSDT"),
        ("um", "kline_1m", "kline_1m", "SUSHIUSDT"),
        ("spot", "aggTrade", "aggTrade", "BTCUSDT"),
        ("spot", "bookTicker", "bookTicker", "BTCUSDT"),
        ("spot", "kline_1m", "kline_1m", "ETHUSDT"),
    ],
)
def test_recorded_frames_survive(market: str, channel: str, wire: str, symbol: str) -> None:
    """Real frames of each channel come back as the exchange sent them."""
    payloads = [payload for payload, _ in zip(recorded(wire, market, symbol), range(2000), strict=False)]
    assert payloads
    assert_lossless(Stream(market, channel, symbol), payloads)


@pytest.mark.parametrize(
    ("channel", "name"), [("aggTrade", "aggTrade"), ("kline_1m", "kline1m"), ("markPrice", "markPrice1s")]
)
def test_frames_of_2026_survive(channel: str, name: str) -> None:
    """The keys of 2026 and blanks after commas change nothing: nothing is refused and nothing lost."""
    (path,) = DATA.glob(f"ws/um_BTCUSDT_20261006_{name}_*")
    payloads = path.read_bytes().splitlines()
    assert len(payloads) >= 25
    assert_lossless(Stream("um", channel, "BTCUSDT"), payloads)
