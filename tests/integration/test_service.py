"""The frame of a service, with real processes, signals and ports."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.healthcheck import check

ROOT = Path(__file__).parents[2]


class Running:
    """A fake service as a process; its log lines are read from its standard error."""

    def __init__(self, folder: Path, does: str, *flags: str, **environ: str) -> None:
        (folder / "settings.yaml").write_text("")
        given = {f"MASERVER_{name}": value for name, value in environ.items()}
        given = {"MASERVER_STATE_DIR": str(folder), "MASERVER_INGEST__METRICS_PORT": "0"} | given
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MASERVER_")}
        self.lines: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.fake_service", does, "--config", str(folder), *flags],
            cwd=ROOT,
            env=clean | given,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # else `until` reads ahead, and `communicate` never sees what it read
        )

    def until(self, message: str) -> dict[str, Any]:
        """Reads log lines up to the one with this message."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(json.loads(line))
            if self.lines[-1]["message"] == message:
                return self.lines[-1]
        raise AssertionError(f"no log line {message!r} in {self.lines}")

    def port(self) -> int:
        return int(self.until("ingest 0.1.0 starts")["metrics_port"])

    def end(self) -> tuple[int, str, str]:
        """Waits for the end; gives exit code, standard output and the rest of standard error."""
        out, err = self.process.communicate(timeout=20)
        self.lines += [json.loads(line) for line in err.splitlines() if line.startswith(b"{")]
        return self.process.returncode, out.decode(), err.decode()

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]


@pytest.fixture
def started() -> Iterator[list[Running]]:
    """Services that a test started; what still runs at its end is killed."""
    running: list[Running] = []
    yield running
    for one in running:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_0(tmp_path: Path, number: signal.Signals) -> None:
    """The first SIGTERM or SIGINT lets the service drain; the exit code is 0."""
    one = Running(tmp_path, "drain")
    one.until("ready")
    one.process.send_signal(number)
    assert one.end()[0] == 0
    assert f"{number.name}: draining" in one.messages()


def test_a_second_signal_is_safe(tmp_path: Path) -> None:
    """A second and a third signal are logged and ignored: the drain ends as it would have."""
    one = Running(tmp_path, "slow_drain")
    one.until("ready")
    one.process.send_signal(signal.SIGTERM)
    one.until("draining slowly")
    one.process.send_signal(signal.SIGTERM)
    one.until("SIGTERM again: still draining")
    one.process.send_signal(signal.SIGINT)
    assert one.end()[0] == 0
    assert "SIGINT again: still draining" in one.messages()
    assert "drained" in one.messages()


def test_a_crash_exits_1_with_its_traceback_and_closes(tmp_path: Path) -> None:
    """A crash is exit code 1, its traceback is in the log, and what was registered is closed, the last first."""
    one = Running(tmp_path, "crash")
    assert one.end()[0] == 1
    crash = next(line for line in one.lines if line["level"] == "CRITICAL")
    assert "RuntimeError: the reason" in crash["exception"]
    closed = [message for message in one.messages() if message.startswith("closed")]
    assert closed == ["closed last registered", "closed first registered"]


def test_bad_settings_exit_2_without_a_traceback(tmp_path: Path) -> None:
    """A bad configuration is exit code 2 and one line that names the variable."""
    one = Running(tmp_path, "drain", INGEST__FLUSH_MS="fast")
    code, _, err = one.end()
    assert code == 2
    assert err.startswith("environment: MASERVER_INGEST__FLUSH_MS: expected a number")
    assert "Traceback" not in err


def test_a_configuration_error_of_the_service_exits_2(tmp_path: Path) -> None:
    """A `ConfigError` from inside a task group ends the service as a bad configuration does."""
    one = Running(tmp_path, "misconfigured")
    code, _, err = one.end()
    assert code == 2
    assert "bad configuration: symbols: NOSUCH is no symbol of um" in one.messages()
    assert "Traceback" not in err


def test_check_config_ends_at_once(tmp_path: Path) -> None:
    """`--check-config` reads the settings and starts nothing."""
    code, out, err = Running(tmp_path, "never", "--check-config").end()
    assert (code, out, err) == (0, "ingest: the configuration is good\n", "")
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("does", ["never", "stuck", "blocked"])
def test_a_missed_deadline_exits_3(tmp_path: Path, does: str) -> None:
    """A service that does not drain in time ends with 3, also when its loop is stuck."""
    one = Running(tmp_path, does, INGEST__DRAIN_S="0.2")
    one.until("ready")
    one.process.send_signal(signal.SIGTERM)
    assert one.end()[0] == 3


def test_a_taken_port_names_the_setting(tmp_path: Path) -> None:
    """A taken port is a bad configuration, and the message names the setting and its variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = Running(tmp_path, "drain", INGEST__METRICS_PORT=str(port)).end()
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in err
    assert "ingest.metrics_port or MASERVER_INGEST__METRICS_PORT" in err


def test_metrics_and_health_answer_while_the_loop_is_stuck(tmp_path: Path, started: list[Running]) -> None:
    """With the loop blocked, `/metrics` answers and `/healthz` turns to 503 with its reason."""
    started.append(one := Running(tmp_path, "blocked"))
    port = one.port()
    one.until("ready")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        metrics = answer.read().decode()
    assert "maserver_build_info{" in metrics
    assert 'service="ingest"' in metrics
    assert "maserver_process_resident_memory_bytes" in metrics
    assert 'maserver_data_age_limit_seconds{what="frames"} 0.2' in metrics
    while check(port)[0]:
        time.sleep(0.05)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz")
    with refused.value as answer:
        body = json.loads(answer.read())
    assert answer.status == 503
    assert body["status"] == "stale"
    assert body["reasons"][0].startswith("frames: ")


def test_the_healthcheck_command_tells(tmp_path: Path, started: list[Running]) -> None:
    """`python -m common.healthcheck` exits 0 for a service that is well, and 1 where nothing listens."""
    started.append(one := Running(tmp_path, "drain"))
    command = [sys.executable, "-m", "common.healthcheck"]
    assert subprocess.run([*command, str(one.port())], cwd=ROOT, capture_output=True, check=False).returncode == 0
    one.process.kill()
    one.process.wait()
    assert subprocess.run([*command, "1"], cwd=ROOT, capture_output=True, check=False).returncode == 1


def test_workers_log_through_their_parent_and_end_with_the_service(tmp_path: Path, started: list[Running]) -> None:
    """Records of workers arrive in the parent's log, a SIGTERM does not end a worker, and none outlives the service."""
    started.append(one := Running(tmp_path, "workers"))
    pids = one.until("ready")["pids"]
    assert len(set(pids)) == 2
    one.process.send_signal(signal.SIGTERM)
    assert one.end()[0] == 0
    assert one.messages().count("worker starts") == 2
    works = [line for line in one.lines if line["message"].endswith("works")]
    assert sorted(line["number"] for line in works) == [0, 1]  # at the end only: they come another way than "ready"
    assert {line["logger"] for line in works} == {"fake"}
    assert not any(psutil.pid_exists(pid) for pid in pids)
    (file,) = (tmp_path / "logs").glob("*.jsonl")
    assert '"message": "worker 0 works"' in file.read_text()


def test_no_worker_survives_a_kill_of_the_service(tmp_path: Path, started: list[Running]) -> None:
    """When the service is killed, its workers end as well."""
    started.append(one := Running(tmp_path, "workers"))
    workers = [psutil.Process(pid) for pid in one.until("ready")["pids"]]
    one.process.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
