"""What a person asks of the gate: `python -m gate status`. It only reads."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from common import config, tables
from common.clock import now_ns
from common.config import ConfigError
from common.wire import LinkLost, ReplyError
from gate import status

LAST_EVENTS = 20

COMMANDS = ("status",)


def asked(argv: Sequence[str]) -> bool:
    """Whether the arguments name a command that ends, rather than the service."""
    return bool(argv) and argv[0] in COMMANDS


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        0 when it was shown, 1 when Redis does not tell, 2 for a bad configuration.
    """
    flags = _parser().parse_args(argv)
    try:
        settings = config.load(flags.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        seen = asyncio.run(status.look(settings.redis_url, flags.events))
    except (LinkLost, ReplyError, ValueError) as error:
        print(f"the gate's state cannot be read: {error}", file=sys.stderr)
        return 1
    tables.show(status.render(seen, now_ns(), settings.gate.silent_after_s))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gate", description="Looks at the gate; changes nothing.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "status",
        help="medians, clocks, flags, thresholds, and the last decisions",
        description="Tables of what the gate measures and thinks, and of its last decisions. Ends with 1 when Redis is "
        "away.",
    )
    command.add_argument("--config", type=Path, metavar="DIR", help="folder of settings.yaml (default: config)")
    command.add_argument(
        "--events", type=int, default=LAST_EVENTS, metavar="N", help=f"how many decisions (default: {LAST_EVENTS})"
    )
    return parser
