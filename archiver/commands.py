"""What a person asks of the archive: `python -m archiver status` and `python -m archiver verify`. Both only read."""

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from common import config, ledger, tables
from common.config import ConfigError

COMMANDS = ("status", "verify")


def asked(argv: Sequence[str]) -> bool:
    """Whether the arguments name a command that ends, rather than the service."""
    return bool(argv) and argv[0] in COMMANDS


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        0 when all is well, 1 when `verify` found something, 2 for a bad configuration.
    """
    flags = _parser().parse_args(argv)
    try:
        data = flags.data or config.load(flags.config).data_dir
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if not data.is_dir():
        print(
            f"there is no data folder {data}: nothing was recorded yet, or MASERVER_DATA_DIR names another",
            file=sys.stderr,
        )
        return 2
    return _status(data) if flags.command == "status" else _verify(data, flags.date)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m archiver", description="Looks at the archive; changes nothing. Safe while everything runs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser(
        "status",
        help="what is recorded: first and last minute, frames, expected, missing, bytes",
        description="A table of what is recorded, per market, channel and symbol. Reads the files' directories alone.",
    )
    verify = commands.add_parser(
        "verify",
        help="read everything back and say what does not hold",
        description="Reads every file back: damaged zips, Parquet that differs from raw, frames twice or in the wrong "
        "minute, holes without a row in the ledger. Ends with 1 when something does not hold.",
    )
    verify.add_argument("--date", type=_day, metavar="YYYY-MM-DD", help="only this day (UTC)")
    for command in (status, verify):
        command.add_argument("--config", type=Path, metavar="DIR", help="folder of settings.yaml (default: config)")
        command.add_argument("--data", type=Path, metavar="DIR", help="the data folder (default: the setting data_dir)")
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day of the calendar, written as 2026-11-29") from error


def _status(data: Path) -> int:
    from archiver import status

    tables.show(status.render(status.collect(data)))
    return 0


def _verify(data: Path, day: date | None) -> int:
    from archiver.verify import verify

    with Progress(console=Console(stderr=True)) as progress:
        problems = verify(data, day, rows=ledger.read(data), progress=progress)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems" if problems else "everything holds")
    return 1 if problems else 0
