"""What `/metrics` says of the collector: read at the scrape from plain integers that the frame path counts."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as MetricsSource

from common.producer import Producer
from ingest.collector import Collector


class IngestMetrics(MetricsSource):
    """The metrics of all connections and of the way into Redis."""

    def __init__(self, collectors: Sequence[Collector], producer: Producer) -> None:
        self._collectors = collectors
        self._producer = producer

    def collect(self) -> Iterator[Metric]:
        frames = CounterMetricFamily(
            "maserver_ingest_frames", "Frames received.", labels=["market", "channel", "symbol"]
        )
        for collector in self._collectors:
            for stream, count in collector.frames().items():
                frames.add_metric(list(stream), count)
        yield frames
        connects = CounterMetricFamily("maserver_ingest_connects", "Connections opened.", labels=["route"])
        failures = CounterMetricFamily("maserver_ingest_connect_failures", "Connections refused.", labels=["route"])
        connected = GaugeMetricFamily("maserver_ingest_connected", "1 while connected.", labels=["route"])
        for collector in self._collectors:
            connects.add_metric([collector.name], collector.connects)
            failures.add_metric([collector.name], collector.failures)
            connected.add_metric([collector.name], collector.connected)
        yield from (connects, failures, connected)
        producer = self._producer
        yield GaugeMetricFamily(
            "maserver_ingest_held_bytes", "Received and not yet on Redis's disk.", producer.held_bytes
        )
        yield CounterMetricFamily(
            "maserver_ingest_entries_accepted", "Entries that Redis took.", producer.accepted_commands
        )
        yield CounterMetricFamily(
            "maserver_ingest_entries_durable", "Entries that Redis has on disk.", producer.durable_commands
        )
        yield CounterMetricFamily(
            "maserver_ingest_entries_sent_again", "Entries sent more than once.", producer.sent_again
        )
        yield CounterMetricFamily(
            "maserver_ingest_frames_dropped", "Frames received and not kept.",
            sum(collector.dropped for collector in self._collectors),
        )  # fmt: skip
