"""What `/metrics` says of the archiver: read at the scrape from plain integers."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as MetricsSource

from archiver.writing import Counts

_COUNTERS = {
    "frames": "Entries read from Redis.",
    "minutes": "Minutes written, parts and late ones each once.",
    "doubled": "Frames that were there already.",
    "mismatched": "Frames that share connection and counter with another of other content.",
    "rejected": "Frames that only the raw archive holds.",
    "failed_writes": "Writes that the disk refused.",
    "bundles": "Days bundled.",
    "polls": "Reads of all streams.",
    "raw_bytes": "Bytes of raw files written.",
    "parquet_bytes": "Bytes of Parquet files written.",
}
_GAUGES = {
    "staged_bytes": "Read, and waiting for its minute to be over.",
    "redis_used_bytes": "Memory that Redis uses.",
}


class ArchiverMetrics(MetricsSource):
    """The metrics of the recorder."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"maserver_archiver_{name}", text, getattr(self._counts, name))
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"maserver_archiver_{name}", text, getattr(self._counts, name))
