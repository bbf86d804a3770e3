"""A connection whose peer is a socket of the test's own, which says when a reset arrives."""

import asyncio
import base64
import email
import hashlib
import socket
import ssl
import struct
import threading
from pathlib import Path

import pytest
import trustme
import uvloop
from websockets.asyncio.server import ServerConnection, serve

from ingest.connection import Connection, connect

_LINGER_ZERO = struct.pack("ii", 1, 0)
_CLOSE = 0x88
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Peer(threading.Thread):
    """An exchange with one client: answers the handshake; when told, sends messages and resets right behind them.

    Args:
        tls: Its own side; None for a bare socket.
        closes: Whether it answers a close frame before, and no ping.
    """

    def __init__(self, tls: ssl.SSLContext | None, *, closes: bool = False) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._tls = tls
        self._closes = closes
        self.url = f"{'wss' if tls else 'ws'}://localhost:{self._listener.getsockname()[1]}/stream"
        self.now = threading.Event()
        self.messages: list[bytes] = []

    def run(self) -> None:
        raw, _ = self._listener.accept()
        self._listener.close()
        client = self._tls.wrap_socket(raw, server_side=True) if self._tls else raw
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += client.recv(4096)
        headers = email.message_from_bytes(asked.split(b"\r\n", 1)[1])
        accept = base64.b64encode(hashlib.sha1(headers["Sec-WebSocket-Key"].encode() + _GUID).digest())
        client.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )
        if self._closes:
            while client.recv(4096)[0] != _CLOSE:
                continue
            client.sendall(bytes((_CLOSE, 2)) + struct.pack("!H", 1001))
        self.now.wait()
        client.sendall(b"".join(b"\x81\x7e" + struct.pack("!H", len(message)) + message for message in self.messages))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        client.close()


def _contexts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("count", [1, 250])
def test_a_reset_right_behind_data_is_noticed(
    is_tls: bool, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that came before it is received, and the connection is known to be gone at the next looks."""
    peer = Peer(_contexts(tmp_path, monkeypatch) if is_tls else None)
    peer.messages = [b"%06d" % number + bytes(200) for number in range(count)]
    received: list[bytes] = []

    async def story() -> Connection:
        connection = await connect(
            peer.url, lambda _, message: received.append(message), timeout_s=5, idle_ping_s=60, max_frame_bytes=1 << 20
        )
        peer.now.set()
        peer.join(10)  # the loop stands still meanwhile: it finds data and reset together
        for _ in range(100):
            await asyncio.sleep(0.01)
            connection.look()
        return connection

    peer.start()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        connection = runner.run(story())
    assert received == peer.messages
    assert connection.closed.done()
    assert connection.closed.result() == "the connection was lost without a close frame"


@pytest.mark.parametrize("who_asks", ["exchange", "collector"])
def test_pings_and_pongs_are_a_sign_of_life(who_asks: str) -> None:
    """Of a connection whose streams are all silent, the only one, and no message; and the exchange gets its pong."""
    answered: list[float] = []

    async def peer(client: ServerConnection) -> None:
        if who_asks == "exchange":
            await asyncio.sleep(0.1)
            answered.append(await (await client.ping(b"1700000000000")))
        await client.wait_closed()

    async def story() -> tuple[int, int]:
        async with serve(peer, "127.0.0.1", 0, ping_interval=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            idle_ping_s = 60.0 if who_asks == "exchange" else 0.1
            connection = await connect(
                f"ws://127.0.0.1:{port}/",
                lambda *_: None,
                timeout_s=5,
                idle_ping_s=idle_ping_s,
                max_frame_bytes=1 << 20,
            )
            began_ns = connection.heard_ns
            await asyncio.sleep(0.5)
            assert connection.heard_ns == began_ns
            alive_ns = connection.alive_ns
            connection.close("enough")
        return began_ns, alive_ns

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        began_ns, alive_ns = runner.run(story())
    assert alive_ns - began_ns >= 90_000_000
    assert len(answered) == (who_asks == "exchange")


@pytest.mark.parametrize("closes", [False, True])
def test_a_peer_that_answers_no_ping_is_named(closes: bool) -> None:
    """Its silence is the reason, not the close frame that picows sends it and that may come back."""
    peer = Peer(None, closes=closes)

    async def story() -> str:
        connection = await connect(peer.url, lambda *_: None, timeout_s=5, idle_ping_s=0.2, max_frame_bytes=1 << 20)
        async with asyncio.timeout(5):
            return await connection.closed

    peer.start()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reason = runner.run(story())
    peer.now.set()
    assert reason == "a ping was not answered within 0.2 s"
