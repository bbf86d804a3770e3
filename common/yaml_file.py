"""Reads a YAML file of sections and keys, and knows the line of each key, so that an error can point at it.

Stricter than YAML: a key that stands twice is an error (YAML would keep the last one and say nothing).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_BARE_PATTERN = re.compile(r"^[^#\n]*[\[,-]\s*[*!]", re.MULTILINE)


class YamlFileError(Exception):
    """The file cannot be read; the message says where and why."""


@dataclass
class YamlFile:
    """A file's content.

    Attributes:
        values: Key to value; a section is a nested mapping.
        lines: Dotted key (`ingest.flush_ms`) to its line, from 1.
        problems: (line, what) of each key that stands twice.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)


def read(path: Path) -> YamlFile:
    """Reads the file.

    Raises:
        YamlFileError: No such file, no permission, no UTF-8, no YAML, or no mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        top = loader.get_single_node()
        found = YamlFile()
        if top is None:
            return found
        if not isinstance(top, yaml.MappingNode):
            raise YamlFileError(f"{path}: expected keys with values, as in `symbols: [BTCUSDT]`, at the top")
        found.values = _mapping(loader, top, "", found)
        return found
    except FileNotFoundError:
        raise YamlFileError(
            f"{path}: no such file; name the folder that holds it with --config DIR or MASERVER_CONFIG_DIR"
        ) from None
    except OSError as error:
        raise YamlFileError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise YamlFileError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}: column {mark.column + 1}" if mark else ""
        raise YamlFileError(f"{path}{at}: bad YAML: {error.problem or error.context}{_hint(text)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise YamlFileError(f"{path}: bad YAML: {str(error).splitlines()[0]}") from None


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, prefix: str, found: YamlFile) -> dict[str, Any]:
    """One level of keys; sections are one level deep, so a file that refers to itself ends here too."""
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        # the text as written: YAML 1.1 would read a key `on` as true
        name = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
        key, line = prefix + name, key_node.start_mark.line + 1
        if name in values:
            found.problems.append(
                (line, f"{key}: stands twice (first on line {found.lines[key]}); remove one of the two")
            )
            continue
        found.lines[key] = line
        if isinstance(value_node, yaml.MappingNode) and not prefix:
            values[name] = _mapping(loader, value_node, f"{name}.", found)
        else:
            values[name] = loader.construct_object(value_node, deep=True)
    return values


def _hint(text: str) -> str:
    """Patterns of symbols begin with what means something else in YAML: `*` refers to an alias, `!` names a type."""
    return '; put a pattern into quotes, as in "*USDT"' if _BARE_PATTERN.search(text) else ""
