"""Five hundred symbols at ten books a second: nothing is lost, inside the memory caps of compose.yaml."""

import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import LENGTH, Tell
from tests.sims.accounting import account
from tests.sims.house import House, house

SECONDS = 40
CAPS_MB = {"ingest": 256, "archiver": 768, "redis": 1024}
"""`mem_limit` of compose.yaml."""


def memory_mb(built: House) -> dict[str, float]:
    """Memory of each service with its workers, shared pages counted once."""
    found = {}
    for name in CAPS_MB:
        process = psutil.Process(built.redis.process.pid if name == "redis" else built.process(name).pid)
        found[name] = sum(map(pss, [process, *process.children(recursive=True)])) / 2**20
    return found


def pss(process: psutil.Process) -> int:
    """Of a process that may have ended meanwhile, as Redis's child does that rewrites its log."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0


@pytest.mark.timeout(200 + int(SECONDS * LENGTH))
def test_five_thousand_frames_a_second(tmp_path: Path, tell: Tell) -> None:
    """500 symbols x depth20@100ms: every frame is archived once, and no service passes its cap."""
    symbols = ",".join(f"S{number:03d}USDT" for number in range(500))
    with house(
        tmp_path,
        "--symbols",
        symbols,
        redis_options=("--maxmemory", "640mb"),
        SYMBOLS=symbols,
        CHANNELS="depth20",
        ARCHIVER__WORKERS=2,
    ) as built:
        built.start("ingest")
        built.start("archiver")
        built.wait_for_frames(5000)
        most = dict.fromkeys(CAPS_MB, 0.0)
        ends = time.monotonic() + SECONDS * LENGTH
        while time.monotonic() < ends:
            most = {name: max(most[name], now) for name, now in memory_mb(built).items()}
            time.sleep(1)
        built.settle()
        result = account(built.exchange, built.data)
        tell(**result.figures, **{f"{name}_mb": round(mb) for name, mb in most.items()})
        assert result.archived > 4500 * SECONDS * LENGTH
        assert (result.missing, result.doubled, result.alien) == ({}, {}, {})
        assert result.holding() == []
        assert all(most[name] < cap for name, cap in CAPS_MB.items()), most
