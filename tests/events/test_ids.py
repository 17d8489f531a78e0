"""Ids, and names that become file names."""

from __future__ import annotations

import time

import pytest

from eventlog.errors import InvalidNameError
from eventlog.ids import check_name, check_relative_name, new_ulid, new_writer_id, safe_name, writer_rank
from eventlog.storage.layout import SegmentName, parse_segment


def test_ulid_has_26_characters_and_is_new_each_time() -> None:
    """80 random bits make two ids of one millisecond differ."""
    made = {new_ulid() for _ in range(1000)}

    assert len(made) == 1000
    assert {len(ulid) for ulid in made} == {26}
    assert not set("".join(made)) & set("ILOUilou")


def test_ulid_begins_with_the_time() -> None:
    """Ids of different milliseconds sort by time."""
    before = time.time_ns() // 1_000_000
    number = 0
    for character in new_ulid()[:10]:
        number = number * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)

    assert before <= number <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("rank", [0, 7, 123456789])
def test_writer_id_names_its_rank(rank: int) -> None:
    """The rank can be read from the id, and the id makes a file name that parses."""
    writer = new_writer_id(rank)

    assert writer_rank(writer) == rank
    assert parse_segment(f"{writer}.000001.jsonl") == SegmentName(writer, 1)


@pytest.mark.parametrize("name", ["a", "run-1", "Übung 2", "a.b", "x" * 200, "日本"])
def test_good_name_is_returned(name: str) -> None:
    """Any text that every file system keeps as it is."""
    assert check_name("run id", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a:b",
        "a\nb",
        "a\x00b",
        ".hidden",
        " a",
        "a ",
        "a.",
        "NUL",
        "con.txt",
        "x" * 201,
        "\udc80",
        "a\u3000",
        "lpt1",
        "a\x7f",
    ],
)
def test_name_that_some_file_system_refuses_is_an_error(name: str) -> None:
    """The message says why, and that another name is needed."""
    with pytest.raises(InvalidNameError, match="Choose another name"):
        check_name("run id", name)


@pytest.mark.parametrize("name", ["plots/../../x", "/etc/passwd", "a//b", "a/", "a/.evlog"])
def test_relative_name_cannot_leave_its_directory(name: str) -> None:
    """Each part between the slashes has to be a good name."""
    with pytest.raises(InvalidNameError):
        check_relative_name("artifact", name)


@pytest.mark.parametrize(
    "text", ["", "...", "con." + "a" * 300, "abc\u3000", "\u3000", "a/b\\c", "\udc80", "é" * 150, "NUL"]
)
def test_safe_name_is_always_good(text: str) -> None:
    """Whatever the text, the name that is derived from it passes the check."""
    name = safe_name(text)

    assert check_name("name", name) == name
