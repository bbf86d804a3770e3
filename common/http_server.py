"""Serves `/metrics` and `/healthz` from a thread of its own, so that both answer while the event loop is stuck."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from common.health import Health

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class PortError(Exception):
    """The address cannot be listened on; the message says why."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # as http.server, without its reverse look-up of the host's name, which may take seconds
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _QuietRequest(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: a scrape every few seconds is no news."""


def start(host: str, port: int, registry: CollectorRegistry, health: Health) -> int:
    """Serves until the process ends.

    Returns:
        The port, which differs from the one asked for where that is 0.

    Raises:
        PortError: The port is taken, or the host is not this machine's.
    """
    try:
        server = _Server((host, port), _QuietRequest)
    except OSError as error:
        raise PortError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    server.set_app(_application(registry, health))
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server.server_port


def _application(registry: CollectorRegistry, health: Health) -> Application:
    metrics: Application = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path == "/healthz":
            status, body = _healthz(health)
        else:
            status, body = "404 Not Found", {"paths": ["/metrics", "/healthz"]}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body, ensure_ascii=False).encode() + b"\n"]

    return answer


def _healthz(health: Health) -> tuple[str, dict[str, Any]]:
    ages = health.ages()
    reasons = [f"{age.what}: {age.age_s:.1f} s old, the limit is {age.limit_s:g} s" for age in ages if age.is_stale]
    body = {"status": "stale" if reasons else "ok", "reasons": reasons, "watched": len(ages)}
    return ("503 Service Unavailable" if reasons else "200 OK"), body
