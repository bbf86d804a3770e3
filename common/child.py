"""A child process that is started again when it dies, and whose lines are shown with its name.

No child outlives its parent: on Linux the kernel kills it when the parent ends, however that comes.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

BAD_CONFIGURATION = 2
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 30.0
STEADY_AFTER_S = 60.0
"""A child that lived so long starts the backoff anew."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_LINE_BYTES = 1 << 20

Show = Callable[[str, str], None]
"""Shows a line of a child: its name, the line."""


class Child:
    """One child.

    Attributes:
        name: How it is called in the log.
        first_line: Its first line on standard output, for a child that says there where it listens.
    """

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], show: Show) -> None:
        self.name = name
        self.command = list(command)
        self.first_line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._environ = dict(environ)
        self._show = show
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Keeps it alive until `stop`.

        Returns:
            The exit code of one that was stopped or whose configuration is bad, which a new start would not mend.
        """
        backoff_s = BACKOFF_FIRST_S
        while True:
            started_s = asyncio.get_running_loop().time()
            code = await self._live()
            if self._stopping.is_set() or code == BAD_CONFIGURATION:
                return code
            if asyncio.get_running_loop().time() - started_s >= STEADY_AFTER_S:
                backoff_s = BACKOFF_FIRST_S
            self._show("main", f"{self.name} died ({told(code)}); starting it again in {backoff_s:g} s")
            try:
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
            except TimeoutError:
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
            else:
                return code

    async def stop(self, patience_s: float) -> None:
        """Asks it to end, and kills it after `patience_s` seconds."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), patience_s)
        except TimeoutError:
            self._show("main", f"{self.name} has not ended in {patience_s:g} s; killing it")
            process.kill()
            await process.wait()

    async def _live(self) -> int:
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(
            *self.command,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            limit=_LINE_BYTES,
            start_new_session=True,  # a Ctrl-C is for the parent alone, which stops the children in order
            preexec_fn=_die_with(os.getpid()),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(self._follow(process.stdout, is_out=True), self._follow(process.stderr))
        return await process.wait()

    async def _follow(self, lines: asyncio.StreamReader, *, is_out: bool = False) -> None:
        while True:
            try:
                line = (await lines.readline()).decode(errors="replace")
            except ValueError:  # longer than a log line ever is; its rest comes as the next one
                continue
            if not line:
                return
            if is_out and not self.first_line.done():
                self.first_line.set_result(line)
            self._show(self.name, readable(line.rstrip()))


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child does first: asks to be killed when its parent ends, and ends if that has already happened."""
    libc = _LIBC
    if libc is None:
        return None

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def told(code: int) -> str:
    """An exit code in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def readable(line: str) -> str:
    """A JSON log line as a line for people; any other as it is."""
    try:
        fields = json.loads(line)
        head = f"{fields.pop('time')[11:19]} {fields.pop('level'):<7} {fields.pop('message')}"
    except (ValueError, AttributeError, KeyError, TypeError):
        return line
    exception = fields.pop("exception", "")
    rest = "".join(f"  {name}={value}" for name, value in fields.items() if name not in ("service", "logger"))
    return head + rest + (f"\n{exception}" if exception else "")
