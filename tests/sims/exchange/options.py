"""The command line of the simulated exchange."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from common.symbols import Wanted
from tests.sims.exchange.symbols import default_symbols

_ABOUT = """\
The simulated exchange: USD-M futures and spot market data over WebSocket, and a little REST, as Binance serves them.

It is fed by a seeded generator, or by recordings (--replay). When it listens it prints one JSON line on stdout:
  {"um_ws": "ws://127.0.0.1:9443", "spot_ws": "ws://127.0.0.1:9444", "http": "http://127.0.0.1:9080"}
"""
_EXAMPLES = """\
examples:
  two symbols at their real pace:
    python -m tests.sims.exchange --symbols BTCUSDT,ETHUSDT
  a recorder's bench: 500 symbols, 5,000 depth frames a second over TLS, or as fast as the socket takes them:
    python -m tests.sims.exchange --symbol-count 500 --tls-cert cert.pem --tls-key key.pem [--flood --no-record]
  real recordings, from the moment when 3 of their streams are subscribed:
    python -m tests.sims.exchange --replay um_a.gz um_b.gz --replay-window 0:60 --replay-wait 3

while it runs (JSON over HTTP on the http address):
  GET  /control/state                     connections, streams, the replay's state
  GET  /control/sent?market=um            streams with their counts of frames
  GET  /control/sent/um/btcusdt@aggTrade  24 bytes a frame, see README.md
  GET  /control/spans?market=um           when which connection was served with what
  POST /control/fault                     {"kind":"cut","how":"rst"}: see README.md for all faults
  POST /control/replay/start              begins a replay that waits

Time is the wall clock, moved by MASERVER_CLOCK_OFFSET_S (seconds). SIGTERM ends it with 0.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; see `--help`."""

    host: str = "127.0.0.1"
    um_ws_port: int = 9443
    spot_ws_port: int = 9444
    http_port: int = 9080
    tls_cert: Path | None = None
    tls_key: Path | None = None
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")
    quiet: frozenset[str] = frozenset()
    seed: int = 1
    rate: float = 1.0
    loop_books: int = 0
    changes: int = 1
    flood: bool = False
    no_record: bool = False
    replay: tuple[Path, ...] = ()
    replay_window_s: tuple[float, float] = (0.0, math.inf)
    replay_wait: int = 1
    ping_s: float | None = None
    pong_s: float | None = None
    same_pong: bool = False
    max_age_s: float = 86_400.0
    ban_s: float = 120.0
    acks: str = "mixed"
    flat_errors: bool = False
    max_buffer_mb: float = 64.0


def parse(arguments: list[str] | None = None) -> Options:
    """Reads the command line; ends the process with 2 and a message where it makes no sense."""
    parser = argparse.ArgumentParser(
        "python -m tests.sims.exchange",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_argument_group("where it listens (port 0: any free one)")
    where.add_argument("--host", default="127.0.0.1")
    where.add_argument("--um-ws-port", type=int, default=9443, metavar="PORT")
    where.add_argument("--spot-ws-port", type=int, default=9444, metavar="PORT")
    where.add_argument("--http-port", type=int, default=9080, metavar="PORT", help="REST of both markets and /control")
    where.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM; with --tls-key both are wss")
    where.add_argument("--tls-key", type=Path, metavar="FILE")
    made = parser.add_argument_group("what it generates")
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "--symbols", metavar="A,B", help="symbols of both markets; patterns count for nothing (default BTCUSDT,ETHUSDT)"
    )
    which.add_argument(
        "--symbol-count", type=int, metavar="N", help="the first N of a list that begins with real names"
    )
    made.add_argument("--quiet", default="", metavar="A,B", help="symbols in which almost nothing happens")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument(
        "--rate", type=float, default=1.0, metavar="X", help="X times the real pace (not of markPrice and bars)"
    )
    made.add_argument(
        "--loop-books", type=int, default=0, metavar="N", help="partial books begin anew after N slots, which is cheap"
    )
    made.add_argument(
        "--changes", type=int, default=1, metavar="N", help="N times as many levels change: 20 is like BTCUSDT"
    )
    made.add_argument("--flood", action="store_true", help="as fast as the slowest subscriber takes frames")
    made.add_argument("--no-record", action="store_true", help="keep no sent record (saves the hash, for benches)")
    replay = parser.add_argument_group("or what it replays")
    replay.add_argument(
        "--replay", type=Path, nargs="+", default=[], metavar="FILE", help="recordings, merged by time (um_*, spot_*)"
    )
    replay.add_argument(
        "--replay-window", default="", metavar="FROM_S:TO_S", help="only this part, in s from the first frame"
    )
    replay.add_argument(
        "--replay-wait", type=int, default=1, metavar="N", help="begin when N of its streams are subscribed"
    )
    rules = parser.add_argument_group("the rules of the exchange")
    rules.add_argument("--ping-s", type=float, metavar="S", help="server pings (default 180 um, 20 spot)")
    rules.add_argument(
        "--pong-s", type=float, metavar="S", help="cut without a pong for so long (default 600 um, 60 spot)"
    )
    rules.add_argument("--same-pong", action="store_true", help="a pong counts only with the ping's payload")
    rules.add_argument("--max-age-s", type=float, default=86_400.0, metavar="S", help="cut with 1001 at this age")
    rules.add_argument("--ban-s", type=float, default=120.0, metavar="S", help="refuse an IP after too many messages")
    rules.add_argument(
        "--acks", choices=("early", "late", "mixed"), default="mixed", help="before or behind the first data"
    )
    rules.add_argument(
        "--flat-errors", action="store_true", help="error replies as documented, not as seen on the wire"
    )
    rules.add_argument("--max-buffer-mb", type=float, default=64.0, metavar="MB", help="cut a client that lags by more")
    values = parser.parse_args(arguments)

    if (values.tls_cert is None) != (values.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    if values.changes < 1:
        parser.error("--changes must be at least 1")
    if values.loop_books < 0 or (values.loop_books and (values.quiet or values.changes > 1)):
        parser.error("--loop-books must not be below 0, and does not go with --quiet and --changes")
    if values.rate <= 0:
        parser.error("--rate must be above 0")
    if values.replay and (values.flood or values.rate != 1.0):
        parser.error("--replay keeps the recording's pace: --flood and --rate do not go with it")
    symbols = default_symbols(values.symbol_count) if values.symbol_count else _symbols(values.symbols or "")
    window = _window(parser, values.replay_window)
    taken = {name: value for name, value in vars(values).items() if name in Options.__dataclass_fields__}
    taken |= {
        "symbols": tuple(symbols),
        "quiet": frozenset(_names(values.quiet)),
        "replay": tuple(values.replay),
        "replay_window_s": window,
    }
    return Options(**taken)


def _symbols(text: str) -> list[str]:
    """The names in a setting `symbols`: what `all` and patterns take, the exchange must have anyway."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return [name.upper() for name in Wanted.read(entries).names] or ["BTCUSDT", "ETHUSDT"]


def _names(text: str) -> list[str]:
    return [name.strip().upper() for name in text.split(",") if name.strip()]


def _window(parser: argparse.ArgumentParser, text: str) -> tuple[float, float]:
    if not text:
        return 0.0, math.inf
    start, colon, end = text.partition(":")
    try:
        window = float(start or 0), float(end or math.inf)
    except ValueError:
        parser.error(f"--replay-window is {text!r}, and must be FROM_S:TO_S")
    if not colon or not 0 <= window[0] < window[1]:
        parser.error(f"--replay-window is {text!r}, and must be FROM_S:TO_S")
    return window
