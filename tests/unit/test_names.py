"""Looking host names up."""

import asyncio
import gc
import socket
from typing import Any

import pytest

from common import names


class Resolver:
    """A name server that answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[asyncio.Future[Any]] = []
        self.complaints: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", self._getaddrinfo)
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))

    async def _getaddrinfo(self, host: str, port: None, **options: object) -> Any:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


def test_many_wait_for_one_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, the name server is asked once, and each gets its answer; later it is asked again."""

    async def run() -> None:
        resolver = Resolver(monkeypatch)
        waiting = [asyncio.create_task(names.look_up("exchange")) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        resolver.asked[0].set_exception(socket.gaierror(-2, "Name or service not known"))
        for waiter in waiting:
            with pytest.raises(OSError, match="not known"):
                await waiter
        assert len(resolver.asked) == 1
        again = asyncio.create_task(names.look_up("exchange"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        resolver.asked[1].set_result([])
        await again

    asyncio.run(run())


def test_who_gives_up_leaves_the_lookup_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving up ends nobody else's wait, and an answer that nobody waits for any more is no error of the house."""

    async def run() -> None:
        resolver = Resolver(monkeypatch)
        hasty, patient = (asyncio.create_task(names.look_up("exchange")) for _ in range(2))
        await asyncio.sleep(0)
        hasty.cancel()
        await asyncio.wait((hasty,))
        assert hasty.cancelled()
        assert not patient.done()
        patient.cancel()
        await asyncio.wait((patient,))
        resolver.asked[0].set_exception(socket.gaierror(-3, "Temporary failure in name resolution"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        resolver.asked.clear()
        gc.collect()
        assert resolver.complaints == []

    asyncio.run(run())
