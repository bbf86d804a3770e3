"""The union of a minute's frames: nothing lost, nothing twice, in whatever order and grouping the frames come."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.merge import identity, identity_key, in_order, unite
from common.frame import Frame
from common.streams import Stream


def depth(u: int, extra: str = "") -> bytes:
    return b'{"e":"depthUpdate","E":1,"s":"X","U":1,"u":%d,"pu":0,"b":[],"a":[]%b}' % (u, extra.encode())


payloads = st.builds(depth, st.integers(0, 5), st.sampled_from(["", ',"st":1'])) | st.sampled_from([b"junk", b'{"u":3'])
frames = st.builds(Frame, st.integers(0, 9), st.sampled_from(["a", "b", "c"]), st.integers(1, 6), payloads)
many = st.lists(frames, max_size=30)
identify = identity("u")


def largest_multiplicity(given_frames: list[Frame]) -> dict[int | bytes, int]:
    """By the rule: of each key, as many as the connection that has most different frames of it."""
    unique = {frame[1:] for frame in given_frames}
    counts = Counter((identify(payload), connection) for connection, _, payload in unique)
    most: dict[int | bytes, int] = {}
    for (key, _), count in counts.items():
        most[key] = max(most.get(key, 0), count)
    return most


@settings(deadline=None)
@given(many, st.randoms(use_true_random=False), st.integers(0, 30))
def test_the_order_and_the_split_do_not_matter(given_frames: list[Frame], chance, cut: int) -> None:  # type: ignore[no-untyped-def]
    """Frames in any order, in any two parts, give the same union."""
    shuffled = given_frames[:]
    chance.shuffle(shuffled)
    assert unite("u", shuffled[:cut], shuffled[cut:]).frames == unite("u", given_frames).frames


@settings(deadline=None)
@given(many, many)
def test_redelivery_of_all_changes_nothing(first: list[Frame], second: list[Frame]) -> None:
    """What is archived, united with everything that it was made from, or with a part of it, stays as it is."""
    archived = unite("u", first, second).frames
    assert unite("u", first, archived=archived).frames == archived
    assert unite("u", second, first, archived=archived).frames == archived
    assert unite("u", archived).doubled == 0


@settings(deadline=None)
@given(many)
def test_of_each_key_as_many_stay_as_one_connection_had(given_frames: list[Frame]) -> None:
    """The union is one of multisets: every key keeps the multiplicity that its richest connection had."""
    merged = unite("u", given_frames)
    assert Counter(identify(frame.payload) for frame in merged.frames) == largest_multiplicity(given_frames)
    assert len(merged.frames) + merged.doubled == len(given_frames)
    assert list(merged.frames) == sorted(merged.frames)
    assert set(merged.frames) <= set(given_frames)


@settings(deadline=None)
@given(many, st.randoms(use_true_random=False))
def test_parts_may_be_archived_one_by_one(given_frames: list[Frame], chance) -> None:  # type: ignore[no-untyped-def]
    """The grouping does not matter, where equal frames of one connection come in one part."""
    parts: dict[tuple[str, int | bytes], list[Frame]] = {}
    for frame in given_frames:
        parts.setdefault((frame.connection, identify(frame.payload)), []).append(frame)
    order = list(parts.values())
    chance.shuffle(order)
    folded: Sequence[Frame] = []
    for part in order:
        folded = unite("u", part, archived=folded).frames
    assert list(folded) == list(unite("u", given_frames).frames)


@settings(deadline=None)
@given(many)
def test_one_connection_loses_nothing(given_frames: list[Frame]) -> None:
    """Equal frames on one connection are different frames: only redelivery becomes one."""
    alone = [frame._replace(connection="a") for frame in given_frames]
    assert {frame[1:] for frame in unite("u", alone).frames} == {frame[1:] for frame in alone}


def test_the_smallest_copy_wins() -> None:
    """Of copies on two connections the one that came first is kept, though its payload differs in other keys."""
    early, late = Frame(5, "b", 1, depth(7)), Frame(6, "a", 1, depth(7, ',"st":1'))
    assert unite("u", [late], [early]) == unite("u", [early, late])
    assert unite("u", [late, early]).frames == [early]
    assert unite("u", [late, early]).doubled == 1


def test_a_counter_used_twice_keeps_both() -> None:
    """Same connection and counter with another payload is no redelivery: both stay and are counted."""
    one, other = Frame(5, "a", 1, depth(7)), Frame(5, "a", 1, depth(8))
    merged = unite("u", [one], archived=[other])
    assert set(merged.frames) == {one, other}
    assert (merged.doubled, merged.mismatched) == (0, 1)


def test_a_damaged_frame_does_not_pass_for_the_whole_one() -> None:
    """A payload that was cut off has no id: it is kept beside the whole one."""
    whole, cut = Frame(6, "b", 1, depth(7)), Frame(5, "a", 1, depth(7)[:-9])
    assert list(unite("u", [whole, cut]).frames) == [cut, whole]


def test_a_copy_in_the_neighbouring_minute_stays_there() -> None:
    """Of a copy that the neighbour's file holds, ours is dropped; what is archived here already stays."""
    there, here = Frame(59, "a", 1, depth(7)), Frame(60, "b", 1, depth(7))
    fresh = Frame(61, "b", 2, depth(8))
    assert unite("u", [here, fresh], neighbours=[there]).frames == [fresh]
    assert unite("u", [fresh], archived=[here], neighbours=[there]).frames == [here, fresh]


