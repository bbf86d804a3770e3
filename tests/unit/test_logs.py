"""Logs: what a line looks like, where it goes, and what a full disk does to it."""

import errno
import io
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import logs
from common.log_format import JsonFormatter, PeopleFormatter
from common.logs import Logs
from common.settings import LogSettings


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    """Gives pytest its handlers back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def start(folder: Path, console: io.StringIO, **settings: Any) -> Logs:
    return Logs("ingest", folder, LogSettings(**settings), console)


def wait_for(console: io.StringIO, count: int) -> None:
    """Waits until the writing thread has written so many lines."""
    while console.getvalue().count("\n") < count:
        threading.Event().wait(0.001)


def the_file(folder: Path) -> Path:
    return folder / f"ingest-{socket.gethostname()}.jsonl"


def test_a_line_has_its_fields(tmp_path: Path) -> None:
    """A record is one JSON object with its time in UTC, its extra fields and its traceback; file and console agree."""
    console = io.StringIO()
    running = start(tmp_path, console)
    try:
        raise RuntimeError("the reason")
    except RuntimeError:
        logging.getLogger("ingest.session").exception("lost %s", "btcusdt", extra={"symbol": "测试USDT", "level": "x"})
    running.stop()
    (line,) = lines(console.getvalue())
    assert line == lines(the_file(tmp_path).read_text(encoding="utf-8"))[0]
    assert line["time"][10] == "T"
    assert len(line["time"]) == len("2026-11-21T03:27:41.123Z")
    assert line["time"].endswith("Z")
    assert line["level"] == "ERROR"  # an extra field never hides one of the record
    assert (line["service"], line["logger"], line["message"]) == ("ingest", "ingest.session", "lost btcusdt")
    assert line["symbol"] == "测试USDT"
    assert line["exception"].endswith("RuntimeError: the reason")


def test_the_level_is_kept(tmp_path: Path) -> None:
    """Records below the level are not written."""
    console = io.StringIO()
    running = start(tmp_path, console, level="WARNING")
    logging.getLogger("a").info("no")
    logging.getLogger("a").warning("yes")
    running.stop()
    assert [line["message"] for line in lines(console.getvalue())] == ["yes"]


def test_the_file_rotates(tmp_path: Path) -> None:
    """The file is rotated at its size, and only so many older ones are kept."""
    running = start(tmp_path, io.StringIO(), file_bytes=1024, files=2)
    for number in range(50):
        logging.getLogger("a").info("line %d", number)
    running.stop()
    names = sorted(path.name for path in tmp_path.glob("*.jsonl*"))
    assert names == [the_file(tmp_path).name + end for end in ("", ".1", ".2")]
    assert all(path.stat().st_size <= 1024 for path in tmp_path.glob("*.jsonl*"))
    assert lines(the_file(tmp_path).read_text())[-1]["message"] == "line 49"


def test_a_folder_that_cannot_be_made_falls_back_to_the_console(tmp_path: Path) -> None:
    """Without a log folder the service logs to the console, and one warning says why."""
    (tmp_path / "file").write_text("")
    console = io.StringIO()
    running = start(tmp_path / "file" / "logs", console)
    logging.getLogger("a").info("goes on")
    running.stop()
    warning, line = lines(console.getvalue())
    assert warning["level"] == "WARNING"
    assert "logging to the console only" in warning["message"]
    assert line["message"] == "goes on"


class _FullDisk(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_once_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is full the console gets each line and one warning; afterwards the file goes on."""
    console = io.StringIO()
    running = start(tmp_path, console)
    logging.getLogger("a").info("before")
    with monkeypatch.context() as full:
        full.setattr(logs._File, "_open", lambda _: _FullDisk())
        handler = running._listener.handlers[1]
        assert isinstance(handler, logs._File)
        wait_for(console, 1)
        handler.close()
        for number in range(3):
            logging.getLogger("a").info("full %d", number)
        wait_for(console, 5)
    logging.getLogger("a").info("after")
    running.stop()
    told = [line["message"] for line in lines(console.getvalue())]
    assert [message for message in told if "No space left" not in message] == [
        "before",
        "full 0",
        "full 1",
        "full 2",
        "after",
    ]
    assert sum("No space left on device" in message for message in told) == 1
    written = [line["message"] for line in lines(the_file(tmp_path).read_text())]
    assert [message for message in written if not message.startswith("cannot write")] == ["before", "after"]


def test_twins_on_one_machine_do_not_share_a_file(tmp_path: Path) -> None:
    """A second process of the same service takes a file of its own: rotating a shared one would lose lines."""
    first = start(tmp_path, io.StringIO())
    second = start(tmp_path, io.StringIO())
    logging.getLogger("a").info("from the second")
    first.stop()
    second.stop()
    assert the_file(tmp_path).read_text() == ""
    (own,) = set(tmp_path.glob("*.jsonl")) - {the_file(tmp_path)}
    assert lines(own.read_text())[0]["message"] == "from the second"


def test_logs_of_gone_containers_are_pruned(tmp_path: Path) -> None:
    """Each container has a new host name: of those files a bounded number is kept."""
    for number in range(40):
        (tmp_path / f"ingest-host{number}.jsonl").write_text("")
    (tmp_path / "archiver-host.jsonl").write_text("")
    start(tmp_path, io.StringIO(), files=1).stop()
    assert len(list(tmp_path.glob("ingest-host*.jsonl"))) == 8
    assert (tmp_path / "archiver-host.jsonl").exists()


def test_a_record_of_a_worker_arrives(tmp_path: Path) -> None:
    """A record that comes through the workers' socket is written as one of the parent's, a huge one cut."""
    console = io.StringIO()
    running = start(tmp_path, console)
    outbox = running.worker_socket()
    sending = logs._Sending(outbox)
    for message in ("small", "x" * 1_000_000):
        sending.handle(
            logging.makeLogRecord({"name": "archiver.zip", "msg": message, "levelno": 20, "levelname": "INFO"})
        )
    wait_for(console, 2)
    running.stop()
    small, huge = lines(console.getvalue())
    assert (small["message"], small["logger"]) == ("small", "archiver.zip")
    assert huge["message"].endswith("(too long)")


def test_people_get_a_short_line() -> None:
    """On a terminal a record is one line with its time, level, logger, message and extra fields."""
    record = logging.makeLogRecord(
        {"name": "a", "msg": "hello %s", "args": ("you",), "levelname": "WARNING", "created": 0.0}
    )
    record.symbol = "BTCUSDT"
    assert PeopleFormatter().format(record) == "00:00:00 \x1b[33mWARNING\x1b[0m a: hello you  symbol=BTCUSDT"


def test_what_json_does_not_know_is_written_as_text() -> None:
    """An extra field of any type, and a message with line ends, stay one line of JSON."""
    record = logging.makeLogRecord({"msg": "two\nlines", "levelname": "INFO", "path": Path("x")})
    text = JsonFormatter("ingest").format(record)
    assert "\n" not in text
    assert json.loads(text)["path"] == "x"
