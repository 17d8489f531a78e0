from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.lineage.console.lines import MAX_LINE_BYTES, LineSplitter


def _split(*parts: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for part in parts for line in splitter.feed(part)] + splitter.end()


def test_lines_are_cut_at_newlines() -> None:
    """Also where a line comes in parts, and where the last one has no end."""
    assert _split(b"a\nb", b"c\n\nd") == ["a", "bc", "", "d"]


def test_last_state_of_a_progress_bar_is_kept() -> None:
    """What was written over is gone, as on a terminal."""
    assert _split(b"\r 10%", b"\r 50%", b"\r100%", b"\ndone\r\n") == ["100%", "done"]


def test_newline_of_other_systems_is_one_newline() -> None:
    r"""``\r\n`` may come in two reads."""
    assert _split(b"a\r", b"\nb\r\n") == ["a", "b"]


def test_progress_bar_without_end_does_not_grow() -> None:
    """Hours of a bar that never ends its line cost the memory of one state."""
    splitter = LineSplitter()
    for i in range(10_000):
        assert splitter.feed(b"\r%06d" % i + b"x" * 100) == []

    assert splitter.end() == ["009999" + "x" * 100]


def test_long_line_comes_in_pieces() -> None:
    """A line without an end costs bounded memory, and no character is torn."""
    text = "é" * MAX_LINE_BYTES

    pieces = _split(*(text.encode()[i : i + 999] for i in range(0, len(text.encode()), 999)))

    assert "".join(pieces) == text
    assert max(len(piece.encode()) for piece in pieces) <= MAX_LINE_BYTES


def test_bytes_that_are_no_text_are_marked() -> None:
    """Binary output does not stop the log."""
    assert _split(b"a\xff\nb") == ["a\ufffd", "b"]


@example(data=b"\r\r\n\n", cuts=[3])
@given(
    data=st.lists(st.sampled_from(list(b"ab\r\n\xc3")), max_size=40).map(bytes),
    cuts=st.lists(st.integers(0, 40), max_size=6),
)
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    """The same bytes give the same lines, however the system cuts them."""
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})

    parts = [data[a:b] for a, b in pairwise(edges)]

    assert _split(*parts) == _split(data)


@given(text=st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_text_without_carriage_returns_is_kept(text: str) -> None:
    """Joined again, the lines are what was printed."""
    assert "\n".join(_split(text.encode())) == text.removesuffix("\n")
