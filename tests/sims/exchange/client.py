"""A test's hand on the simulated exchange: starts it, asks what it sent, and makes it misbehave. Synchronous."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.sims.exchange.sent import Sent, digest, unpack
from tests.sims.exchange.spans import Span

_ROOT = Path(__file__).parents[3]
_START_S = 30.0
_CALL_S = 30.0
_FREE_PORTS = ("--um-ws-port", "0", "--spot-ws-port", "0", "--http-port", "0")


class ExchangeError(Exception):
    """The exchange did not start, or refused what was asked."""


class Exchange:
    """A running exchange.

        with Exchange.started("--symbols", "BTCUSDT") as exchange:
            ...connect to exchange.um_ws + "/public/stream"...
            exchange.fault("cut", how="rst")
            exchange.sent("um", "btcusdt@depth20@100ms")

    Attributes:
        http, um_ws, spot_ws: Its base addresses; of an attached one only `http` is known.
        process: The process, where this object started it.
    """

    def __init__(
        self, addresses: Mapping[str, str], process: subprocess.Popen[str] | None = None, log: IO[str] | None = None
    ) -> None:
        self.http = addresses["http"]
        self.um_ws = addresses.get("um_ws", "")
        self.spot_ws = addresses.get("spot_ws", "")
        self.process = process
        self._log = log

    @classmethod
    def started(cls, *args: str, env: Mapping[str, str] | None = None) -> "Exchange":
        """Starts one on free ports.

        Args:
            args: Command line, see `python -m tests.sims.exchange --help`; ports given here win.
            env: Added to this process's environment.

        Raises:
            ExchangeError: It ended, or did not listen within 30 s; the text has its stderr.
        """
        log = tempfile.TemporaryFile("w+", prefix="exchange-")  # noqa: SIM115 - closed by stop()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sims.exchange", *_FREE_PORTS, *args],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=_ROOT,
            env={**os.environ, **(env or {})},
        )
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _START_S)
        line = process.stdout.readline() if ready else ""
        if not line:
            process.kill()
            code = process.wait()
            process.stdout.close()
            log.seek(0)
            said = log.read()
            log.close()
            raise ExchangeError(f"the simulated exchange did not start (exit code {code}):\n{said}")
        return cls(json.loads(line), process, log)

    @classmethod
    def attached(cls, http: str) -> "Exchange":
        """One that runs already, by its http address."""
        return cls({"http": http.rstrip("/")})

    def __enter__(self) -> "Exchange":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> int | None:
        """Ends the process if this object started it; returns its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self._log is not None:
            self._log.close()
            self._log = None
        return code

    def log(self) -> str:
        """What it has written to stderr."""
        if self._log is None:
            return ""
        self._log.seek(0)
        return self._log.read()

    def state(self) -> dict[str, Any]:
        """`GET /control/state`: connections, the replay's state, and `now_ns`, the exchange's true clock."""
        return self._json("GET", "/control/state")

    def fault(self, kind: str, **details: Any) -> dict[str, Any]:
        """Switches a fault on, see README.md; returns what it hit.

        Raises:
            ExchangeError: The exchange does not know the fault, or a detail is wrong.
        """
        return self._json("POST", "/control/fault", {"kind": kind, **details})

    def start_replay(self) -> dict[str, Any]:
        """Begins a replay that waits."""
        return self._json("POST", "/control/replay/start", {})

    def streams(self, market: str) -> dict[str, dict[str, Any]]:
        """The exchange streams that live, with `frames`, `subscribers` and `silent`."""
        streams: dict[str, dict[str, Any]] = self._json("GET", f"/control/sent?market={market}")["streams"]
        return streams

    def sent(self, market: str, stream: str) -> list[Sent]:
        """Every frame generated for a stream since its first subscription, in order.

        Raises:
            ExchangeError: Nobody has subscribed to it.
        """
        return unpack(self._call("GET", f"/control/sent/{market}/{quote(stream)}"))

    def spans(self, market: str, stream: str) -> list[Span]:
        """When which connection was served with a stream, by the beginning; empty where none ever was."""
        return [Span(*span) for span in self._json("GET", f"/control/spans/{market}/{quote(stream)}")["spans"]]

    @staticmethod
    def digest(payload: bytes) -> bytes:
        """The digest under which a payload stands in `sent`."""
        return digest(payload)

    def wait_for(self, condition: Any, timeout_s: float = 10.0) -> dict[str, Any]:
        """Asks for the state until `condition(state)` holds; returns that state.

        Raises:
            TimeoutError: It did not hold in time.
        """
        ends = time.monotonic() + timeout_s
        while True:
            state = self.state()
            if condition(state):
                return state
            if time.monotonic() > ends:
                raise TimeoutError(f"the exchange did not get there within {timeout_s:g} s: {state}")
            time.sleep(0.02)

    def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._call(method, path, body))
        return answer

    def _call(self, method: str, path: str, body: Any = None) -> bytes:
        data = json.dumps(body).encode() if body is not None else None
        request = Request(self.http + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urlopen(request, timeout=_CALL_S) as response:
                content: bytes = response.read()
                return content
        except HTTPError as error:
            with error:
                raise ExchangeError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error
