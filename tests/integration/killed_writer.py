"""Does a piece of the archive's work again and again, killed a step later each time, until it comes to its end.

`python -m tests.integration.killed_writer TEMPLATE WORK PICKLE`: for each step WORK/<n> is a copy of the data folder
TEMPLATE in which the pickled call (a function, then its arguments after the data folder) was killed before its n-th
change of the disk. The last one was not killed.
"""

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archiver import bundles, minutes, tables

CHANGES = ("fsync", "replace", "unlink", "rmdir", "mkdir", "link")
KILLED = 9


def kill_before(step: int) -> None:
    """From here on the process ends, without any cleaning up, at its `step`-th change of the disk."""
    left = [step]

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not left[0]:
                os._exit(KILLED)
            left[0] -= 1
            return change(*args, **kwargs)

        return call

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def main(template: Path, work: Path, pickled: Path) -> None:
    call, *args = pickle.loads(pickled.read_bytes())
    assert call in (bundles.bundle_day, minutes.write_minutes)
    assert tables.__name__ in sys.modules  # pyarrow is loaded once, before the forks
    for step in range(10_000):
        data = work / f"{step:04}"
        shutil.copytree(template, data)
        child = os.fork()
        if not child:
            status = 1
            try:
                kill_before(step)
                call(data, *args)
                status = 0
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != KILLED:
            sys.exit(code)
    sys.exit("it never came to its end")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
