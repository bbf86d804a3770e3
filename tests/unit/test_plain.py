"""Plain minutes: lines that need no merge are seen as such, and are the frames that parsing gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import lines
from archiver.merge import in_order
from archiver.plain import Plain
from archiver.summaries import Summary
from common.frame import Frame, to_staged_line
from tests.archive import book_frames, minute


def staged(frames: list[Frame]) -> bytes:
    return b"".join([to_staged_line(frame) + b"\n" for frame in frames])


FRAMES = st.lists(
    st.builds(
        lambda at, counter, number, text: Frame(at, "17e9-ab12", counter, b'{"u":%d,"x":["%b"]}' % (number, text)),
        st.integers(0, 2**63 + 5),
        st.integers(0, 10**6),
        st.integers(0, 10**15),
        st.from_regex(rb"[0-9]{1,3}\.[0-9]{2}", fullmatch=True),
    ),
    min_size=1,
    max_size=8,
)


@given(FRAMES, st.booleans())
def test_a_plain_minute_is_its_frames(frames: list[Frame], sort: bool) -> None:
    """Whatever is called plain is in order, of one connection, and has the times, counters and sizes of its frames."""
    frames = sorted(frames, key=lambda frame: (frame.counter, frame.receive_ns)) if sort else frames
    content = staged(frames)
    plain = Plain.of(content)
    if plain is None:
        assert not in_order(frames) or max(frame.receive_ns for frame in frames) >= 2**63
        return
    assert in_order(frames)
    assert plain.frames() == lines.parse(content) == frames
    assert lines.render(frames) == content
    assert len(plain) == len(frames)
    assert plain.receive_ns.tolist() == [frame.receive_ns for frame in frames]
    assert plain.counters.tolist() == [frame.counter for frame in frames]
    assert (plain.first_ns, plain.last_ns) == (frames[0].receive_ns, frames[-1].receive_ns)
    assert {plain.connection} == {frame.connection for frame in frames}
    assert plain.summary() == Summary.of(frames)
    assert plain.alike.first[plain.payload] == frames[0].payload


@given(FRAMES, st.integers(0, 2**62))
def test_the_ends_are_the_frames_near_them(frames: list[Frame], within_ns: int) -> None:
    """The ends of a plain minute are all frames within the time of the first or the last, and no other."""
    frames = sorted(frame._replace(receive_ns=frame.receive_ns >> 1) for frame in frames)
    frames = [frame._replace(counter=n) for n, frame in enumerate(frames, 1)]
    plain = Plain.of(staged(frames))
    assert plain is not None
    first_ns, last_ns = frames[0].receive_ns + within_ns, frames[-1].receive_ns - within_ns
    assert plain.ends(within_ns) == [
        each for each in frames if each.receive_ns <= first_ns or each.receive_ns >= last_ns
    ]


def test_a_minute_of_books_is_plain() -> None:
    """Books whose numbers have other lengths from frame to frame are a plain minute."""
    frames = book_frames(minute(1))
    plain = Plain.of(staged(frames))
    assert plain is not None
    assert plain.frames() == frames


@pytest.mark.parametrize(
    "changed",
    [
        lambda frame: frame._replace(connection="a-2"),
        lambda frame: frame._replace(connection="a-01"),
        lambda frame: frame._replace(counter=0),
        lambda frame: frame._replace(receive_ns=1),
        lambda frame: frame._replace(payload=frame.payload.replace(b'"u":', b'"u":0')),
        lambda frame: frame._replace(payload=frame.payload.replace(b'"u":', b'"u": ')),
        lambda frame: frame._replace(payload=frame.payload[:-1]),
        lambda frame: frame._replace(payload=frame.payload + b"\n"),
        lambda frame: frame._replace(payload=b""),
    ],
)
def test_one_odd_frame_and_the_minute_is_not_plain(changed: object) -> None:
    """Another connection, a step back, a number that JSON does not have, another shape: each needs a closer look."""
    frames = book_frames(minute(1))
    frames[30] = changed(frames[30])  # type: ignore[operator]
    assert Plain.of(staged(frames)) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"{1",
        b"not JSON 1",
        b'{"u":1}\r',
        b'{"u":"\xff1"}',
        b'{"u":"\\u0041"}',
        b'{"u":1}}',
        b'{"u":01}',
        b'{"u":1,"u":.5}',
    ],
)
def test_lines_alike_in_what_is_no_json_are_not_plain(payload: bytes) -> None:
    """That all lines have one shape proves nothing where the first is not valid."""
    assert Plain.of(staged([Frame(5, "a-1", 1, payload), Frame(6, "a-1", 2, payload)])) is None


@pytest.mark.parametrize(
    "line", [b'{"t":5,"c":"a-1","n":1,"b":"MQ=="}', b'{"t":05,"c":"a-1","n":1,"d":1}', b'{"n":1}', b""]
)
def test_other_lines_are_not_plain(line: bytes) -> None:
    """Base64, a zero in front of a time, and what is no line of the archive are left to the parser."""
    assert Plain.of(line + b"\n") is None
