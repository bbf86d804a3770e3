"""What is asked of the exchange, and how."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from common.streams import Stream
from ingest import control
from ingest.control import MESSAGE_BYTES, NAMES_PER_MESSAGE, Control


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PAUSE_S", 0.0)


def sent_by(ask: Any) -> tuple[Control, list[dict[str, Any]]]:
    """Runs a control until all is sent that `ask` asks of it; gives the messages."""
    sent: list[bytes] = []

    async def run() -> Control:
        made = Control(sent.append)
        ask(made)
        running = asyncio.create_task(made.run())
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not made._waiting
        running.cancel()
        return made

    made = asyncio.run(_within(run()))
    assert all(len(text) <= MESSAGE_BYTES for text in sent)
    return made, [msgspec.json.decode(text) for text in sent]


async def _within(work: Coroutine[Any, Any, Control]) -> Control:
    async with asyncio.timeout(10):
        return await work


def test_messages_are_small_enough_to_be_answered() -> None:
    """Each message has at most 100 names and 4,000 bytes, non-ASCII symbols included, and together they name all."""
    names = [f"1000000VERYLONG{n}USDT" for n in range(500)] + ["测试USDT"]
    streams = [Stream("um", "depth20", symbol) for symbol in names]
    _, messages = sent_by(lambda made: made.ask("SUBSCRIBE", streams))
    assert all(len(message["params"]) <= NAMES_PER_MESSAGE for message in messages)
    assert [message["id"] for message in messages] == list(range(1, len(messages) + 1))
    assert [name for message in messages for name in message["params"]] == [each.exchange_name for each in streams]


def test_what_is_asked_one_after_the_other_is_put_together() -> None:
    """Names of one method that wait share a message, each once; order between methods is kept."""
    one, two = Stream("um", "depth20", "BTCUSDT"), Stream("um", "depth20", "ETHUSDT")

    def ask(made: Control) -> None:
        made.ask("SUBSCRIBE", [one])
        made.ask("SUBSCRIBE", [two, one])
        made.ask("UNSUBSCRIBE", [one])
        made.ask("LIST_SUBSCRIPTIONS")
        made.ask("SUBSCRIBE", [one])

    made, messages = sent_by(ask)
    assert [(message["method"], len(message.get("params", []))) for message in messages] == [
        ("SUBSCRIBE", 2), ("UNSUBSCRIBE", 1), ("LIST_SUBSCRIPTIONS", 0), ("SUBSCRIBE", 1),
    ]  # fmt: skip
    assert not made.is_done


def test_nothing_to_ask_is_no_end() -> None:
    """Asking for no streams at all sends nothing, and what is asked later is still sent."""

    async def run() -> list[bytes]:
        sent: list[bytes] = []
        made = Control(sent.append)
        running = asyncio.create_task(made.run())
        for streams in ([], [], [Stream("um", "depth20", "BTCUSDT")]):
            made.ask("SUBSCRIBE", streams)
            for _ in range(10):
                await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        return sent

    assert len(asyncio.run(run())) == 1


def test_an_answer_finds_its_request_once() -> None:
    """Replies are matched by their id; a stranger's, or a second one, answers nothing."""
    made, _ = sent_by(lambda made: made.ask("SUBSCRIBE", [Stream("um", "depth20", "BTCUSDT")]))
    assert made.answered({"result": None, "id": 7}) is None
    assert made.answered({"result": None, "id": None}) is None
    request = made.answered({"result": None, "id": 1})
    assert request is not None
    assert [stream.symbol for stream in request.streams] == ["BTCUSDT"]
    assert made.answered({"result": None, "id": 1}) is None
    assert made.is_done


def test_what_is_never_answered_is_overdue() -> None:
    """After ten seconds without an answer the connection is not to be trusted."""
    made, _ = sent_by(lambda made: made.ask("SUBSCRIBE", [Stream("um", "depth20", "BTCUSDT")]))
    (request,) = made._unanswered.values()
    assert made.overdue(request.sent_s + 9.9) == []
    assert made.overdue(request.sent_s + 10.1) == [request]
