"""Lines that differ in their digits only: taken apart at once they are what a regular expression finds in each."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.alike import Alike

DIGITS = st.text("0123456789", min_size=1, max_size=22)
BETWEEN = st.text('abc:,."[]{}é ', min_size=1, max_size=12)
TEMPLATES = st.lists(BETWEEN, min_size=2, max_size=8)


def line(template: list[str], numbers: list[str]) -> bytes:
    """The numbers stand between the pieces of the template."""
    return (
        "".join(f"{piece}{number}" for piece, number in zip(template, numbers, strict=False)) + template[-1]
    ).encode()


@st.composite
def alike_lines(draw: st.DrawFn) -> list[bytes]:
    template = draw(TEMPLATES)
    rows = draw(
        st.lists(st.lists(DIGITS, min_size=len(template) - 1, max_size=len(template) - 1), min_size=1, max_size=6)
    )
    return [line(template, row) for row in rows]


def text_of(lines: list[bytes]) -> bytes:
    return b"".join([each + b"\n" for each in lines])


def outside(of: bytes) -> list[int]:
    """The runs of digits of a line that are not inside a text."""
    return [n for n, each in enumerate(re.finditer(rb"\d+", of)) if of.count(b'"', 0, each.start()) % 2 == 0]


@given(alike_lines())
def test_runs_are_where_the_digits_are(lines: list[bytes]) -> None:
    """Every run of digits of every line is found, in its row and its place."""
    alike = Alike.of(text_of(lines))
    assert alike is not None
    assert alike.count == len(lines)
    found = [
        [text_of(lines)[start:end] for start, end in zip(starts, ends, strict=True)]
        for starts, ends in zip(alike.starts.tolist(), alike.ends.tolist(), strict=True)
    ]
    assert found == [re.findall(rb"\d+", each) for each in lines]


@given(alike_lines())
def test_numbers_are_those_of_json(lines: list[bytes]) -> None:
    """The numbers outside of texts are read as they stand, or all are refused: a zero in front, more than 63 bits."""
    alike = Alike.of(text_of(lines))
    assert alike is not None
    runs = outside(lines[0])
    texts = [[re.findall(rb"\d+", each)[run] for each in lines] for run in runs]
    plain = all(str(int(each)).encode() == each and int(each) < 2**63 for run in texts for each in run)
    if plain:
        assert alike.numbers is not None
        assert {run: numbers.tolist() for run, numbers in alike.numbers.items()} == {
            run: list(map(int, each)) for run, each in zip(runs, texts, strict=True)
        }
    else:
        assert alike.numbers is None


@given(alike_lines())
def test_constant_runs_have_the_same_text_in_each_line(lines: list[bytes]) -> None:
    """A run is constant where its text is, and never where `01` stands for `1`."""
    alike = Alike.of(text_of(lines))
    assert alike is not None
    for run, texts in enumerate(zip(*(re.findall(rb"\d+", each) for each in lines), strict=True)):
        same = len(set(texts)) == 1
        assert alike.are_constant([run]) == (same and all(len(each) < 20 for each in texts))


WHOLE = st.integers(0, 10**12 - 1).map(str) | st.integers(0, 99).map(str) | st.sampled_from(["00", "01", "0012"])


@given(
    st.integers(0, 8).flatmap(
        lambda places: st.lists(
            st.tuples(WHOLE, st.text("0123456789", min_size=places, max_size=places)), min_size=1, max_size=8
        )
    )
)
def test_decimals_are_exact(numbers: list[tuple[str, str]]) -> None:
    """Decimals of any length are the integers without their points, and are refused where one has a zero in front."""
    places = len(numbers[0][1])
    point = "." if places else ""
    text = text_of([f'["{whole}{point}{fraction}"]'.encode() for whole, fraction in numbers])
    alike = Alike.of(text)
    assert alike is not None
    parsed = alike.decimals(slice(0, 1), slice(1, 2) if places else None)
    longest = max(len(whole) for whole, _ in numbers) + places
    if longest > 18 or any(len(whole) > 1 and whole[0] == "0" for whole, _ in numbers):
        assert parsed is None
    else:
        assert parsed is not None
        assert parsed[0].tolist() == [[int(whole + fraction)] for whole, fraction in numbers]
        assert parsed[1] == places


def test_decimals_of_unlike_lengths_are_refused() -> None:
    """`1.10` and `1.1` are not on one scale."""
    alike = Alike.of(b'["1.10"]\n["1.1"]\n')
    assert alike is not None
    assert alike.decimals(slice(0, 1), slice(1, 2)) is None


@given(alike_lines(), st.data())
def test_a_line_of_another_shape_is_seen(lines: list[bytes], data: st.DataObject) -> None:
    """Where one line has another character, or one more or less, the lines are not alike, whatever moves the digits."""
    at = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[at]) - 1))
    new = data.draw(st.sampled_from([b"", b"x", b"7", b"\n", b"7x", b"x7"]))
    changed = lines[at][:place] + new + lines[at][place + 1 :]
    text = text_of([*lines[:at], changed, *lines[at + 1 :]])
    alike = Alike.of(text)
    pieces = [re.split(rb"\d+", each) for each in text.split(b"\n")[:-1]]
    # a piece that is empty stands before or behind digits at a line's end: no line begins with digits
    same = all(each == pieces[0] for each in pieces) and bool(pieces[0][0]) and len(pieces[0]) > 1
    assert (alike is not None) == same


@given(st.lists(alike_lines(), min_size=2, max_size=3))
def test_lines_of_several_shapes_are_alike_only_by_their_pieces(parts: list[list[bytes]]) -> None:
    """Lines from several templates are taken apart only where all their pieces between the digits are the same."""
    lines = [each for part in parts for each in part]
    pieces = [re.split(rb"\d+", each) for each in lines]
    assert (Alike.of(text_of(lines)) is not None) == all(each == pieces[0] for each in pieces)


@pytest.mark.parametrize("text", [b"", b"\n", b"a1", b"a\n", b"1a\n", b'"\\"1"\n', b"a1\nb1\n", b"a1\na1", b"a1\n\n"])
def test_what_is_no_such_text_is_refused(text: bytes) -> None:
    """No line, no end, no digit, a digit in front, a backslash: none of these is taken apart."""
    assert Alike.of(text) is None


def test_shifted_digits_are_seen() -> None:
    """The same characters with the digits elsewhere are another shape, also over the lines' borders."""
    assert Alike.of(b"a1bc\nab1c\n") is None
    assert Alike.of(b"a1b2c\na1bc2\n") is None
    assert Alike.of(b"a1a\na1a\n") is not None
    assert np.array_equal(Alike.of(b"a1a\na22a\n").ends, [[2], [7]])  # type: ignore[union-attr]
