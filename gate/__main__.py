"""`python -m gate`: may a symbol's frames be trusted? `status` tells a person what it thinks, and why."""

import asyncio
import sys
import time

from common.service import Service, run
from common.symbols import Wanted
from gate import commands
from gate.canary import Canary
from gate.market import Market
from gate.metrics import GateMetrics
from gate.prober import Prober
from gate.watch import Watch

MEASURED_S = 180.0
"""Without a probe, a canary or a sample for so long the gate is blind."""
REDIS_S = 60.0
DRAIN_S = 5.0


async def gate(service: Service) -> None:
    """Watches until the service stops: there is nothing to drain, the next gate goes on from what is in Redis."""
    settings = service.settings

    def measured() -> None:
        service.health.beat("measured")

    now_s = time.monotonic()
    markets = [Market(name, settings.gate, now_s) for name in settings.markets]
    for market in markets:
        # those that `all` and patterns take are seen in the collectors' samples
        market.watch(Wanted.read(settings.symbols).names, now_s)
    probers = {market.name: Prober(market, settings, measured) for market in markets}
    canaries = [Canary(market, settings, measured) for market in markets]
    watch = Watch(service, markets, lambda name: probers[name].want())
    service.registry.register(GateMetrics(markets, canaries, watch))
    service.health.expect("measured", max(MEASURED_S, 3 * settings.gate.probe_s))
    service.health.expect("redis", REDIS_S)
    async with asyncio.TaskGroup() as house:
        running = [watch.run(), *(prober.run() for prober in probers.values()), *(canary.run() for canary in canaries)]
        tasks = [house.create_task(each) for each in running]
        await service.stopping.wait()
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    if commands.asked(sys.argv[1:]):
        sys.exit(commands.main(sys.argv[1:]))
    run(
        "gate",
        gate,
        description="Measures the latency to the exchange and opens or closes each symbol by it. A command that ends: "
        "`status` (medians, clocks, flags, the last decisions).",
        drain_s=lambda settings: DRAIN_S,
        metrics_port=lambda settings: settings.gate.metrics_port,
    )