def test_a_neighbour_on_the_same_connection_is_another_frame() -> None:
    """A book that did not change is sent again with the same id, across the border of the minute too."""
    there, here = Frame(59, "a", 1, depth(7)), Frame(60, "a", 2, depth(7))
    assert unite("u", [here], neighbours=[there]).frames == [here]


def test_redelivery_into_the_neighbour_is_dropped() -> None:
    """The very frame that a neighbour holds is no second one."""
    there = Frame(59, "a", 1, depth(7))
    assert unite("u", [there], neighbours=[there]).frames == []


@pytest.mark.parametrize(
    ("key", "payload", "expected"),
    [
        ("u", depth(160), 160),
        ("u", b'{"u" : 160 ,"s":"X"}', 160),
        ("u", b'{"k":{"u":1},"u":2}', 2),
        ("u", b'{"s":"{\\"u\\":1","u":2}', 2),
        ("a", b'{"e":"aggTrade","E":1,"s":"X","a":26129,"p":"0.01"}', 26129),
        ("a", depth(1), depth(1)),
        ("u", b'{"u":1.5}', b'{"u":1.5}'),
        ("u", b'{"u":"1"}', b'{"u":"1"}'),
        ("u", b'{"u":true}', b'{"u":true}'),
        ("u", b'{"u":12', b'{"u":12'),
        ("u", b'{"U":12}', b'{"U":12}'),
        ("u", b"[1]", b"[1]"),
        ("lastUpdateId", b'{"lastUpdateId":5,"bids":[],"asks":[]}', 5),
        (None, depth(160), depth(160)),
    ],
)
def test_the_identity_is_the_exchanges_own_id(key: str | None, payload: bytes, expected: int | bytes) -> None:
    """Only a whole number at the top of a payload that is JSON counts; else the payload is the identity."""
    assert identity(key)(payload) == expected


def test_each_channel_names_its_id() -> None:
    """The key follows channel and market; frames of no known stream have none."""
    assert identity_key(Stream("um", "depth20", "X")) == "u"
    assert identity_key(Stream("spot", "depth20", "X")) == "lastUpdateId"
    assert identity_key(Stream("um", "markPrice", "X")) is None
    assert identity_key(Stream("um", "unknown", "_")) is None


def test_frames_in_order_need_no_union() -> None:
    """The fast way is taken for one connection with rising counters and times only."""
    first, second = Frame(1, "a", 1, b"1"), Frame(1, "a", 2, b"1")
    assert in_order([first, second])
    assert in_order([])
    assert not in_order([second, first])
    assert not in_order([first, first])
    assert not in_order([first, second._replace(connection="b")])
    assert not in_order([first, second._replace(receive_ns=0)])
