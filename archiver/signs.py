"""Which connections live, by what their collectors say of them in Redis (`common.producer.BEATS`); no I/O."""

from collections.abc import Mapping
from typing import NamedTuple


class Sign(NamedTuple):
    """What a collector last said of a connection, and when that was news, in s of the monotonic clock."""

    value: bytes
    since_s: float


class Verdict(NamedTuple):
    """Connections that gave a new sign, that gave their first one since this archiver began, and that give none."""

    alive: set[str]
    came: set[str]
    dead: set[str]


class Signs:
    """The signs of the connections whose sessions seem to last.

    Args:
        dead_after_s: A collector that gives no sign for so long is dead.
    """

    def __init__(self, dead_after_s: float) -> None:
        self._dead_after_s = dead_after_s
        self._signs: dict[str, Sign] = {}
        self._living: set[str] = set()

    def has_lived(self, connection: str) -> bool:
        """Whether it has given a sign since this archiver began, and is not dead."""
        return connection in self._living

    def forgive(self, now_s: float) -> None:
        """The silence until now proves nothing: it counts from now."""
        self._signs = {name: sign._replace(since_s=now_s) for name, sign in self._signs.items()}

    def judge(self, beats: Mapping[bytes, bytes], silent: set[str], now_s: float) -> Verdict:
        """Looks at the signs of connections that have not said that they ended.

        A sign that changes is life, one that does not for `dead_after_s` is death; until then all stays as it is.
        """
        alive, dead = set(), set()
        for name in silent:
            value = beats.get(name.encode(), b"")
            sign = self._signs.get(name)
            if sign is None or sign.value != value:
                self._signs[name] = Sign(value, now_s)
                if sign is not None:
                    alive.add(name)
            elif now_s - sign.since_s > self._dead_after_s:
                dead.add(name)
        self._signs = {name: sign for name, sign in self._signs.items() if name in silent}
        came, self._living = alive - self._living, (self._living | alive) & silent - dead
        return Verdict(alive, came, dead)


def heard_ns(sign: bytes) -> int:
    """Until when a connection is in Redis, by its sign of life."""
    return int(sign.partition(b" ")[0] or 0)
