"""What is asked of the workers, and what they say of it: a minute to write, and what became of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from archiver import derived
from common.locks import stripe
from common.paths import Minute


@dataclass(frozen=True, slots=True)
class Job:
    """A minute to write, and the staged files that hold its lines (`common.frame.to_staged_line`, each with `\\n`).

    Attributes:
        grows: Whether it is a part: a job with the rest will come, and the Parquet file is made then.
    """

    minute: Minute
    staged: tuple[Path, ...]
    grows: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a job.

    Attributes:
        minute: The job's minute.
        rows: Frames in the minute's raw file now.
        staged_rows: Frames that the job brought.
        doubled: Frames, staged or archived, that were dropped because an equal one is kept.
        mismatched: Frames in the file that share connection and counter, but not the payload, with another.
        changed: Whether a file was written.
        raw_bytes: Size of the raw file.
        parquet_bytes: Size of the Parquet file; 0 where the channel has none, or none yet.
        rejected: Frames that Parquet cannot hold.
        corrupt: Where a damaged raw file was set aside.
    """

    minute: Minute
    rows: int
    staged_rows: int
    doubled: int
    mismatched: int
    changed: bool
    raw_bytes: int
    parquet_bytes: int
    rejected: derived.Rejected | None = None
    corrupt: Path | None = None


def share(jobs: Iterable[Job], workers: int) -> list[list[Job]]:
    """Splits jobs among workers so that two of them never wait for the same lock (but around midnight)."""
    shares: list[list[Job]] = [[] for _ in range(workers)]
    for job in jobs:
        shares[stripe(job.minute.stream, job.minute.day) % workers].append(job)
    return [each for each in shares if each]
