"""What glibc's malloc is told of how a process uses memory; another libc is left as it is.

Source: malloc.h and mallopt(3).
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def share() -> None:
    """All threads take from one heap; to be called before there is a second thread, which would have one of its own.

    Where one thread reads back what another let go of, each heap would grow to the size of both.
    """
    _tell(_M_ARENA_MAX, 1)


def keep(freed_bytes: int) -> None:
    """So much freed memory stays with the process, which soon takes as much: giving it back costs clearing it again."""
    _tell(_M_MMAP_THRESHOLD, freed_bytes)
    _tell(_M_TRIM_THRESHOLD, freed_bytes)


def _tell(what: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(what, value)
