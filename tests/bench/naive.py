"""The pipeline that most people write first, to be measured beside the house.

`websockets` and `json`, one awaited XADD of redis-py a frame, a reader that takes 10 entries at a time and acknowledges
them as it has them, one `.jsonl` a symbol and minute, zipped by `zipfile` when the minute is over. No reconnect, no
ledger, no Parquet, no fsync, no trimming: it does less than the house.

    python -m tests.bench.naive ingest WEBSOCKET REDIS SYMBOL,SYMBOL
    python -m tests.bench.naive archiver REDIS FOLDER
"""

import asyncio
import json
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import IO, Any

import redis.asyncio as redis
from websockets.asyncio.client import connect

STREAM = "naive:depth20"
GROUP = "archiver"
SYMBOLS_PER_CONNECTION = 200
NAMES_PER_MESSAGE = 100
ENTRIES_A_READ = 10
QUIET_S = 2.0
"""A minute's file is zipped when nothing was written into it for so long."""


async def ingest(websocket: str, redis_url: str, symbols: list[str]) -> None:
    """Receives until it is cancelled."""
    async with redis.from_url(redis_url, protocol=2) as client, asyncio.TaskGroup() as group:
        for start in range(0, len(symbols), SYMBOLS_PER_CONNECTION):
            group.create_task(_receive(websocket, client, symbols[start : start + SYMBOLS_PER_CONNECTION]))


async def _receive(websocket: str, client: redis.Redis, symbols: list[str]) -> None:
    async with connect(f"{websocket}/public/stream") as connection:
        for start in range(0, len(symbols), NAMES_PER_MESSAGE):
            names = [f"{symbol.lower()}@depth20@100ms" for symbol in symbols[start : start + NAMES_PER_MESSAGE]]
            await connection.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": start}))
            await asyncio.sleep(0.4)
        async for message in connection:
            received_ns = time.time_ns()
            frame = json.loads(message)
            if "data" in frame:
                book = frame["data"]
                fields: Any = {"t": received_ns, "s": book["s"], "d": json.dumps(book)}
                await client.xadd(STREAM, fields)


async def archive(redis_url: str, folder: Path) -> None:
    """Writes until it is cancelled."""
    files: dict[Path, tuple[IO[str], float]] = {}
    async with redis.from_url(redis_url, protocol=2) as client:
        await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        looked_s = time.monotonic()
        while True:
            found: Any = await client.xreadgroup(GROUP, "one", {STREAM: ">"}, count=ENTRIES_A_READ, block=200)
            now_s = time.monotonic()
            for _, fields in found[0][1] if found else ():
                book = json.loads(fields[b"d"])
                minute = time.strftime("%H-%M", time.gmtime(book["E"] / 1000))
                path = folder / book["s"] / f"{minute}.jsonl"
                if path not in files:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    files[path] = path.open("a"), now_s
                file, _ = files[path]
                file.write(json.dumps({"t": int(fields[b"t"]), "d": book}) + "\n")
                files[path] = file, now_s
            if found:
                await client.xack(STREAM, GROUP, *[entry_id for entry_id, _ in found[0][1]])
            if now_s - looked_s > 0.5:
                looked_s = now_s
                for path in [path for path, (_, last_s) in files.items() if now_s - last_s > QUIET_S]:
                    files.pop(path)[0].close()
                    _zip(path)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    path.unlink()


async def _until_terminated(argv: list[str]) -> None:
    work = ingest(argv[1], argv[2], argv[3].split(",")) if argv[0] == "ingest" else archive(argv[1], Path(argv[2]))
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


if __name__ == "__main__":
    asyncio.run(_until_terminated(sys.argv[1:]))
