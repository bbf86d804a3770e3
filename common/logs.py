"""Logs of a service: to the console and to `state/logs/<name>-<hostname>.jsonl`, written by one thread.

A call to a logger only queues the record. Workers of a pool send theirs through a socket, which, unlike a
multiprocessing queue, a worker that is killed while it writes leaves usable. A full disk or a folder that cannot be
written never stops the service: the console still gets every line, and one warning says so.
"""

import copy
import fcntl
import logging
import os
import pickle
import queue
import socket
import sys
import threading
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import TextIO

from common.config import LogSettings
from common.log_format import JsonFormatter, PeopleFormatter, exception_text, extras

_DATAGRAM_BYTES = 128 * 1024
_KEPT_HOSTS = 4


class _Queueing(QueueHandler):
    """Queues a record with its message and traceback as text, so that it can be pickled and is formatted once."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record = copy.copy(record)
        record.msg, record.args = record.getMessage(), None
        exception_text(record)
        record.exc_info = None
        return record


class Logs:
    """The running logs of this process; `stop` writes what is queued."""

    def __init__(self, name: str, folder: Path, settings: LogSettings, console: TextIO | None = None) -> None:
        """Starts to log.

        Args:
            name: The service.
            folder: Where the file goes; made when missing.
            settings: Level, bytes of a file, number of older files.
            console: None takes standard error. A terminal gets lines for people, anything else JSON.
        """
        self.level = settings.level
        self._name = name
        stream = sys.stderr if console is None else console
        to_console = logging.StreamHandler(stream)
        to_console.setFormatter(PeopleFormatter() if stream.isatty() else JsonFormatter(name))
        handlers: list[logging.Handler] = [to_console]
        try:
            handlers.append(_file(name, folder, settings))
            failure = None
        except OSError as error:
            failure = error
        records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self._queueing = _Queueing(records)
        self._listener = QueueListener(records, *handlers)
        self._listener.start()
        self._inbox: socket.socket | None = None
        self._outbox: socket.socket | None = None
        _route_to(self._queueing, settings.level)
        if failure:
            logging.getLogger(__name__).warning("no log file in %s: %s; logging to the console only", folder, failure)

    def worker_socket(self) -> socket.socket:
        """Where a worker process sends its records; goes through the arguments of a spawned process."""
        if self._outbox is None:
            self._inbox, self._outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._receiving = threading.Thread(target=self._receive, args=(self._inbox,), daemon=True)
            self._receiving.start()
        return self._outbox

    def _receive(self, inbox: socket.socket) -> None:
        while data := inbox.recv(2 * _DATAGRAM_BYTES):
            self._queueing.handle(logging.makeLogRecord(pickle.loads(data)))

    def stop(self, patience_s: float = 2.0) -> None:
        """Writes what is queued; gives up after `patience_s` seconds: a console that nobody reads blocks for ever."""
        if self._inbox is not None and self._outbox is not None:
            self._inbox.shutdown(socket.SHUT_RD)  # the thread reads what is in it, and ends
            self._receiving.join(patience_s)
            self._inbox.close()
            self._outbox.close()
            self._inbox = self._outbox = None
        logging.getLogger().removeHandler(self._queueing)
        stopping = threading.Thread(target=self._write_the_rest, daemon=True)
        stopping.start()
        stopping.join(patience_s)

    def _write_the_rest(self) -> None:
        self._listener.stop()
        for handler in self._listener.handlers:
            handler.close()


class _Sending(_Queueing):
    """Sends a worker's records to the parent."""

    def __init__(self, outbox: socket.socket) -> None:
        super().__init__(queue.SimpleQueue())
        self._outbox = outbox
        self._outbox.settimeout(1.0)

    def enqueue(self, record: logging.LogRecord) -> None:
        data = pickle.dumps(vars(record))
        if len(data) > _DATAGRAM_BYTES:
            short = {"msg": f"{str(record.msg)[:1000]}... (too long)", "exc_text": None}
            known = {name: value for name, value in vars(record).items() if name not in extras(record)}
            data = pickle.dumps(known | short)
        self._outbox.send(data)


def start_in_worker(outbox: socket.socket, level: str) -> None:
    """Sends all records of this process to the parent's `Logs`."""
    _route_to(_Sending(outbox), level)


def _route_to(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)


class _File(RotatingFileHandler):
    """A rotating file that says once when it cannot be written, and tries again with each record."""

    _failed = False
    lock_file: TextIO
    """Held as long as this process writes the file."""

    def close(self) -> None:
        super().close()
        self.lock_file.close()

    def emit(self, record: logging.LogRecord) -> None:
        failed_before, self._failed = self._failed, False
        super().emit(record)
        if self._failed and not failed_before:
            logging.getLogger(__name__).warning("cannot write %s: %s", self.baseFilename, self._reason)

    def handleError(self, record: logging.LogRecord) -> None:
        self._failed, self._reason = True, sys.exc_info()[1]
        stream, self.stream = self.stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError as error:  # what could not be written is still in its buffer
                self._reason = error


def _file(name: str, folder: Path, settings: LogSettings) -> _File:
    folder.mkdir(parents=True, exist_ok=True)
    _prune(name, folder, keep=_KEPT_HOSTS * (settings.files + 1))
    stem = f"{name}-{socket.gethostname()}"
    lock = (folder / f"{stem}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # a twin on this machine rotates that file
        stem = f"{stem}-{os.getpid()}"
    path = folder / f"{stem}.jsonl"
    file = _File(path, maxBytes=settings.file_bytes, backupCount=settings.files, encoding="utf-8")
    file.lock_file = lock
    file.setFormatter(JsonFormatter(name))
    return file


def _prune(name: str, folder: Path, keep: int) -> None:
    """Deletes the oldest logs of this service: each new container has a new host name, and so a new file."""
    files = sorted(folder.glob(f"{name}-*.jsonl*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[keep:]:
        path.unlink(missing_ok=True)
        if path.suffix == ".jsonl":
            path.with_suffix(".lock").unlink(missing_ok=True)
