"""Host names that a test owns: a process that is started with them finds nobody else, and loses them when it is told.

Linux gives each mount namespace files of its own at /etc: the real resolver of the process under test reads ours.
"""

import os
import subprocess
from functools import cache
from pathlib import Path

_NOBODY = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
"""No name server there: whom the hosts file does not know, nobody knows."""

_UNSHARE = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")
_ENTER = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'


class OwnNames:
    """The name `exchange.sim`, on the loopback address, as long as it has one.

    Args:
        folder: For the two files.
    """

    EXCHANGE = "exchange.sim"

    def __init__(self, folder: Path) -> None:
        self._hosts = folder / "hosts"
        self._resolver = folder / "resolv.conf"
        self._resolver.write_text(_NOBODY)
        self.give()

    @property
    def command(self) -> tuple[str, ...]:
        """What a command line begins with whose process is to have these names; the process id stays the same."""
        return (*_UNSHARE, "sh", "-c", _ENTER, "sh", str(self._hosts), str(self._resolver))

    def give(self) -> None:
        """The name is known."""
        self._hosts.write_text(f"127.0.0.1 localhost {self.EXCHANGE}\n")

    def take(self) -> None:
        """The name is not known any more; connections that are there stay."""
        self._hosts.write_text("127.0.0.1 localhost\n")


@cache
def allowed() -> bool:
    """Whether this machine lets a process have files of its own at /etc."""
    try:
        run = subprocess.run(
            [*_UNSHARE, "mount", "--bind", "/etc/hosts", "/etc/hosts"], capture_output=True, timeout=10
        )
    except FileNotFoundError:
        return False
    return run.returncode == 0
