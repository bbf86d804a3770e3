"""Asks a service's `/healthz` from inside its container: `python -m common.healthcheck PORT` exits 0 when it is well.

Speaks HTTP over a bare socket: Docker runs this every few seconds, and an HTTP library costs more to import than to
use.
"""

import socket
import sys

_USAGE = "usage: python -m common.healthcheck PORT"
_TIMEOUT_S = 4.0


def check(port: int) -> tuple[bool, str]:
    """Whether the service on this machine's port answers 200, and what it said."""
    try:
        with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError as error:
        return False, f"port {port}: {error}"
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b" ", 2)[1:2] == [b"200"], body.decode(errors="replace").strip()


def main() -> None:
    """Prints the service's answer; exits 0 when it is well, 1 when not, 2 without a port."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        print(_USAGE, file=sys.stderr)
        sys.exit(2)
    is_well, said = check(int(sys.argv[1]))
    print(said)
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
