"""What malloc is told, in a process of its own that says what became of it."""

import platform
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another libc has no mallopt")

_SAYS = """
import ctypes, threading
from common import heap
{first}
libc = ctypes.CDLL(None)
thread = threading.Thread(target=libc.malloc, args=(4096,))
thread.start(); thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def said_after(first: str) -> str:
    command = [sys.executable, "-c", _SAYS.format(first=first)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.mark.parametrize(("first", "heaps"), [("", 2), ("heap.share()", 1)])
def test_threads_share_a_heap(first: str, heaps: int) -> None:
    assert said_after(first).count("<heap nr=") == heaps


@pytest.mark.parametrize(("first", "more"), [("", 1), ("heap.keep(32 << 20)", 0)])
def test_what_is_kept_is_not_given_back(first: str, more: int) -> None:
    """A large block comes from the heap, not from pages of its own that go back at once."""
    before, after = (
        int(re.findall('<total type="mmap" count="([0-9]+)"', said_after(f"{first}\n{then}"))[-1])
        for then in ("", "ctypes.CDLL(None).malloc(8 << 20)")
    )
    assert after - before == more
