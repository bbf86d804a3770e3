"""What should never come, comes: broken frames, refusals, strangers in Redis, wrong settings, damaged files."""

import base64
import json
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import ledger
from common.clock import now_ns
from common.producer import BEATS
from common.streams import STREAMS_SET, Stream, unknown
from tests.sims.accounting import account, lines, verify_holds
from tests.sims.house import ROOT, House, house

CHANNELS = "depth20,aggTrade,markPrice"
BOOK = Stream("um", "depth20", "BTCUSDT")
TRADES = Stream("um", "aggTrade", "BTCUSDT")
DEPTH = BOOK.exchange_name
INVALID = ROOT / "tests/unit/invalid_configs"
SERVICES = ("ingest", "archiver")

BROKEN = (
    b'{"e":"depthUpdate","E":1791271449418,"T":17912714',
    b'{"e":"depthUpdate","s":"\xff\xfe\xc0"}',
    b'{"e":"depthUpdate",\n"E":1791271449418}',
    b'{"e":"depthUpdate",\r\n"E":1791271449418}',
    b"",
    b"\x00\x01\x02",
    b'{"a":1}{"b":2}',
    b"[" * 100_000,
    b'{"e":"depthUpdate"}',
    b"null",
    b'"a text"',
    b'{"e":"aggTrade","E":1,"s":"ETHUSDT","a":99999999999999999999999}',
    b'{"e":"depthUpdate","E":1,"u":"not a number","b":[["x","y"]],"a":{}}',
)
"""Each is sent as the data of a combined frame; none is a snapshot of an order book."""

STRANGE = (
    b"hello",
    b"\xff\xfe\x00\x01",
    b'{"stream":"btcusdt@depth20@100ms"}',
    b'{"stream":"btcusdt@depth20@100ms","data":{"e":1',
    b'{"e":"serverShutdown","E":1791271449418}',
    b'{"stream":17,"data":{}}',
    b"[1,2,3]",
    b"\n",
)
"""Each is a whole message of no stream that anybody subscribed to."""


