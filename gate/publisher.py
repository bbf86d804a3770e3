"""What the gate says, kept until Redis took it: decisions, its sign of life, and the table of its numbers.

Redis may be away or full. A decision's state is written before its event, and the sign of life after both, so who reads
an event finds the state, and nobody believes a gate whose state is not there. After a lost connection an event may
stand twice; time and symbol tell.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from common.gate import BEAT, EVENTS_KEPT, STATE, TABLE, Decision, Start, Table, pack_event, pack_state
from common.wire import Link, ReplyError, pack

TIMEOUT_S = 5.0
AT_ONCE = 500


class Publisher:
    """Holds what is to be written; bounded, since a symbol has one state, and of events the newest are kept."""

    def __init__(self) -> None:
        self._states: dict[str, Decision | None] = {}
        self._events: deque[Decision | Start] = deque(maxlen=EVENTS_KEPT)

    def say(self, events: Iterable[Decision | Start]) -> None:
        """Takes decisions (and the start) to write."""
        for event in events:
            self._events.append(event)
            if isinstance(event, Decision):
                self._states[event.field] = event

    def forget(self, fields: Iterable[str]) -> None:
        """Takes symbols whose state is to go."""
        for field in fields:
            self._states[field] = None

    @property
    def waiting(self) -> int:
        """What Redis has not taken yet."""
        return len(self._states) + len(self._events)

    async def flush(self, link: Link, beat_ns: int, table: Table | None) -> ReplyError | None:
        """Writes what waits, then the sign of life; gives the error of a Redis that takes nothing now.

        Raises:
            LinkLost: The connection is gone; all of it is still here.
            ReplyError: An error that does not pass.
        """
        states = list(self._states.items())[:AT_ONCE]
        events = list(self._events)[:AT_ONCE]
        commands = [_state_command(field, decision) for field, decision in states]
        commands += [pack_event(event) for event in events]
        if table is not None:
            commands.append(pack("SET", TABLE, msgspec.json.encode(table)))
        if len(states) == len(self._states):
            commands.append(pack("SET", BEAT, beat_ns))
        replies = await link.replies(b"".join(commands), len(commands), timeout_s=TIMEOUT_S)
        for (field, decision), reply in zip(states, replies[: len(states)], strict=True):
            if not isinstance(reply, ReplyError) and self._states.get(field) is decision:
                del self._states[field]
        taken = _taken(replies[len(states) : len(states) + len(events)])
        for _ in range(taken):
            self._events.popleft()
        errors = [reply for reply in replies if isinstance(reply, ReplyError)]
        for error in errors:
            if not error.passes:
                raise error
        return errors[0] if errors else None


def _state_command(field: str, decision: Decision | None) -> bytes:
    return pack("HDEL", STATE, field) if decision is None else pack_state(decision)


def _taken(replies: list[Any]) -> int:
    """How many from the first on were taken: events keep their order, so what follows a refused one is sent again."""
    for number, reply in enumerate(replies):
        if isinstance(reply, ReplyError):
            return number
    return len(replies)
