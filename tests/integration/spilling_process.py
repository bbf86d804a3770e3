"""A collector's hand alone, as a process that can be killed: appends numbers, and says which it has appended.

`python -m tests.integration.spilling_process URL SPILL INSTANCE FIRST`: appends a command each 5 ms, numbered from
FIRST, each with the receive time `time.time_ns()`, and prints the number and that time.
"""

import asyncio
import sys
import time
from pathlib import Path

from common.producer import Producer
from common.streams import Stream
from common.wire import pack

STREAM = Stream("um", "depth20", "BTCUSDT")


async def main(url: str, spill: Path, instance: str, first: int) -> None:
    producer = Producer(
        url,
        flush_s=0.004,
        batch_bytes=1 << 18,
        hold_bytes=1 << 24,
        beats=lambda: {instance: f"1 {time.time_ns()}"},
        spill=spill,
        instance=instance,
    )
    producer.register([STREAM])
    running = asyncio.create_task(producer.run())
    number = first
    while not running.done():
        now = time.time_ns()
        producer.append(pack("XADD", STREAM.key, "*", "c", instance, "t", f"{now:019d}", "n", number, "d", b"x" * 500))
        print(number, now, flush=True)
        number += 1
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
