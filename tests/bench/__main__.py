"""`make bench`: the house beside the naive pipeline, on the simulated exchange's frames over TLS, in turns.

Figures are to be compared within one run only: the machine's noise hits both, because they take
turns. Nothing here passes or fails.
"""

import argparse
import json
import shutil
import tempfile
from functools import partial
from pathlib import Path

import trustme
from rich.console import Console

from tests.bench import beside, collectors, scans, sizes, sustained, table
from tests.bench.chains import CHAINS, Run, run, symbols
from tests.redis_server import RedisServer

PACED_S = 112.0
"""Two minutes, which begin some seconds before: a file is written once a minute and symbol, as it is day and night."""
FLOOD_S = 12.0
ROUNDS = 2
PARTS = ("paced", "flood", "scan")


def main() -> None:
    flags = _flags()
    console = Console(width=150)
    folder = Path(tempfile.mkdtemp(prefix="maserver-bench-"))
    rows: list[table.Row] = []
    runs: list[Run] = []
    try:
        tls = _certificate(folder)
        for number in range(flags.rounds):
            for mode in [part for part in flags.only if part != "scan"]:
                for name in CHAINS:
                    where = folder / f"{mode}-{name}-{number}"
                    title = f"{mode}, {name}, round {number + 1} of {flags.rounds}"
                    seconds = flags.seconds if mode == "paced" else min(flags.seconds, FLOOD_S)
                    done = run(name, mode, seconds, where, tls, partial(_say, console, title))
                    runs.append(done)
                    if (mode, name, number) == ("paced", "house", 0):
                        rows += table.of_sizes(sizes.measure(done.files, done.minute, symbols()[::10]))
                    shutil.rmtree(where)
        rows = table.of_runs(runs) + rows
        if flags.sustained is not None:
            say = partial(_say, console, "sustained")
            rows += table.of_sustained(sustained.measure(folder / "sustained", tls, flags.sustained, say))
        if flags.cryptofeed is not None:
            say = partial(_say, console, "collectors alone, flood")
            rows += table.of_collectors(
                collectors.measure(folder / "collectors", tls, flags.cryptofeed, flags.rounds, say)
            )
        if flags.beside is not None:
            say = partial(_say, console, "collectors at the same time")
            rows += table.of_pair(*beside.measure(folder / "beside", tls, flags.beside.resolve(), flags.rounds, say))
        if "scan" in flags.only:
            console.log("one-day scan: making the day")
            rows += table.of_scans(scans.measure(folder / "scan"))
        with RedisServer(folder / "version") as redis, redis.client() as client:
            machine = table.machine(client.info("server")["redis_version"])
    finally:
        shutil.rmtree(folder)
    console.print(table.shown(rows))
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if flags.json:
        flags.json.write_text(json.dumps(table.as_json(rows, runs, machine), indent=1) + "\n")
    if flags.markdown:
        flags.markdown.write_text(table.markdown(rows) + "\n")


def _say(console: Console, title: str, step: str) -> None:
    console.log(f"{title}: {step}")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=PACED_S, metavar="S", help="how long frames come (flood: 12 at most)"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="turns of each chain (default 2)")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="these parts (default: all)")
    parser.add_argument(
        "--sustained",
        type=float,
        nargs="?",
        const=sustained.SECONDS,
        metavar="S",
        help="also 40,000 frames/s for ten minutes, or S seconds",
    )
    parser.add_argument(
        "--cryptofeed",
        type=Path,
        metavar="PYTHON",
        help="also cryptofeed's collector beside ours; an interpreter that has it: python3.13 -m venv /tmp/cf, "
        "/tmp/cf/bin/pip install cryptofeed==3.0.1 redis, then --cryptofeed /tmp/cf/bin/python",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="TREE",
        help="also the collector of another checkout, at the same time as ours: what a change costs",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table of docs/performance.md there")
    return parser.parse_args()


def _certificate(folder: Path) -> dict[str, Path]:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1", "localhost")
    paths = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    own.private_key_pem.write_to_path(paths["key"])
    for pem in own.cert_chain_pems:
        pem.write_to_path(paths["cert"], append=True)
    return paths


if __name__ == "__main__":
    main()
