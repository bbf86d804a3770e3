"""How a log record is written: one JSON object a line for programs, one short line for people."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
"""What each record has; anything else was given as `extra`."""


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that the call gave as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def exception_text(record: logging.LogRecord) -> str | None:
    """The record's traceback as text, or None."""
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return record.exc_text


class JsonFormatter(logging.Formatter):
    """`{"time","level","service","logger","message", extras..., "exception"}`; time is UTC, ISO-8601, in ms."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        fixed = {
            "time": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = fixed | {name: value for name, value in extras(record).items() if name not in fixed}
        if exception := exception_text(record):
            line["exception"] = exception
        return json.dumps(line, ensure_ascii=False, default=str)


class PeopleFormatter(logging.Formatter):
    """`03:27:41 WARNING ingest.session: message  key=value`, the time in UTC; colours by level."""

    _COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}  # noqa: RUF012 - a constant

    def format(self, record: logging.LogRecord) -> str:
        given = "".join(f"  {name}={value}" for name, value in extras(record).items())
        at = datetime.fromtimestamp(record.created, UTC)
        colour = self._COLOURS.get(record.levelname, "0")
        text = f"{at:%H:%M:%S} \x1b[{colour}m{record.levelname:<7}\x1b[0m {record.name}: {record.getMessage()}{given}"
        exception = exception_text(record)
        return f"{text}\n{exception}" if exception else text
