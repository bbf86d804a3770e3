"""What `/metrics` says of the collector: read at the scrape from plain integers that the frame path counts."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as MetricsSource

from common.clock import SECOND_NS
from common.producer import Producer
from ingest.directory import Directory
from ingest.fleet import Fleet


class IngestMetrics(MetricsSource):
    """The metrics of all connections and of the way into Redis."""

    def __init__(self, fleet: Fleet, producer: Producer, directory: Directory) -> None:
        self._fleet = fleet
        self._directory = directory
        self._producer = producer

    def collect(self) -> Iterator[Metric]:
        yield from self._streams()
        yield from self._connections()
        yield from self._redis()
        yield from self._symbols()

    def _streams(self) -> Iterator[Metric]:
        labels = ["market", "channel", "symbol"]
        frames = CounterMetricFamily("maserver_ingest_frames", "Frames received.", labels=labels)
        totals: dict[tuple[str, str, str], int] = {}
        for stream, count in self._fleet.frames():
            totals[stream] = totals.get(stream, 0) + count
        for name, count in totals.items():
            frames.add_metric(list(name), count)
        yield frames
        silent = GaugeMetricFamily(
            "maserver_ingest_silent", "1 for each stream that is silent and should not be.", labels=labels
        )
        for collector in self._fleet.collectors:
            for stream in collector.doubted():
                silent.add_metric(list(stream), 1)
        yield silent
        yield GaugeMetricFamily(
            "maserver_ingest_paused_streams", "Streams that the latency gate has closed.", self._fleet.paused
        )
        yield CounterMetricFamily(
            "maserver_ingest_frames_dropped", "Frames received and not kept.", self._fleet.dropped
        )

    def _connections(self) -> Iterator[Metric]:
        def counter(name: str, words: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"maserver_ingest_{name}", words, labels=["seat"])

        connects = counter("connects", "Connections opened.")
        failures = counter("connect_failures", "Connections refused.")
        rotations = counter("rotations", "Connections that the next one replaced without a gap.")
        failed = counter("failed_rotations", "Next connections that were not opened, or did not deliver.")
        resubscribed = counter("resubscribed", "Streams subscribed again, for they were silent.")
        connected = GaugeMetricFamily("maserver_ingest_connected", "1 while connected.", labels=["seat"])
        lag = GaugeMetricFamily(
            "maserver_ingest_lag_seconds", "How much later than usual the last frames came.", labels=["seat"]
        )
        for collector in self._fleet.collectors:
            seat = [collector.name]
            connects.add_metric(seat, collector.connects)
            failures.add_metric(seat, collector.failures)
            rotations.add_metric(seat, collector.rotations)
            failed.add_metric(seat, collector.failed_rotations)
            resubscribed.add_metric(seat, collector.resubscribed)
            connected.add_metric(seat, collector.connected)
            lag.add_metric(seat, collector.lag_s)
        yield from (connects, failures, rotations, failed, resubscribed, connected, lag)

    def _redis(self) -> Iterator[Metric]:
        producer = self._producer
        yield GaugeMetricFamily(
            "maserver_ingest_held_bytes", "Received and not yet on Redis's disk.", producer.held_bytes
        )
        for name, words, value in (
            ("accepted", "Entries that Redis took.", producer.accepted_commands),
            ("durable", "Entries that Redis has on disk.", producer.durable_commands),
            ("sent_again", "Entries sent more than once.", producer.sent_again),
        ):
            yield CounterMetricFamily(f"maserver_ingest_entries_{name}", words, value)
        yield GaugeMetricFamily(
            "maserver_ingest_spilled_bytes", "On our own disk, until Redis takes it.", producer.spilled_bytes
        )
        yield CounterMetricFamily(
            "maserver_ingest_entries_spilled", "Entries written to our own disk.", producer.spilled_commands
        )
        yield CounterMetricFamily(
            "maserver_ingest_entries_replayed", "Entries sent from our own disk.", producer.replayed_commands
        )

    def _symbols(self) -> Iterator[Metric]:
        directory = self._directory
        recorded = GaugeMetricFamily("maserver_ingest_symbols", "Symbols recorded.", labels=["market"])
        refreshed = GaugeMetricFamily(
            "maserver_ingest_symbols_refreshed_timestamp_seconds", "When a market last told its list.",
            labels=["market"],
        )  # fmt: skip
        failures = CounterMetricFamily(
            "maserver_ingest_symbols_failures", "Lists that could not be had.", labels=["market"]
        )
        for market, count in directory.recorded.items():
            recorded.add_metric([market], count)
            refreshed.add_metric([market], directory.refreshed_ns[market] / SECOND_NS)
            failures.add_metric([market], directory.failures[market])
        yield from (recorded, refreshed, failures)
        yield GaugeMetricFamily(
            "maserver_ingest_symbols_unknown", "Names in the settings that no market lists.", directory.unknown
        )
