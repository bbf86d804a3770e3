"""What can be set, with its type, its bounds and its default; `common.config` reads it from YAML and the environment.

Every setting here has a row in `docs/configuration.md`: a test fails where one is missing.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

MIB = 1 << 20

Port = Annotated[int, Meta(ge=0, le=65535)]
"""A TCP port; 0 takes any free one."""
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1024, le=1 << 40)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Milliseconds = Annotated[float, Meta(gt=0, le=60_000)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
RedisUrl = Annotated[str, Meta(extra={"schemes": ("redis", "rediss", "unix")})]
WebSocketUrl = Annotated[str, Meta(extra={"schemes": ("wss", "ws")})]
Symbol = Annotated[str, Meta(extra={"symbol": True})]
HttpUrl = Annotated[str, Meta(extra={"schemes": ("https", "http")})]


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `log`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    file_bytes: Bytes = 10 * MIB
    files: Annotated[int, Meta(ge=1, le=1000)] = 5


class IngestSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `ingest`."""

    metrics_port: Port = 9101
    flush_ms: Milliseconds = 3.0
    batch_bytes: Bytes = 262_144
    hold_bytes: Bytes = 64 * MIB
    spill_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 1024 * MIB
    """0 writes nothing to disk."""
    streams_per_connection: Annotated[int, Meta(ge=1, le=1024)] = 200
    """USD-M allows 200, spot 1,024 (reference/binance-protocol.md section 1)."""
    connect_timeout_s: Seconds = 10.0
    backoff_first_s: Seconds = 0.5
    backoff_max_s: Seconds = 30.0
    idle_ping_s: Seconds = 30.0
    max_frame_bytes: Bytes = 16 * MIB
    rotate_after_s: Seconds = 82_800.0
    exit_after_s: Seconds = 600.0
    symbols_refresh_s: Annotated[float, Meta(ge=0.5, le=86_400)] = 300.0
    """Not below 0.5: spot's list costs 20 of the 6,000 weight a minute (reference/binance-protocol.md section 4.3)."""
    drain_s: Seconds = 8.0


class ArchiverSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `archiver`."""

    metrics_port: Port = 9102
    shards: Annotated[int, Meta(ge=1, le=256)] = 8
    lease_s: Seconds = 10.0
    grace_s: Seconds = 8.0
    poll_min_ms: Milliseconds = 5.0
    poll_max_ms: Milliseconds = 2500.0
    read_count: Count = 500
    stage_bytes: Bytes = 512 * MIB
    redis_memory_fraction: Fraction = 0.6
    workers: Annotated[int, Meta(ge=1, le=64)] = 2
    bundle_after_s: Seconds = 600.0
    tail_s: Annotated[float, Meta(ge=0, le=86_400)] = 5.0
    dead_after_s: Seconds = 15.0
    drain_s: Seconds = 8.0


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `gate`."""

    metrics_port: Port = 9103
    mode: Literal["pause", "flag"] = "pause"
    close_above_ms: Milliseconds = 2000.0
    open_below_ms: Milliseconds = 1000.0
    dwell_s: Seconds = 10.0
    overrides: list[str] = field(default_factory=list)
    """Thresholds of a market or a symbol; see `common.thresholds`."""
    window: Annotated[int, Meta(ge=1, le=1000)] = 15
    samples: Annotated[int, Meta(ge=1, le=1000)] = 5
    fresh_s: Seconds = 60.0
    probe_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    max_uncertainty_ms: Milliseconds = 500.0
    canary_symbol: Symbol = "BTCUSDT"
    silent_after_s: Annotated[float, Meta(ge=3, le=86_400)] = 15.0
    """The gate gives a sign each second: less than three would be one that is late."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of the house."""

    markets: list[str] = field(default_factory=lambda: ["um"])
    symbols: list[str] = field(default_factory=lambda: ["BTCUSDT", "ETHUSDT"])
    channels: list[str] = field(default_factory=lambda: ["depth20", "aggTrade", "markPrice", "forceOrder"])
    redis_url: RedisUrl = "redis://127.0.0.1:6379/0"
    data_dir: Path = Path("data")
    state_dir: Path = Path("state")
    reports_dir: Path = Path("reports")
    um_ws_url: WebSocketUrl = "wss://fstream.binance.com"
    um_rest_url: HttpUrl = "https://fapi.binance.com"
    spot_ws_url: WebSocketUrl = "wss://stream.binance.com:9443"
    spot_rest_url: HttpUrl = "https://api.binance.com"
    archive_url: HttpUrl = "https://data.binance.vision"
    metrics_host: str = "127.0.0.1"
    log: LogSettings = field(default_factory=LogSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    archiver: ArchiverSettings = field(default_factory=ArchiverSettings)
    gate: GateSettings = field(default_factory=GateSettings)


def from_path(kind: type, value: object) -> Any:
    """Lets msgspec read a `Path`, the only type here that it does not know, from text.

    Raises:
        ValueError: The value is no text, or empty.
    """
    if isinstance(value, Path) or (isinstance(value, str) and value.strip()):
        return Path(value).expanduser()
    raise ValueError("not a path")
