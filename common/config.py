"""Reads the settings: `settings.yaml` in the config folder, and `MASERVER_*` in the environment over it.

Every problem is found before anything starts, all of them in one message, each with its place and what to do.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from common import config_rules as rules
from common import yaml_file
from common.settings import ArchiverSettings, GateSettings, IngestSettings, LogSettings, Settings, from_path

__all__ = [
    "ArchiverSettings",
    "ConfigError",
    "GateSettings",
    "IngestSettings",
    "LogSettings",
    "Settings",
    "load",
    "variables",
]

FILE = "settings.yaml"
PREFIX = "MASERVER_"

NO_SETTINGS = ("MASERVER_CONFIG_DIR", "MASERVER_UID", "MASERVER_GID", "MASERVER_CLOCK_OFFSET_S")
"""Variables with a meaning that are no settings: the config folder, the user in Compose, the clock of the tests."""
TEST_PREFIX = "MASERVER_TEST_"


class ConfigError(Exception):
    """The configuration is wrong; the message has one line for each problem."""


@dataclass
class _Reading:
    """What was read so far: dotted key to value, where each value came from, and what is wrong."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, key: str, place: str, value: Any) -> None:
        """Takes a value that passes the rules of its key; notes the problem of one that does not."""
        try:
            self.values[key] = rules.convert(FIELDS[key], value)
            self.places[key] = place
        except rules.BadValue as problem:
            self.problems.append(f"{place}: {problem}")


def load(config_dir: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the house.

    Args:
        config_dir: The folder of `settings.yaml`; None takes MASERVER_CONFIG_DIR, else `config`.
        environ: The environment; None takes the process's own.

    Raises:
        ConfigError: Anything is unknown, of the wrong type, out of bounds or contradictory.
    """
    environ = os.environ if environ is None else environ
    folder = config_dir or Path(environ.get("MASERVER_CONFIG_DIR") or "config")
    reading = _Reading()
    _read_file(folder / FILE, reading)
    _read_environment(environ, reading)
    if not reading.problems:
        settings = _build(reading.values)
        reading.problems += [
            f"{reading.places.get(key, 'the defaults: ' + key)}: {what}" for key, what in rules.contradictions(settings)
        ]
    if reading.problems:
        raise ConfigError("\n".join(reading.problems))
    return settings


def variables() -> dict[str, str]:
    """Environment variable to dotted key: `MASERVER_INGEST__FLUSH_MS` to `ingest.flush_ms`."""
    return {variable(key): key for key in FIELDS}


def variable(key: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + key.replace(".", "__").upper()


def _fields(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    for info in msgspec.structs.fields(struct):
        if isinstance(info.type, type) and issubclass(info.type, msgspec.Struct):
            yield from _fields(info.type, f"{info.name}.")
        else:
            yield prefix + info.name, info


FIELDS: dict[str, msgspec.structs.FieldInfo] = dict(_fields(Settings))
"""Dotted key to its field."""

_SECTIONS = {key.partition(".")[0] for key in FIELDS if "." in key}


def _read_file(path: Path, reading: _Reading) -> None:
    try:
        file = yaml_file.read(path)
    except yaml_file.YamlFileError as problem:
        reading.problems.append(str(problem))
        return
    reading.problems += [f"{path}:{line}: {what}" for line, what in file.problems]
    for key, value in _flat(file.values):
        place = f"{path}:{file.lines[key]}: {key}"
        if key in _SECTIONS:
            if value is not None:  # a section with all its keys commented out
                reading.problems.append(f"{place}: expected a section of keys, got {rules.show(value)}")
        elif key not in FIELDS:
            near = rules.nearest(key, [*FIELDS, *_SECTIONS])
            reading.problems.append(f"{place}: unknown setting{near}")
        else:
            reading.take(key, place, value)


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and name in _SECTIONS:
            yield from ((f"{name}.{inner}", inner_value) for inner, inner_value in value.items())
        else:
            yield name, value


def _read_environment(environ: Mapping[str, str], reading: _Reading) -> None:
    known = variables()
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NO_SETTINGS or name.startswith(TEST_PREFIX):
            continue
        place = f"environment: {name}"
        if name not in known:
            reading.problems.append(f"{place}: unknown variable{rules.nearest(name, [*known, *NO_SETTINGS])}")
        elif not environ[name].strip():
            reading.problems.append(f"{place}: is set but empty; unset it or give it a value")
        else:
            key = known[name]
            reading.take(key, place, rules.from_text(FIELDS[key], environ[name].strip()))


def _build(values: Mapping[str, Any]) -> Settings:
    tree: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (sections[section] if section else tree)[name] = value
    return msgspec.convert(tree | sections, Settings, dec_hook=from_path)
