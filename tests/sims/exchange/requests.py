"""Control messages: what a client may ask on a connection, and the exact error texts for what it may not.

Pure. Source: reference/binance-protocol.md section 1.4, which quotes the error table of the documentation and the
nested shape seen on the wire on 2026-08-29. Errors whose text is not documented are marked.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from tests.sims.exchange.names import is_possible

MAX_TEXT_BYTES = 4096
"""A longer message is neither answered nor executed (measured 2024-12: 4,088 bytes worked, the next did not)."""
MAX_STREAMS = 1024

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_EXPECTED = ", ".join(f"`{method}`" for method in METHODS)


@dataclass(frozen=True, slots=True)
class Request:
    """A control message that makes sense.

    Attributes:
        method: One of `METHODS`.
        id: What the reply carries: a number, a text or None (spot only).
        names: The streams of a (un)subscription.
        value: The new value of the property `combined`.
    """

    method: str
    id: int | str | None
    names: list[str] = field(default_factory=list)
    value: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error reply.

    Attributes:
        code, msg: As documented.
        id: The request's id; None where it could not be read.
        closes: Whether the connection is closed behind it.
    """

    code: int
    msg: str
    id: int | str | None = None
    closes: bool = False

    def to_text(self, *, flat: bool = False) -> str:
        """The reply: nested as seen on the wire, or flat as in the documentation."""
        error: dict[str, Any] = {"code": self.code, "msg": self.msg}
        return _compact(error | {"id": self.id} if flat else {"error": error, "id": self.id})


def result(value: object, request_id: int | str | None) -> str:
    """The reply to a request that was carried out."""
    return _compact({"result": value, "id": request_id})


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def parse(market: str, text: str) -> Request | Refusal:
    """Reads a control message as the market's servers do."""
    try:
        message = json.loads(text)
    except ValueError as error:
        line, column = (error.lineno, error.colno) if isinstance(error, json.JSONDecodeError) else (1, 1)
        return Refusal(3, f"Invalid JSON: expected value at line {line} column {column}")
    if not isinstance(message, dict):
        # Undocumented: the text of the JSON library that the other messages show.
        return Refusal(2, "Invalid request: invalid type, expected a map at line 1 column 1")
    if "method" not in message:
        return Refusal(2, f"Invalid request: missing field `method` at line 1 column {len(text)}")
    request_id = message.get("id")
    if not _is_id(market, message):
        return Refusal(2, "Invalid request: request ID must be an unsigned integer")
    method = message["method"]
    if method not in METHODS:
        end = re.search(r'"method"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\s]+)', text)
        column = end.end() if end else 1
        return Refusal(
            2,
            f"Invalid request: unknown variant {method}, expected one of {_EXPECTED} at line 1 column {column}",
            request_id,
        )
    params = message.get("params", [])
    if not isinstance(params, list):
        # Undocumented, as above.
        return Refusal(2, "Invalid request: invalid type, expected a sequence", request_id)
    if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        return _subscription(method, params, request_id)
    if method == "LIST_SUBSCRIPTIONS":
        return Refusal(2, "Invalid request: too many parameters", request_id) if params else Request(method, request_id)
    return _property(method, params, request_id)


def _is_id(market: str, message: dict[str, Any]) -> bool:
    if "id" not in message:
        return False
    value = message["id"]
    if market == "um":
        return type(value) is int and 0 <= value < 1 << 64
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 63
    return value is None or (isinstance(value, str) and len(value) <= 36 and value.isalnum())


def _subscription(method: str, params: list[Any], request_id: int | str | None) -> Request | Refusal:
    if not params:
        # Undocumented.
        return Refusal(2, "Invalid request: missing field `params`", request_id)
    if not all(isinstance(name, str) and is_possible(name) for name in params):
        return Refusal(2, "Invalid request: invalid stream", request_id, closes=True)
    return Request(method, request_id, names=params)


def _property(method: str, params: list[Any], request_id: int | str | None) -> Request | Refusal:
    allowed = 2 if method == "SET_PROPERTY" else 1
    if not params or not isinstance(params[0], str):
        return Refusal(2, "Invalid request: property name must be a string", request_id)
    if len(params) > allowed:
        return Refusal(2, "Invalid request: too many parameters", request_id)
    if params[0] != "combined":
        return Refusal(0, "Unknown property", request_id)
    if method == "GET_PROPERTY":
        return Request(method, request_id)
    if len(params) < allowed or not isinstance(params[1], bool):
        return Refusal(1, "Invalid value type: expected Boolean", request_id)
    return Request(method, request_id, value=params[1])
