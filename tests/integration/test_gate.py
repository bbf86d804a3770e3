"""The gate as a real process, with a real Redis and the simulated exchange; and a collector's view of it."""

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.clock import SECOND_NS, now_ns
from common.gate import BEAT, STATE, TABLE, Decision, Start, Table, event_of, pack_sample, states_of, table_of
from common.wire import linked
from ingest.gatekeeper import Gatekeeper
from tests.redis_server import RedisServer
from tests.sims.exchange.client import Exchange

ROOT = Path(__file__).parents[2]
WITHIN_S = 40.0
SYMBOLS = ("BTCUSDT", "ETHUSDT")
SETTINGS = {
    "GATE__METRICS_PORT": 0,
    "GATE__WINDOW": 3,
    "GATE__SAMPLES": 2,
    "GATE__DWELL_S": 2,
    "GATE__PROBE_S": 5,
    "GATE__CLOSE_ABOVE_MS": 600,
    "GATE__OPEN_BELOW_MS": 300,
}


def until(true: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


class Gate:
    """The gate, and what it wrote."""

    def __init__(self, folder: Path, redis: RedisServer, exchange: Exchange, **settings: object) -> None:
        self.folder, self.redis, self.exchange = folder, redis, exchange
        given = {
            "REDIS_URL": redis.url,
            "UM_WS_URL": exchange.um_ws,
            "SPOT_WS_URL": exchange.spot_ws,
            "UM_REST_URL": exchange.http,
            "SPOT_REST_URL": exchange.http,
            "STATE_DIR": folder / "state",
            **SETTINGS,
            **settings,
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MASERVER_")}
        self.environ = clean | {f"MASERVER_{name}": str(value) for name, value in given.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environ: object) -> None:
        with (self.folder / "gate.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gate"],
                cwd=ROOT,
                env=self.environ | {f"MASERVER_{name}": str(value) for name, value in environ.items()},
                stdout=log,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> int:
        """Sends it, waits for the end, gives the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(15)

    def messages(self) -> list[str]:
        lines = (self.folder / "gate.log").read_text().splitlines()
        return [json.loads(line)["message"] if line.startswith("{") else line for line in lines]

    def events(self) -> list[Decision | Start]:
        with self.redis.client() as client:
            entries = client.xrange("gate:events")
        events = (event_of([part for pair in fields.items() for part in pair]) for _, fields in entries)
        return [event for event in events if event is not None]

    def kinds(self, symbol: str = "BTCUSDT", market: str = "um") -> list[str]:
        """What was decided of a symbol, in order."""
        return [
            event.kind
            for event in self.events()
            if isinstance(event, Decision) and (event.market, event.symbol) == (market, symbol)
        ]

    def until_kinds(self, *kinds: str, symbol: str = "BTCUSDT", market: str = "um") -> None:
        """Waits until just these decisions were made."""
        until(
            lambda: len(self.kinds(symbol, market)) >= len(kinds),
            f"not {kinds} but {self.kinds(symbol, market)}: {self.messages()[-20:]}",
        )
        assert self.kinds(symbol, market) == list(kinds)

    def state(self, field: str = "um:BTCUSDT") -> Decision:
        with self.redis.client() as client:
            flat = [part for pair in client.hgetall(STATE).items() for part in pair]
        return states_of(flat)[field]

    def table(self) -> Table:
        until(self._has_table, "no table")
        with self.redis.client() as client:
            return table_of(client.get(TABLE))

    def _has_table(self) -> bool:
        with self.redis.client() as client:
            return bool(client.exists(TABLE))

    def status(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gate", "status"]
        return subprocess.run(command, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False)


class Samples:
    """What a collector would write, once a second (here more often), until the test ends."""

    def __init__(self, redis: RedisServer, latency_ms: float = 50.0) -> None:
        self._redis = redis
        self._stop = threading.Event()
        self.latencies_ms: dict[str, dict[str, float]] = {"um": dict.fromkeys(SYMBOLS, latency_ms)}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def set(self, latency_ms: float, *symbols: str, market: str = "um") -> None:
        self.latencies_ms[market] = self.latencies_ms.get(market, {}) | dict.fromkeys(symbols or SYMBOLS, latency_ms)

    def _run(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        while not self._stop.is_set():
            try:
                async with linked(self._redis.url, name="samples") as link:
                    while not self._stop.is_set():
                        for market, latencies_ms in list(self.latencies_ms.items()):
                            await link.replies(pack_sample(market, "test", now_ns(), latencies_ms), 1, timeout_s=1)
                        await asyncio.sleep(0.5)
            except ConnectionError:
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def house(
    folder: Path, *redis_options: str, env: dict[str, str] | None = None, ahead_s: float = 0.0, **settings: object
) -> Iterator[tuple[Gate, Samples]]:
    """A gate with all that it talks to; the exchange's clock is `ahead_s` ahead of ours from the start."""
    with (
        Exchange.started("--symbols", ",".join(SYMBOLS), env=env) as exchange,
        RedisServer(folder / "redis", *redis_options) as redis,
    ):
        exchange.fault("clock", offset_s=ahead_s)
        gate, samples = Gate(folder, redis, exchange, **settings), Samples(redis, 50 - ahead_s * 1000)
        try:
            gate.start()
            yield gate, samples
        finally:
            samples.stop()
            if gate.process is not None and gate.process.poll() is None:
                gate.process.kill()
                gate.process.wait()


def slow(gate: Gate, samples: Samples, seconds: float) -> None:
    """The network takes that long from now on."""
    gate.exchange.fault("latency", seconds=seconds)
    samples.set(seconds * 1000 + 1)


def test_closes_once_and_opens_once(tmp_path: Path) -> None:
    """A network that gets slow step by step and fast again closes and opens each symbol once; inside the band nothing
    happens. SIGTERM ends the gate with 0."""
    with house(tmp_path) as (gate, samples):
        gate.until_kinds("latency valid")
        for seconds in (0.2, 0.5, 0.9):
            slow(gate, samples, seconds)
            time.sleep(4)
        gate.until_kinds("latency valid", "closed")
        for seconds in (0.5, 0.4, 0.1):
            slow(gate, samples, seconds)
            time.sleep(4)
        gate.until_kinds("latency valid", "closed", "opened")
        time.sleep(3)
        assert gate.kinds("ETHUSDT") == gate.kinds("BTCUSDT") == ["latency valid", "closed", "opened"]
        decisions = [event for event in gate.events() if isinstance(event, Decision) and event.symbol == "BTCUSDT"]
        _, closed, opened = decisions
        assert (closed.source, closed.close_above_ms, closed.mode) == ("own", 600, "pause")
        assert closed.median_ms is not None
        assert 600 < closed.median_ms < 1000
        assert opened.source == "canary"
        assert closed.uncertainty_ms is not None
        assert abs(closed.offset_ms or 0.0) <= closed.uncertainty_ms
        assert gate.signal(signal.SIGTERM) == 0
        assert "Traceback" not in (tmp_path / "gate.log").read_text()


def test_flags_by_its_own_samples(tmp_path: Path) -> None:
    """In flag mode a symbol opens again by its own samples, while the canary is well all the time; a symbol's
    thresholds count for it alone, and spot is a market of its own."""
    overrides = "um:ETHUSDT close_above_ms=5000, spot dwell_s=1"
    with house(tmp_path, GATE__MODE="flag", GATE__OVERRIDES=overrides, MARKETS="um,spot") as (gate, samples):
        samples.set(40, market="spot")
        gate.until_kinds("latency valid")
        gate.until_kinds("latency valid", market="spot")
        samples.set(2000)
        gate.until_kinds("latency valid", "flagged")
        samples.set(100)
        gate.until_kinds("latency valid", "flagged", "opened")
        assert gate.kinds("ETHUSDT") == gate.kinds("ETHUSDT", "spot") == ["latency valid"]
        until(lambda: gate.table().markets["spot"].canary_ms is not None, "no canary")


def test_a_killed_gate_goes_on(tmp_path: Path) -> None:
    """SIGKILL and a new start: what was closed stays closed, with its time, without any decision; then it opens."""
    with house(tmp_path) as (gate, samples):
        gate.until_kinds("latency valid")
        slow(gate, samples, 0.9)
        gate.until_kinds("latency valid", "closed")
        before = gate.state()
        gate.signal(signal.SIGKILL)
        gate.start()
        until(lambda: sum(isinstance(event, Start) for event in gate.events()) == 2, "no second start")
        time.sleep(6)
        assert gate.kinds() == ["latency valid", "closed"]
        assert gate.state() == before
        start = [event for event in gate.events() if isinstance(event, Start)][-1]
        assert (start.symbols, start.closed) == (2, 2)
        slow(gate, samples, 0.0)
        gate.until_kinds("latency valid", "closed", "opened")


def test_a_full_redis_is_waited_for(tmp_path: Path) -> None:
    """While Redis takes nothing the gate goes on, and what it decided meanwhile is written when there is room."""
    with house(tmp_path) as (gate, samples):
        gate.until_kinds("latency valid")
        with gate.redis.client() as client:
            client.config_set("maxmemory", "1")
            until(lambda: any("redis takes nothing" in message for message in gate.messages()), "never noticed")
            beat = client.get(BEAT)
            slow(gate, samples, 0.9)
            time.sleep(3)
            assert client.get(BEAT) == beat
            client.config_set("maxmemory", "0")
        gate.until_kinds("latency valid", "closed")
        assert "redis takes everything again" in gate.messages()


def test_redis_is_away_and_back(tmp_path: Path) -> None:
    """A killed Redis is waited for, and what it knew goes on."""
    with house(tmp_path) as (gate, samples):
        gate.until_kinds("latency valid")
        time.sleep(2)  # so that its log is on disk
        gate.redis.kill()
        until(lambda: any("redis is away" in message for message in gate.messages()), "never noticed")
        gate.redis.start()
        slow(gate, samples, 0.9)
        gate.until_kinds("latency valid", "closed")


def test_a_clock_that_is_off_is_corrected_and_told(tmp_path: Path) -> None:
    """The exchange's clock is 3 s ahead: latencies are right all the same, nothing closes, and the log names it."""
    with house(tmp_path, ahead_s=3.0) as (gate, _):
        gate.until_kinds("latency valid")
        until(lambda: any("our clock is" in message for message in gate.messages()), "never told")
        decision = gate.state()
        assert decision.offset_ms == pytest.approx(3000, abs=200)
        assert decision.median_ms == pytest.approx(50, abs=200)


def test_negative_latency_is_told(tmp_path: Path) -> None:
    """Samples of -2 s against a clock that is right: an event, the log, a metric; and nothing closes."""
    with house(tmp_path) as (gate, samples):
        gate.until_kinds("latency valid")
        samples.set(-2000)
        gate.until_kinds("latency valid", "clock error")
        assert gate.state().stream_enable
        assert any("negative by more than the doubt" in message for message in gate.messages())
        metrics = scrape(gate, "/metrics")
        assert 'maserver_gate_clock_error{market="um",symbol="BTCUSDT"} 1.0' in metrics
        assert 'maserver_gate_open{market="um",symbol="BTCUSDT"} 1.0' in metrics
        assert 'maserver_gate_probe_failures_total{market="um"} 0.0' in metrics
        assert json.loads(scrape(gate, "/healthz"))["status"] == "ok"


def test_a_step_of_our_clock_decides_nothing(tmp_path: Path) -> None:
    """Our clock is set ahead by 5 s, so every latency looks 5 s longer: it is measured anew, and nothing closes."""
    step = tmp_path / "clock"
    step.write_bytes(struct.pack("<qq", 0, 0))
    with house(tmp_path, TEST_CLOCK=step) as (gate, samples):
        gate.until_kinds("latency valid")
        with step.open("r+b") as file:
            file.write(struct.pack("<q", 5 * SECOND_NS))
        samples.set(5050)
        until(lambda: any("our clock jumped by +5.0" in message for message in gate.messages()), "never noticed")
        until(lambda: gate.table().markets["um"].offset_ms == pytest.approx(-5000, abs=200), "not measured anew")
        time.sleep(5)
        assert gate.kinds() == ["latency valid"]
        assert gate.table().symbols["um:BTCUSDT"].median_ms == pytest.approx(50, abs=200)


def test_a_slow_rest_says_nothing_of_the_streams(tmp_path: Path) -> None:
    """When only `/time` is slow, the offset that was found before goes on to count, and latencies stay valid."""
    with house(tmp_path, GATE__PROBE_S=1) as (gate, _):
        gate.until_kinds("latency valid")
        gate.exchange.fault("rest_latency", seconds=1.5, before=1.0)
        until(lambda: (gate.table().markets["um"].round_trip_ms or 0) > 1400, "never slow")
        time.sleep(2)
        now = gate.table().markets["um"]
        assert now.uncertainty_ms is not None
        assert now.uncertainty_ms < 100
        assert gate.kinds() == ["latency valid"]


def scrape(gate: Gate, path: str) -> str:
    lines = [json.loads(line) for line in (gate.folder / "gate.log").read_text().splitlines() if line.startswith("{")]
    port = [line["metrics_port"] for line in lines if "metrics_port" in line][-1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return str(answer.read(), "utf-8")


def test_a_limit_of_the_exchange_is_obeyed(tmp_path: Path) -> None:
    """After a 429 nothing is asked until its Retry-After is over, and then it goes on."""
    with house(tmp_path, GATE__PROBE_S=1) as (gate, _):
        gate.until_kinds("latency valid")
        gate.exchange.fault("rest", n=1, status=429, retry_after=6)
        told = "wants to be left alone; next try in 6 s"
        until(lambda: any(told in message for message in gate.messages()), "never refused")
        gate.exchange.fault("rest", n=1, status=500)  # told when it is asked
        time.sleep(3)
        assert not any("/time: 500" in message for message in gate.messages())
        until(lambda: any("/time: 500" in message for message in gate.messages()), "never asked again")
        until(lambda: any("answers again" in message for message in gate.messages()), "never well again")


def test_status_shows_it(tmp_path: Path) -> None:
    """`python -m gate status` shows clocks, medians, flags, thresholds and the last decisions; without Redis it says so
    and ends with 1."""
    with house(tmp_path) as (gate, samples):
        gate.until_kinds("latency valid")
        slow(gate, samples, 0.9)
        gate.until_kinds("latency valid", "closed")
        time.sleep(6)  # the table is written each 5 s
        shown = gate.status()
        assert shown.returncode == 0, shown.stderr
        for word in ("mode pause", "BTCUSDT", "closed", "canary", "600", "above 600", "start, pause", "latency valid"):
            assert word in shown.stdout, shown.stdout
        gate.redis.stop()
        away = gate.status()
        assert away.returncode == 1
        assert away.stderr.startswith("the gate's state cannot be read: no Redis at redis://127.0.0.1:")
        assert "Traceback" not in away.stderr


# A collector's view.


@contextmanager
def _keeping(url: str, **settings: float) -> Iterator[tuple[Gatekeeper, list[int]]]:
    """A gatekeeper that runs in a thread of its own, and when it said that something changed."""
    changes: list[int] = []
    loop = asyncio.new_event_loop()

    async def begin() -> tuple[Gatekeeper, asyncio.Task[None]]:
        keeper = Gatekeeper(url, ["um"], **settings)
        keeper.on_change = lambda: changes.append(now_ns())
        task = asyncio.create_task(keeper.run())
        await asyncio.wait_for(keeper.first_read.wait(), 10)
        return keeper, task

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    keeper, task = asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
    try:
        yield keeper, changes
    finally:

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_collector_sees_it_and_fails_open(tmp_path: Path) -> None:
    """A collector sees what is closed, also one that starts later; when the gate falls silent everything is open, and
    with its return closed again. A successor that comes after all believed it dead begins open."""
    with house(tmp_path, GATE__SILENT_AFTER_S=4) as (gate, samples):
        gate.until_kinds("latency valid")
        with _keeping(gate.redis.url, silent_after_s=4) as (keeper, changes):
            until(lambda: keeper.alive, "the gate is not seen")
            assert not keeper.closed("um", "BTCUSDT")
            slow(gate, samples, 0.9)
            until(lambda: keeper.closed("um", "BTCUSDT"), "not seen to be closed")
            until(lambda: keeper.closed("um", "ETHUSDT"), "not seen to be closed")
            assert not keeper.closed("spot", "BTCUSDT")
            assert not keeper.flagged("um", "BTCUSDT")
            assert keeper.mode == "pause"
            assert keeper.since_ns("um", "BTCUSDT") == gate.state().since_ns
            with _keeping(gate.redis.url, silent_after_s=4) as (later, _):
                assert later.alive
                assert later.closed("um", "BTCUSDT")
            assert gate.process is not None
            gate.process.send_signal(signal.SIGSTOP)
            until(lambda: not keeper.alive, "its silence is not noticed")
            assert not keeper.closed("um", "BTCUSDT")
            told = len(changes)
            gate.process.send_signal(signal.SIGCONT)
            until(lambda: keeper.closed("um", "BTCUSDT"), "not closed again")
            assert len(changes) == told + 1
            gate.signal(signal.SIGKILL)
            until(lambda: not keeper.alive, "its end is not noticed")
            slow(gate, samples, 0.0)
            gate.start()
            until(lambda: keeper.alive, "its successor is not seen")
            assert not keeper.closed("um", "BTCUSDT")
            assert gate.state().stream_enable


def test_a_collector_without_gate_or_redis_is_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a gate, and without a Redis, a collector starts at once and says once that everything is open."""
    caplog.set_level("INFO")
    with RedisServer(tmp_path / "redis") as redis:
        with _keeping(redis.url) as (keeper, changes):
            time.sleep(2.5)
            assert not keeper.alive
            assert not keeper.closed("um", "BTCUSDT")
            assert changes == []
        url = redis.url
    said = [record.message for record in caplog.records]
    assert said.count("there is no gate: everything counts as open") == 1
    with _keeping(url) as (keeper, _):
        assert not keeper.alive
    assert "the gate's state cannot be read: everything counts as open" in [record.message for record in caplog.records]
