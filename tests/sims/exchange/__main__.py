"""Runs the simulated exchange: `python -m tests.sims.exchange --help`."""

import asyncio
import gc
import json
import logging
import signal
import ssl
import sys
from contextlib import suppress

import uvloop
from aiohttp import web

from tests.sims.exchange import options as command_line
from tests.sims.exchange.board import Board
from tests.sims.exchange.clocks import Clocks
from tests.sims.exchange.conditions import Conditions
from tests.sims.exchange.control import Control
from tests.sims.exchange.faults import Faults
from tests.sims.exchange.options import Options
from tests.sims.exchange.pacing import Generator
from tests.sims.exchange.recording import UnreadableRecordingError, read_all
from tests.sims.exchange.replay import Player
from tests.sims.exchange.rest import Rest
from tests.sims.exchange.server import Server


def main() -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    options = command_line.parse()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        frames = read_all(options.replay, options.replay_window_s) if options.replay else []
        tls = _tls(options)
    except (UnreadableRecordingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # Frames are made and dropped without cycles: a full collection over all books would only delay them.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        clocks = Clocks()
        uvloop.run(_run(options, clocks, Player(frames, clocks, options.replay_wait) if frames else None, tls))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _tls(options: Options) -> ssl.SSLContext | None:
    if options.tls_cert is None or options.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.tls_cert, options.tls_key)
    return context


async def _run(options: Options, clocks: Clocks, player: Player | None, tls: ssl.SSLContext | None) -> None:
    board = Board(options.symbols)
    generator = Generator(
        board,
        clocks,
        seed=options.seed,
        rate=options.rate,
        quiet=options.quiet,
        loop=options.loop_books,
        changes=options.changes,
    )
    server = Server(options, player.find if player else generator.find)
    server.flows = board.flows

    def follow(market: str) -> None:
        generator.follow(market)
        server.review(market)

    board.on_change = follow
    if player:
        server.on_subscribed = lambda: player.note_subscriptions(server.streams)
    wanted = {"um": options.um_ws_port, "spot": options.spot_ws_port}
    for market, port in wanted.items():
        await server.listen(market, port, tls)

    async def listen_again(market: str) -> None:
        await server.listen(market, server.ports[market], tls)

    rest = Rest(board, clocks, generator.snapshot)
    faults = Faults(server, rest, clocks, Conditions(server, rest, board, clocks), listen_again)
    app = web.Application(client_max_size=64 * 1_048_576, middlewares=[rest.delayed])
    app.add_routes(Control(server, faults, player).routes())
    app.add_routes(rest.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.http_port)
    await site.start()

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    scheme = "wss" if tls else "ws"
    addresses = {f"{market}_ws": f"{scheme}://{options.host}:{port}" for market, port in server.ports.items()}
    addresses["http"] = f"http://{options.host}:{runner.addresses[0][1]}"
    print(json.dumps(addresses), flush=True)

    if player:
        source = player.run(server.streams, server.flush)
    elif options.flood:
        source = generator.flood(server.flush, server.writable)
    else:
        source = generator.run(server.flush)
    tasks = [asyncio.create_task(source), asyncio.create_task(server.keep_alive())]
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait([stopped, tasks[1]] if player else [stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    server.shut()
    await asyncio.sleep(0.05)
    await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
