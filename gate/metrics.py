"""What `/metrics` says of the gate: read at the scrape from what the loop holds."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as MetricsSource

from common.gate import MarketNow
from gate.canary import Canary
from gate.market import Market
from gate.watch import Watch

_MARKET_SECONDS = {
    "clock_offset": ("offset_ms", "The exchange's clock minus ours."),
    "clock_offset_uncertainty": ("uncertainty_ms", "How far that may be off."),
    "round_trip": ("round_trip_ms", "Shortest round trip of the last probe."),
    "canary_latency": ("canary_ms", "Median latency of the canary."),
}


class GateMetrics(MetricsSource):
    """The metrics of all markets and symbols."""

    def __init__(self, markets: Sequence[Market], canaries: Sequence[Canary], watch: Watch) -> None:
        self._markets = markets
        self._canaries = canaries
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        yield from _market_gauges(dict(self._watch.numbers))
        yield from self._symbol_gauges()
        decisions = CounterMetricFamily("maserver_gate_decisions", "Changes of a flag.", labels=["market"])
        failures = CounterMetricFamily("maserver_gate_probe_failures", "Probes without an answer.", labels=["market"])
        negative = CounterMetricFamily(
            "maserver_gate_negative_samples", "Latencies that are negative beyond all doubt.", labels=["market"]
        )
        connects = CounterMetricFamily("maserver_gate_canary_connects", "Canary connections opened.", labels=["market"])
        for market, canary in zip(self._markets, self._canaries, strict=True):
            decisions.add_metric([market.name], market.decisions)
            failures.add_metric([market.name], market.probe_failures)
            negative.add_metric([market.name], market.negative_samples)
            connects.add_metric([market.name], canary.connects)
        yield from (decisions, failures, negative, connects)
        yield CounterMetricFamily(
            "maserver_gate_bad_samples", "Samples that no collector writes.", self._watch.bad_samples
        )
        yield CounterMetricFamily("maserver_gate_clock_steps", "Jumps of our own clock.", self._watch.clock_steps)
        yield GaugeMetricFamily("maserver_gate_waiting", "Decisions that Redis has not taken yet.", self._watch.waiting)

    def _symbol_gauges(self) -> Iterator[Metric]:
        labels = ["market", "symbol"]
        latency = GaugeMetricFamily("maserver_gate_latency_seconds", "Median latency, corrected.", labels=labels)
        is_open = GaugeMetricFamily("maserver_gate_open", "1 while open.", labels=labels)
        valid = GaugeMetricFamily("maserver_gate_latency_valid", "1 while the latency can be trusted.", labels=labels)
        wrong = GaugeMetricFamily("maserver_gate_clock_error", "1 while the latency is negative.", labels=labels)
        for market in self._markets:
            for symbol, (numbers, flags) in market.symbols_now().items():
                names = [market.name, symbol]
                if numbers.median_ms is not None:
                    latency.add_metric(names, numbers.median_ms / 1000)
                is_open.add_metric(names, flags.stream_enable)
                valid.add_metric(names, flags.latency_valid)
                wrong.add_metric(names, flags.clock_error)
        yield from (latency, is_open, valid, wrong)


def _market_gauges(numbers: dict[str, MarketNow]) -> Iterator[Metric]:
    for name, (attribute, text) in _MARKET_SECONDS.items():
        gauge = GaugeMetricFamily(f"maserver_gate_{name}_seconds", text, labels=["market"])
        for market, now in numbers.items():
            value_ms = getattr(now, attribute)
            if value_ms is not None:
                gauge.add_metric([market], value_ms / 1000)
        yield gauge
