"""What was measured, beside the goals: rows for people and for machines."""

import os
import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from rich.table import Table

from tests.bench.beside import Cost
from tests.bench.chains import Run
from tests.bench.collectors import Collected
from tests.bench.scans import DECODER, Scans
from tests.bench.sizes import Sizes
from tests.bench.sustained import CAPS_MIB, FRAMES_S, Sustained

MIB = 1 << 20
_PACKAGES = ("picows", "uvloop", "websockets", "redis", "hiredis", "isal", "msgspec", "pyarrow", "polars")


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        ratio: What the goal is about, where it is a ratio: ours against the other's.
        met: None where there is no goal.
    """

    what: str
    unit: str
    value: float
    naive: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


def _against(what: str, unit: str, value: float, other: float, most: float | None = None, goal: str = "") -> Row:
    ratio = value / other if other else None
    return Row(what, unit, value, other, ratio, goal, None if most is None or ratio is None else ratio <= most)


def _below(what: str, unit: str, value: float, most: float, naive: float | None = None) -> Row:
    return Row(what, unit, value, naive, None, f"<= {most:g}", value <= most)


def of_runs(runs: list[Run]) -> list[Row]:
    """CPU, latency and memory, medians over the rounds."""
    rows = []
    for mode, ingest_most, chain_most in (("paced", 1 / 7, 1 / 8), ("flood", 1 / 12, None)):
        ours = [run for run in runs if (run.chain, run.mode) == ("house", mode)]
        theirs = [run for run in runs if (run.chain, run.mode) == ("naive", mode)]
        if not ours or not theirs:
            continue
        label = "5,000/s" if mode == "paced" else "flood"

        def both(
            figure: Callable[[Run], float], ours: list[Run] = ours, theirs: list[Run] = theirs
        ) -> tuple[float, float]:
            return statistics.median(map(figure, ours)), statistics.median(map(figure, theirs))

        cpu = "CPU s / 1M frames"
        rows.append(Row(f"{label}: came into Redis", "frames/s", *both(lambda run: run.frames_s)))
        if mode == "flood":
            rows.append(Row(f"{label}: kept by ingest", "frames/s", *both(lambda run: run.kept_s)))
        goal = f"<= 1/{1 / ingest_most:.0f}"
        rows.append(_against(f"{label}: ingest", cpu, *both(lambda run: run.cpu_s["ingest"]), ingest_most, goal))
        rows.append(_against(f"{label}: redis", cpu, *both(lambda run: run.cpu_s["redis"])))
        rows.append(_against(f"{label}: archiver, all files", cpu, *both(lambda run: run.cpu_s["archiver"])))
        goal = f"<= 1/{1 / chain_most:.0f}" if chain_most else ""
        rows.append(_against(f"{label}: whole chain", cpu, *both(lambda run: run.total_cpu_s), chain_most, goal))
        if mode == "paced":
            p50, naive_p50 = both(lambda run: _percentile(run.latencies_ms, 0.50))
            p99, naive_p99 = both(lambda run: _percentile(run.latencies_ms, 0.99))
            rows.append(Row(f"{label}: send to Redis, p50", "ms", p50, naive_p50))
            rows.append(_below(f"{label}: send to Redis, p99", "ms", p99, 7.0, naive_p99))
            over, naive_over = both(lambda run: 100 * (run.redis_bytes / run.payload_bytes - 1))
            rows.append(_below("Redis memory over payload", "%", over, 25.0, naive_over))
        for name, most in (("ingest", 64), ("archiver", 400), ("redis", None)):
            rss, naive_rss = both(partial(_peak, name, "rss"))
            pss, naive_pss = both(partial(_peak, name, "pss"))
            what = f"{label}: {name}, peak RSS"
            bound = most if mode == "paced" else None
            rows.append(_below(what, "MiB", rss, bound, naive_rss) if bound else Row(what, "MiB", rss, naive_rss))
            rows.append(Row(f"{label}: {name}, peak PSS", "MiB", pss, naive_pss))
    return rows


def _peak(name: str, kind: str, run: Run) -> float:
    return float(getattr(run.memory[name], kind)) / MIB


def of_sizes(sizes: Sizes) -> list[Row]:
    return [
        Row("raw minute file", "B / frame", sizes.raw, sizes.deflate, sizes.raw / sizes.deflate, "(naive: deflate-6)"),
        _against("Parquet against list<double> zstd 3", "B / frame", sizes.parquet, sizes.doubles, 0.60, "<= 0.60"),
        _against("Parquet against zip deflate-6", "B / frame", sizes.parquet, sizes.deflate, 0.55, "<= 0.55"),
    ]


def of_sustained(found: Sustained) -> list[Row]:
    """Whether the house held out, and in what memory."""
    came, label = found.run.frames_s, f"sustained for {found.run.seconds:,.0f} s"
    rows = [
        Row(f"{label}: came", "frames/s", came, goal=f">= {FRAMES_S:,}", met=came >= FRAMES_S),
        _below(f"{label}: lost (breaks of ids)", "breaks", found.lost, 0),
        _below(f"{label}: of them without a row of the ledger", "breaks", found.unaccounted, 0),
        Row(f"{label}: archived", "frames", found.archived),
        Row(f"{label}: whole chain", "CPU s / 1M frames", found.run.total_cpu_s),
    ]
    peaks = found.run.memory
    return rows + [
        _below(f"{label}: {name}, peak PSS", "MiB", peaks[name].pss / MIB, cap) for name, cap in CAPS_MIB.items()
    ]


def of_collectors(found: dict[str, dict[str, list[Collected]]]) -> list[Row]:
    """Our collector against cryptofeed's, medians over the rounds."""
    return [row for what, collected in found.items() for row in _of_collectors(f"flood, {what}", collected)]


