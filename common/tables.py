"""Tables for people."""

from rich.console import Console, RenderableType
from rich.measure import Measurement

_WIDEST = 10_000


def show(shown: RenderableType) -> None:
    """Prints tables as wide as they are, because one that is cut says nothing: a narrow terminal wraps their lines."""
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), shown).maximum
    Console(width=max(console.width, needed)).print(shown)
