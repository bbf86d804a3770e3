"""One connection to Redis that reads its answers now and then."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from common.wire import linked, pack
from tests.producing import until
from tests.redis_server import RedisServer

PAUSE_S = 0.2


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_answers_gather_and_are_read_together(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Between two looks nothing is read; every answer comes, in order; and a server that is gone is noticed."""

    async def main(server: RedisServer) -> None:
        async with linked(server.url, name="test") as link:
            link.pause_s = PAUSE_S
            answers: list[Any] = []
            looks = set()

            def answered(replies: list[Any]) -> None:
                answers.extend(replies)
                looks.add(round(asyncio.get_running_loop().time(), 3))

            for _ in range(60):
                link.send(pack("INCR", "a") * 2, 2, answered)
                await asyncio.sleep(0.01)
            await until(lambda: len(answers) == 120)
            assert answers == list(range(1, 121))
            assert 2 <= len(looks) <= 20  # 60 without a pause
            link.send(pack("INCR", "a"), 1, answered)
            await until(lambda: len(answers) == 121)
            server.kill()
            await until(link.lost.done)

    with RedisServer(tmp_path) as server, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(server))