def _of_collectors(label: str, found: dict[str, list[Collected]]) -> list[Row]:
    def both(figure: Callable[[Collected], float]) -> tuple[float, float]:
        ours, theirs = (statistics.median(map(figure, found[name])) for name in ("house", "cryptofeed"))
        return ours, theirs

    return [
        Row(f"{label}: kept (other: cryptofeed)", "frames/s", *both(lambda one: one.frames_s)),
        _against(f"{label}: ingest", "CPU s / 1M frames", *both(lambda one: one.cpu_s), 1 / 20, "<= 1/20"),
        Row(f"{label}: ingest, peak RSS", "MiB", *both(lambda one: one.memory.rss / MIB)),
    ]


def of_pair(ours: Cost, other: Cost) -> list[Row]:
    """Our collector and another version's, at the same time; a tenth more is the most that a change may cost."""
    unit = "CPU s / 1M frames"
    return [
        _against("5,000/s, at the same time (other: version): ingest", unit, ours.ingest, other.ingest, 1.1, "<= 1.10"),
        _against("5,000/s, at the same time (other: version): redis", unit, ours.redis, other.redis),
    ]


def of_scans(scans: Scans) -> list[Row]:
    ratio = scans.parquet_s / scans.jsonl_s
    what = f"one-day scan, mid and spread (other: JSONL + {DECODER})"
    return [Row(what, "s", scans.parquet_s, scans.jsonl_s, ratio, "<= 1/50", ratio <= 1 / 50)]


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def shown(rows: Iterable[Row]) -> Table:
    """For the terminal."""
    table = Table("what", "unit", "house", "naive / other", "ratio", "goal", "met?")
    for row in rows:
        met = "" if row.met is None else "yes" if row.met else "NO"
        table.add_row(row.what, row.unit, *map(_text, (row.value, row.naive)), _ratio(row.ratio), row.goal, met)
    return table


def markdown(rows: Iterable[Row]) -> str:
    """For `docs/performance.md`."""
    lines = ["| what | unit | house | naive / other | ratio | goal | met |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        met = "" if row.met is None else "yes" if row.met else "**no**"
        cells = (row.what, row.unit, _text(row.value), _text(row.naive), _ratio(row.ratio), row.goal, met)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"1/{1 / ratio:.1f}" if ratio < 0.5 else f"{ratio:.2f}"


def as_json(rows: Iterable[Row], runs: Iterable[Run], machine: dict[str, str]) -> dict[str, object]:
    """Everything, for machines."""
    left_out = ("files", "latencies_ms")
    plain = [{name: value for name, value in asdict(run).items() if name not in left_out} for run in runs]
    return {"machine": machine, "rows": [asdict(row) for row in rows], "runs": plain}


def machine(redis_version: str) -> dict[str, str]:
    """What it ran on."""
    found = {"cores": str(os.cpu_count()), "python": platform.python_version(), "redis-server": redis_version}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
