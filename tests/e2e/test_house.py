"""`python main.py --sim`: the whole house without Docker and without a network, as a newcomer starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from common import ledger
from common.streams import Stream
from tests.sims.accounting import lines, verify_holds
from tests.sims.exchange.client import Exchange

ROOT = Path(__file__).parents[2]
STREAMS = [Stream("um", "depth20", symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
AHEAD_S = 200


@contextmanager
def house(folder: Path, **environ: object) -> Iterator[Exchange]:
    """A running house; at the end Ctrl-C, and it has ended with 0 and in order."""
    given: Mapping[str, object] = {
        "DATA_DIR": folder / "data",
        "STATE_DIR": folder / "state",
        "CHANNELS": "depth20",
        "INGEST__METRICS_PORT": 0,
        "ARCHIVER__METRICS_PORT": 0,
        "GATE__METRICS_PORT": 0,
        "ARCHIVER__GRACE_S": 1.5,
        "ARCHIVER__STAGE_BYTES": 100_000,
        **environ,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MASERVER_")}
    said = folder / "said.log"
    with said.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "main.py", "--sim"],
            cwd=ROOT,
            env=clean | {f"MASERVER_{name}": str(value) for name, value in given.items()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = re.compile(r"exchange \| (\{.*\})")
        until(lambda: address.search(said.read_text()) is not None, said)
        found = address.search(said.read_text())
        assert found is not None
        yield Exchange.attached(json.loads(found[1])["http"])
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them at once
        assert process.wait(40) == 0, said.read_text()[-3000:]
        assert re.findall(r"(\w+) has ended", said.read_text()) == ["ingest", "gate", "archiver", "exchange", "redis"]
        assert "Traceback" not in said.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def until(reached: Callable[[], bool], said: Path, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(said.read_text()[-3000:])
        time.sleep(0.2)


def archived(folder: Path) -> dict[Stream, Counter[bytes]]:
    """How often each frame is in the archive, by its digest."""
    data = folder / "data"
    return {stream: Counter(Exchange.digest(line.payload) for line in lines(data, stream)) for stream in STREAMS}


def test_a_newcomers_house_records_stops_and_goes_on(tmp_path: Path) -> None:
    """`main.py --sim` makes minute files, Ctrl-C ends all with 0, and the next start archives what the first had left:
    every frame that was sent before the end is there, once."""
    data, said = tmp_path / "data", tmp_path / "said.log"
    with house(tmp_path) as exchange:
        until(lambda: all(len(lines(data, stream)) > 3 for stream in STREAMS), said)
        sent = {stream: {one.digest for one in exchange.sent("um", stream.exchange_name)} for stream in STREAMS}
    left = {stream: sent[stream] - found.keys() for stream, found in archived(tmp_path).items()}
    assert any(left.values())
    with house(tmp_path, CLOCK_OFFSET_S=AHEAD_S):  # so that all minutes of the first start are over
        until(lambda: not any(sent[stream] - found.keys() for stream, found in archived(tmp_path).items()), said)
        before = {line.connection for stream in STREAMS for line in lines(data, stream)}
        until(lambda: all({line.connection for line in lines(data, stream)} - before for stream in STREAMS), said)
    found = archived(tmp_path)
    assert [stream for stream in STREAMS if max(found[stream].values()) > 1] == []
    assert {row.cause for row in ledger.read(data)} == {"maintenance"}
    assert verify_holds(data) == []
