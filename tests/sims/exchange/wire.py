"""WebSocket frames of a server as bytes (RFC 6455 section 5.2: no mask), so that many go out in one write."""

TEXT = 0x81
BINARY = 0x82
CLOSE = 0x88
PING = 0x89
PONG = 0x8A

_LONG_TEXT = b"\x81\x7e"


def text_frame(payload: bytes) -> bytes:
    """A whole text frame."""
    size = len(payload)
    if 125 < size < 65_536:
        return _LONG_TEXT + size.to_bytes(2, "big") + payload
    return frame(TEXT, payload)


def frame(first_byte: int, payload: bytes) -> bytes:
    """A whole frame with this first byte: the FIN bit and the opcode."""
    size = len(payload)
    if size < 126:
        return bytes((first_byte, size)) + payload
    if size < 65_536:
        return bytes((first_byte, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first_byte, 127)) + size.to_bytes(8, "big") + payload


def close_frame(code: int, reason: str) -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode())
