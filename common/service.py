"""The frame of every service: flags, settings, logs, signals, `/metrics`, `/healthz`, drain deadline and exit code.

A signal only sets `stopping`; the service then ends what it does and returns. Exit codes: 0 drained, 1 crashed, 2 bad
configuration, 3 the drain deadline passed. This is the one file with a broad `except`: what ends a service is logged.
"""

import argparse
import asyncio
import logging
import os
import platform
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics import Info

from common import config, http_server, processes
from common.config import ConfigError, Settings
from common.health import Health
from common.logs import Logs
from common.version import VERSION

DRAINED, CRASHED, BAD_CONFIGURATION, DEADLINE = range(4)

_LEAVE_S = 1.0
"""How long a service that missed its deadline has to end its tasks, once they are cancelled."""
_END_S = 3.0
"""How long what remains may take once the service has ended: closing, threads that still run."""

log = logging.getLogger(__name__)


class Service:
    """What a running service gets from its frame.

    Attributes:
        name: The service's name, as in its command.
        settings: All settings.
        instance: Host, process and a random part; unique for ever.
        stopping: Set by the first signal.
        health: What must happen how often.
        registry: What `/metrics` shows. Count in plain ints, and register a collector that reads them.
    """

    def __init__(self, name: str, settings: Settings, logs: Logs) -> None:
        self.name = name
        self.settings = settings
        self.instance = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.stopping = asyncio.Event()
        self.health = Health()
        self.registry = CollectorRegistry()
        self._logs = logs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_ending = False
        self._closers: list[Callable[[], None]] = []
        self.registry.register(self.health)
        ProcessCollector("maserver", registry=self.registry)
        Info("maserver_build", "What runs here.", registry=self.registry).info(
            {"service": name, "version": VERSION, "python": platform.python_version()}
        )

    def processes(self, workers: int, initializer: Callable[[], None] | None = None) -> ProcessPoolExecutor:
        """A pool of worker processes, which log through this one and end with it, even when it is killed.

        Args:
            workers: The number of processes.
            initializer: Runs first in each worker; must be importable, as must whatever is submitted.
        """
        pool = processes.start_pool(workers, self._logs.worker_socket(), self._logs.level, initializer)
        self.closing(partial(processes.stop_pool, pool))
        return pool

    def closing(self, close: Callable[[], None]) -> None:
        """Registers what runs at the end, however the service ends; the last registered first."""
        self._closers.append(close)

    def _close(self) -> None:
        while self._closers:
            close = self._closers.pop()
            try:
                close()
            except Exception:
                log.exception("closing failed; going on")


Serve = Callable[[Service], Coroutine[Any, Any, None]]


def run(
    name: str,
    serve: Serve,
    *,
    description: str,
    argv: Sequence[str] | None = None,
    drain_s: Callable[[Settings], float],
    metrics_port: Callable[[Settings], int],
) -> NoReturn:
    """Runs a service as this process, and ends the process with the exit code.

    Args:
        name: The service's name, as in `python -m NAME`.
        serve: The service; returns when it has drained after `service.stopping` is set. A `ConfigError` from it ends
            the process as a bad configuration does.
        description: One sentence for `--help`.
        argv: The flags; None takes the command's own.
        drain_s: Seconds from the first signal to the deadline.
        metrics_port: The port of `/metrics` and `/healthz`; 0 takes a free one.
    """
    flags = _flags(name, description, argv)
    try:
        settings = config.load(flags.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_CONFIGURATION)
    if flags.check_config:
        print(f"{name}: the configuration is good")
        sys.exit(DRAINED)
    logs = Logs(name, settings.state_dir / "logs", settings.log)
    threading.excepthook = _log_thread_error
    service = Service(name, settings, logs)
    try:
        port = http_server.start(settings.metrics_host, metrics_port(settings), service.registry, service.health)
        log.info("%s %s starts", name, VERSION, extra={"instance": service.instance, "metrics_port": port})
        _own_signals(service, drain_s(settings))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_live(service, serve, drain_s(settings)))
    except http_server.PortError as error:
        log.critical("%s; %s", error, _port_advice(name))
        code = BAD_CONFIGURATION
    finally:
        service._close()
    log.info("%s ended with code %d", name, code)
    logs.stop()
    sys.exit(code)


def _flags(name: str, description: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    parser.add_argument("--config", type=Path, metavar="DIR", help="folder of settings.yaml (default: config)")
    parser.add_argument("--check-config", action="store_true", help="read the settings, say what is wrong, and end")
    parser.add_argument("--version", action="version", version=f"maserver {VERSION}")
    return parser.parse_args(argv)


def _port_advice(name: str) -> str:
    key = f"{name}.metrics_port"
    return f"set {key} or {config.variable(key)} to another port, or to 0 for a free one (host: metrics_host)"


async def _live(service: Service, serve: Serve, drain_s: float) -> int:
    """Serves until it returns or the deadline passes; gives the exit code."""
    service._loop = asyncio.get_running_loop()
    if service._is_ending:
        service.stopping.set()
    serving = asyncio.create_task(serve(service), name=service.name)
    stopping = asyncio.create_task(service.stopping.wait(), name="stopping")
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait((serving,), timeout=drain_s)
    stopping.cancel()
    if not serving.done():
        log.critical("not drained %g s after the signal; giving up", drain_s, extra={"tasks": _tasks()})
        serving.cancel()
        await asyncio.wait((serving,), timeout=_LEAVE_S)
        code = DEADLINE
    else:
        code = _code_of(serving)
    service._loop = None
    _end_within(_END_S, service, code)
    return code


def _own_signals(service: Service, drain_s: float) -> None:
    """Lets the first signal set `stopping`.

    Not through the loop: it would hear nothing while a callback blocks it, and the handlers must outlive it.
    """

    def on_signal(number: int, _: object) -> None:
        name = signal.Signals(number).name
        if service._is_ending:
            log.warning("%s again: still draining", name)
            return
        service._is_ending = True
        log.info("%s: draining", name, extra={"drain_s": drain_s})
        _end_within(drain_s + 2 * _LEAVE_S, service, DEADLINE)
        if service._loop is not None:
            service._loop.call_soon_threadsafe(service.stopping.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _end_within(limit_s: float, service: Service, code: int) -> None:
    """Ends the process from a thread if it is still there after `limit_s` seconds: the main thread may be stuck."""
    timer = threading.Timer(limit_s, _end_now, (service, code))
    timer.daemon = True
    timer.start()


def _end_now(service: Service, code: int) -> None:
    log.critical("still not ended; ending the process")
    processes.kill_children()
    service._logs.stop(_LEAVE_S)
    os._exit(code)


def _tasks() -> list[str]:
    return sorted(task.get_name() for task in asyncio.all_tasks() if not task.done())


def _code_of(serving: asyncio.Task[None]) -> int:
    """The exit code of a service that has returned or raised."""
    if serving.cancelled():
        log.critical("the service was cancelled")
        return CRASHED
    error = serving.exception()
    if error is None:
        return DRAINED
    bad = _configuration_error(error)
    if bad is not None:
        log.critical("bad configuration: %s", bad)
        return BAD_CONFIGURATION
    log.critical("crashed: %s", error, exc_info=error)
    return CRASHED


def _configuration_error(error: BaseException) -> ConfigError | None:
    """The `ConfigError` that this is, or that a task group wrapped; None when it is, or holds, anything else."""
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [_configuration_error(inner) for inner in error.exceptions]
        if all(found):
            return found[0]
    return None


def _log_thread_error(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        log.error("a thread failed", exc_info=args.exc_value)
