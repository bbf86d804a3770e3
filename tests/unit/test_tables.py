"""Tables are shown whole."""

import pytest
from rich.console import Group
from rich.table import Table

from common import tables


def _table(cells: int, width: int) -> Table:
    table = Table(title="A title")
    for _ in range(cells):
        table.add_column("heading", no_wrap=True)
    table.add_row(*["x" * width] * cells)
    return table


@pytest.mark.parametrize("columns", ["60", "200"])
def test_nothing_is_cut(columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """However narrow the terminal, and however wide one of several tables."""
    monkeypatch.setenv("COLUMNS", columns)
    tables.show(Group(_table(2, 5), "some words", _table(11, 30)))
    shown = capsys.readouterr().out
    assert shown.count("x" * 30) == 11
    assert "…" not in shown
