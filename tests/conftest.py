"""What all tests share: lengths, and what the long runs report."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import settings

from common.clock import iso, now_ns

settings.register_profile("house", deadline=None)  # the machine is shared: an example's time says nothing
settings.load_profile("house")

LENGTH = float(os.environ.get("MASERVER_TEST_LENGTH", "1"))
"""How many times as long as in `make test` the simulations run; `make soak` sets it."""


class Tell(Protocol):
    """Notes figures of a run, for the table that `make soak` writes."""

    def __call__(self, **facts: object) -> None: ...


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    def note(**facts: object) -> None:
        request.node.user_properties.extend(facts.items())

    return note


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile` (make test and make soak), `tests.schedule`."""
    if config.option.dist != "loadfile":
        return None
    from tests import schedule

    return schedule.of(config, log)


_LASTING = ("test_redis_stopped_for_a_while", "test_rotation_all_the_time", "test_two_collectors_cut_out_of_phase")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """At full length those come first that last ten minutes and more, or all others would wait for them at the end."""
    if LENGTH > 1:
        items.sort(key=lambda item: not item.name.startswith(_LASTING))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", type=Path, metavar="FILE", help="write a table of what the simulations showed")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Writes the table of the simulations, where it was asked for."""
    path: Path | None = config.getoption("--reliability")
    if path is None:
        return
    rows = list(_rows(terminalreporter))
    text = f"""# Reliability

What `make soak` showed on {iso(now_ns())[:10]}: each simulation of `tests/sims`, {LENGTH:g} times as long as in
`make test`, with real processes, a real Redis and the simulated exchange, compared frame by frame and byte by byte with
what the exchange says it sent. *Missing* are frames that were sent and are not archived: where the collector is killed,
or Redis is away for longer than the hold lasts, there are some, and each lies in a row of the ledger with its cause.
The *rows* count the stop at each simulation's end too.

| simulation | outcome | seconds | figures |
|---|---|---|---|
""" + "".join(rows)
    path.write_text(text)
    terminalreporter.write_line(f"wrote {path}")


def _rows(terminalreporter: Any) -> Iterator[str]:
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "call" and "tests/sims/" in report.nodeid:
                name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
                facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in report.user_properties)
                yield f"| {name} | {outcome} | {report.duration:.0f} | {facts} |\n"
