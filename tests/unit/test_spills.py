"""Adopted spills come before our own, in one order of numbers, and all of it stays within the bound."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from common.flight import Batch
from common.packed import heard
from common.spill_record import HEAD_BYTES
from common.spills import OWN_FROM, Spills, _fitting
from common.streams import Stream
from common.wire import pack


def entry(number: int, connection: str = "c-1", symbol: str = "BTCUSDT", size: int = 10) -> bytes:
    return pack(
        "XADD", f"md:um:depth20:{symbol}", "*", "c", connection, "t", f"{number:019d}", "n", 1, "d", b"x" * size
    )


def batch(number: int, packed: bytes = b"x" * 100) -> Batch:
    return Batch(packed, 1, OWN_FROM + number, 0.0)


def test_adopted_come_first_and_tell_of_their_connections(tmp_path: Path) -> None:
    """What a dead collector left has low numbers, and says whom it heard until when and where its entries go."""
    dead = Spills(tmp_path, "dead", 1 << 20)
    packed = entry(5) + entry(9, "c-2", "ETHUSDT") + entry(7)
    assert dead.write([batch(1, packed), batch(2, entry(8))], read=False) == 2
    dead.close()

    ours = Spills(tmp_path, "ours", 1 << 20)
    ours.adopt()
    assert ours.write([batch(1, entry(20))], read=False) == 1
    first = ours.read(1, 3.0)
    assert [(one.packed, one.number, one.since_s, one.on_disk) for one in first.batches] == [
        (packed + entry(8), 1, 3.0, True)
    ]
    assert first.heard == {"c-1": 8, "c-2": 9}
    assert first.streams == {Stream("um", "depth20", "BTCUSDT"), Stream("um", "depth20", "ETHUSDT")}
    second = ours.read(1, 4.0)
    assert ([one.number for one in second.batches], second.heard, ours.unread) == ([OWN_FROM + 1], {}, 0)
    ours.release(1)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]
    ours.release(OWN_FROM + 1)
    assert ours.size == 0
    ours.close()


def test_the_bound_holds_for_all_of_it(tmp_path: Path) -> None:
    """What was adopted counts: a collector that is killed again and again does not fill the disk."""
    dead = Spills(tmp_path, "dead", 1000)
    assert dead.write([batch(number) for number in range(1, 20)], read=False) == 9
    assert dead.size <= 1000
    dead.close()
    ours = Spills(tmp_path, "ours", 1200)
    ours.adopt()
    assert ours.write([batch(number) for number in range(1, 20)], read=False) == 2
    assert ours.write([batch(3)], read=False) == 0
    assert ours.size <= 1200
    ours.close()


@given(
    sizes=st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 2)), max_size=12),
    room=st.integers(0, 1_000_000),
)
def test_what_fits_is_the_oldest_part_in_runs(sizes: list[tuple[int, int]], room: int) -> None:
    """Groups are runs of consecutive numbers, together a prefix, and with their headers within the room."""
    number, batches = 0, []
    for size, step in sizes:
        number += step
        batches.append(batch(number, b"x" * size))
    groups = list(_fitting(batches, room))
    flat = [one for group in groups for one in group]
    assert flat == batches[: len(flat)]
    used = sum(len(one.packed) for one in flat) + HEAD_BYTES * len(groups)
    assert used <= room
    if len(flat) < len(batches):
        assert used + len(batches[len(flat)].packed) + HEAD_BYTES > room
    for group in groups:
        assert [one.number for one in group] == list(range(group[0].number, group[0].number + len(group)))


def test_other_commands_tell_nothing() -> None:
    """What is no XADD, or goes to no stream of ours, is passed over."""
    assert heard(pack("SET", "a", "b") + pack("XADD", "other", "*", "x", "y") + entry(3)) == (
        {"c-1": 3},
        {Stream("um", "depth20", "BTCUSDT")},
    )