def until(reached: Callable[[], bool], built: House, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, built.log("ingest")[-3000:] + built.log("archiver")[-3000:]
        time.sleep(0.1)


def recording(built: House) -> None:
    for name in SERVICES:
        built.start(name)
    built.wait_for_frames(100)


def text_of(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


def test_broken_frames_are_kept_and_disturb_nobody(tmp_path: Path) -> None:
    """Broken, binary, strange and 10 MB frames are archived as they came; what Parquet cannot hold has a row
    `rejected`; every other stream is untouched, and no process dies."""
    large = json.dumps({"e": "depthUpdate", "E": now_ns() // 1_000_000, "zz": "x" * 10_000_000}).encode()
    with house(tmp_path, CHANNELS=CHANNELS) as built:
        recording(built)
        for payload in (*BROKEN, large):
            built.exchange.fault("inject", stream=DEPTH, payload_b64=text_of(payload))
        huge = b'{"e":"aggTrade","E":1,"s":"BTCUSDT","a":99999999999999999999}'
        built.exchange.fault("inject", stream=TRADES.exchange_name, payload_b64=text_of(huge))
        binary = b'{"e":"depthUpdate","binary":true}'
        built.exchange.fault("inject", stream=DEPTH, payload_b64=text_of(binary), binary=True)
        for payload in STRANGE:
            built.exchange.fault("inject", payload_b64=text_of(payload), wrap=False, binary=payload[0] > 127)
        built.exchange.fault("inject", stream="btcusdt@nosuch", payload='{"e":"nosuch"}')
        time.sleep(4)
        assert [built.process(name).poll() for name in SERVICES] == [None, None]
        built.settle()
        result = account(built.exchange, built.data)
        assert (result.missing, result.doubled, result.alien) == ({}, {}, {})
        assert result.causes() == {"rejected"}
        rejected = [row for row in result.rows if row.cause == "rejected"]
        assert {row.stream for row in rejected} == {BOOK, TRADES}
        assert sum(row.frames_missing or 0 for row in rejected) == len(BROKEN) + 3
        kept = Counter(line.payload for line in lines(built.data, BOOK))
        assert [kept[payload] for payload in (*BROKEN, large, binary)] == [1] * (len(BROKEN) + 2)
        nosuch = b'{"stream":"btcusdt@nosuch","data":{"e":"nosuch"}}'
        assert Counter(line.payload for line in lines(built.data, unknown("um"))) == Counter((*STRANGE, nosuch))
        assert verify_holds(built.data) == []


def test_replies_to_nobody_are_logged(tmp_path: Path) -> None:
    """Errors and acknowledgements that nobody asked for are no frames; the errors are in the log."""
    with house(tmp_path, CHANNELS="depth20") as built:
        recording(built)
        for reply in ('{"result":null,"id":"other"}', '{"error":{"code":2,"msg":"Invalid request"},"id":99}'):
            built.exchange.fault("inject", payload=reply, wrap=False)
        until(lambda: "refuses a control message: {'error': {'code': 2" in built.log("ingest"), built)
        built.settle()
        result = account(built.exchange, built.data)
        assert (result.missing, result.doubled, result.alien, result.causes()) == ({}, {}, {}, set())
        assert lines(built.data, unknown("um")) == []


def test_every_refusal_is_told_and_outlived(tmp_path: Path) -> None:
    """429, 403, 451, 503, a length that lies, a reset: each is told in one clear line, and then it records."""
    told: dict[str, dict[str, Any]] = {
        "HTTP 429": {"status": 429, "retry_after": 1},
        "HTTP 403: <!DOCTYPE HTML": {"status": 403},
        'HTTP 451: {\\"code\\":0,\\"msg\\":\\"Service unavailable from a restricted location': {"status": 451},
        "HTTP 503: <html>": {"status": 503},
        "HTTP 503: a lie": {"status": 503, "content_length": 100_000, "body": "a lie"},
        "no connection: it was lost within the handshake": {"refuse": True},
    }
    with house(tmp_path, CHANNELS="depth20", INGEST__CONNECT_TIMEOUT_S=2) as built:
        for answer in told.values():
            built.exchange.fault("handshake", **answer)
        recording(built)
        said = built.log("ingest")
        assert [one for one in told if one not in said] == []
        assert said.count('"WARNING"') <= len(told) + 2
        assert "Traceback" not in said
        built.settle()
        result = account(built.exchange, built.data)
        assert (result.missing, result.doubled, result.alien, result.causes()) == ({}, {}, {}, set())
        assert result.archived >= 90


def test_strangers_in_redis_stop_nothing(tmp_path: Path) -> None:
    """Entries that no collector wrote are archived as they are; keys that are no streams are named in the log; all
    else goes on."""
    good: dict[str, str | bytes] = {"c": "0-stranger", "t": f"{now_ns():019d}", "n": "1", "d": '{"e":"mine"}'}
    foreign: list[dict[str, str | bytes]] = [
        {"foo": "bar"},
        {**good, "t": "yesterday"},
        {**good, "t": "9" * 30},
        {**good, "t": "-5"},
        {**good, "n": "-1"},
        {**good, "n": "1" + "0" * 25},
        {**good, "c": 'a "quoted" name'},
        {**good, "c": "n" * 100},
        {**good, "c": ""},
        {**good, "x": "more"},
        {**good, "x": "more", "y": "yet"},
        {"c": "1", "t": "2", "n": "3", "e": "no JSON"},
        {"c": "1", "t": "2", "n": "3", "e": '{"event":"unheard of"}'},
        {"c": "1", "t": "2", "n": "3", "e": '{"event":"open","at":99999999999999999999999}'},
        {"c": "1", "t": "2", "n": "3", "e": b"\xff\xfe"},
        {"c": b"\xff\xfe", "t": b"\x00", "n": b"\n", "d": b"\n\n"},
    ]
    with house(tmp_path, CHANNELS="depth20") as built:
        recording(built)
        with built.redis.client() as client:
            for fields in foreign:
                client.xadd(BOOK.key, fields)
            client.set("md:um:depth20:XRPUSDT", "a text, not a stream")
            client.sadd("md:um:depth20:ADAUSDT", "a set")
            names = (
                b"md:um:depth20:XRPUSDT",
                b"md:um:depth20:ADAUSDT",
                b"garbage",
                b"md:um:nosuch:A",
                b"md:um:depth20:../..",
                b"\xff",
            )
            client.sadd(STREAMS_SET, *names)
            client.hset(BEATS, "someone", "no times")
        time.sleep(6)
        for name in SERVICES:
            assert built.process(name).poll() is None
        for name in ("XRPUSDT", "ADAUSDT", "'garbage'", "'nosuch'", "depth20:../..", "can't decode byte 0xff"):
            assert built.log("archiver").count(name) == 1, name
        with built.redis.client() as client:
            client.srem(STREAMS_SET, *names)
        built.settle()
        result = account(built.exchange, built.data)
        assert (result.missing, result.doubled) == ({}, {})
        assert result.alien == {BOOK: len(foreign)}
        assert result.causes() == {"rejected"}
        kept = Counter(line.payload for line in lines(built.data, BOOK) if line.connection == "foreign")
        assert kept == Counter(b"\n".join(_raw(part) for item in fields.items() for part in item) for fields in foreign)


def _raw(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


@pytest.mark.parametrize("service", SERVICES)
def test_wrong_settings_end_with_a_message(tmp_path: Path, service: str) -> None:
    """With ten wrong files and a wrong variable, a check and a start end at once with 2, and name place and key."""
    for wrong in sorted(INVALID.glob("*.yaml"))[::3][:10]:
        (tmp_path / "settings.yaml").write_bytes(wrong.read_bytes())
        expected = wrong.with_suffix(".message").read_text().strip()
        for flags in ((), ("--check-config",)):
            code, said = command(service, *flags, "--config", str(tmp_path))
            assert code == 2
            assert said.replace(f"{tmp_path}/", "").strip() == expected
    code, said = command(service, MASERVER_SYMBOL="BTCUSDT")
    assert (code, "environment: MASERVER_SYMBOL: unknown variable; did you mean MASERVER_SYMBOLS?" in said) == (2, True)


def test_a_wrong_setting_is_no_crash_loop(tmp_path: Path) -> None:
    """`main.py` starts nothing with it."""
    run = subprocess.run(
        [sys.executable, "main.py", "--sim"],
        env={"PATH": "", "MASERVER_STATE_DIR": str(tmp_path), "MASERVER_INGEST__FLUSH_MS": "fast"},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("environment: MASERVER_INGEST__FLUSH_MS: expected a number above 0")
    assert run.stdout == ""


def command(service: str, *flags: str, **environ: str) -> tuple[int, str]:
    """A service's exit code and what it says."""
    run = subprocess.run(
        [sys.executable, "-m", service, *flags],
        env={"PATH": "", **environ}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return run.returncode, run.stderr


def test_a_damaged_minute_is_set_aside(tmp_path: Path) -> None:
    """A minute file that was damaged is set aside and has a row; whatever is still in Redis is archived."""
    within_a_minute_s = 35.0  # so long it takes until the damaged minute is written again: it must not be over by then
    if (left_s := 60 - time.time() % 60) < within_a_minute_s:
        time.sleep(left_s)
    with house(tmp_path, CHANNELS="depth20,markPrice", ARCHIVER__STAGE_BYTES=20_000) as built:
        recording(built)
        folder = built.data / "raw/um/depth20/BTCUSDT"
        until(lambda: any(folder.rglob("*.zip")), built)
        time.sleep(1)
        built.kill("archiver")
        minute = sorted(folder.rglob("*.zip"))[-1]
        with zipfile.ZipFile(minute) as archive:
            held = sum(archive.read(name).count(b"\n") for name in archive.namelist())
        content = minute.read_bytes()
        minute.write_bytes(content[: len(content) // 2])
        damaged_ns = now_ns()
        waiting = waiting_in_redis(built, BOOK)
        assert waiting
        built.start("archiver")
        until(lambda: any(folder.rglob("*.corrupt-*")), built, 90)
        built.settle()
        assert [built.exchange.digest(payload) for payload in waiting if payload not in payloads(built)] == []
        result = account(built.exchange, built.data)
        assert (result.doubled, result.alien) == ({}, {})
        assert set(result.missing) == {BOOK}
        assert len(result.missing[BOOK]) <= held
        assert max(one.sent_ns for one in result.missing[BOOK]) < damaged_ns
        assert result.story() == ""
        (row,) = [row for row in ledger.read(built.data) if row.cause == "rejected"]
        assert row.stream == BOOK
        assert (row.to_ns or 0) - row.from_ns == 60_000_000_000
        (aside,) = folder.rglob("*.corrupt-*")
        assert aside.read_bytes() == content[: len(content) // 2]
        (problem,) = verify_holds(built.data)
        assert "a damaged file that was set aside" in problem


def waiting_in_redis(built: House, stream: Stream) -> list[bytes]:
    """The payloads that Redis has after the durable position."""
    with built.redis.client() as client:
        (group,) = client.xinfo_groups(stream.key)
        found = client.xrange(stream.key, b"(" + group["last-delivered-id"])
    return [fields[b"d"] for _, fields in found if b"d" in fields]


def payloads(built: House) -> set[bytes]:
    return {line.payload for line in lines(built.data, BOOK)}
