"""The judges of the rows that read: a reader, an ending or an input that went wrong is told by each."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventlog.events import Event, Metrics, RunEnded
from eventlog.storage.frames import seq_if_any
from eventlog.storage.segment import SegmentReader
from tests.golden import make
from tests.golden.reading import READING
from tests.logs import LogMaker, put
from tests.torture import damage, fuzzing, golden
from tests.torture.process_lives import RUN
from tests.torture.process_notes import BEGUN, MAIN, RETURNED, Notes
from tests.torture.process_rounds import _words_of, compare
from tests.torture.targets import OffenceError, Target

# --- row 4 ------------------------------------------------------------------------------------


def _says_nothing(self: SegmentReader, *_: object, **__: object) -> None:
    """Stand for a reader that leaves out what is damaged, and does not say so."""


def _takes_everything(
    self: SegmentReader, lines: list[bytes], start: int, *, may_frame: bool
) -> Iterator[object]:
    """Stand for a reader that looks at no checksum."""
    for line in lines[start:]:
        self.offset += len(line) + 1
        if seq_if_any(line) is not None:
            yield from self._blocks([line], may_frame=may_frame)


def _passes_over(self: SegmentReader, lines: list[bytes], index: int) -> int:
    """Stand for a reader that never finds its way back after damage."""
    self.offset += len(lines[index]) + 1
    return index + 1


BROKEN: dict[str, tuple[str, Callable[..., object], str]] = {
    "nothing is said": ("_find", _says_nothing, "not found"),
    "everything is taken": ("_take_verified", _takes_everything, "invented"),
    "no way back": ("_resync", _passes_over, "the reader is not where it would be"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_judge_of_damage_sees_a_reader_that(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole reader has no problems; a broken one has many, of the kind that is its own."""
    monkeypatch.setitem(damage.EVENTS, "short", 60)
    assert damage.play("short", 1).is_good
    method, broken, complaint = BROKEN[name]
    monkeypatch.setattr(SegmentReader, method, broken)

    result = damage.play("short", 1)

    assert not result.is_good
    assert any(complaint in problem for problem in result.problems)


# --- row 6 ------------------------------------------------------------------------------------

STEPS = 6


def _metric(step: int, value: float | None = None) -> Metrics:
    return Metrics(step=step, data={"a": MAIN, "x": step + 0.5 if value is None else value})


WHOLE = [_metric(step) for step in range(STEPS)]
ENDED = RunEnded(status="finished")
LOGS: dict[str, tuple[list[Event], int, int, bool]] = {
    "whole": ([*WHOLE, ENDED], 0, 0, True),
    "one missing": ([*WHOLE[:2], *WHOLE[3:], ENDED], 1, 0, False),
    "one missing that had not returned": ([*WHOLE[:-1], ENDED], 0, 0, True),
    "one twice": ([*WHOLE, WHOLE[0], ENDED], 0, 1, False),
    "never called": ([*WHOLE, _metric(STEPS), ENDED], 0, 1, False),
    "another value": ([*WHOLE[:-1], _metric(STEPS - 1, 9.0), ENDED], 0, 1, False),
    "ended twice": ([*WHOLE, ENDED, ENDED], 0, 0, False),
    "no end": ([*WHOLE], 0, 0, False),
    "another end": ([*WHOLE, RunEnded(status="failed")], 0, 0, False),
}


@pytest.mark.parametrize("name", LOGS)
def test_judge_of_processes_sees(name: str, tmp_path: Path) -> None:
    """All calls that returned are there once, none that never began, and one end of the right kind."""
    events, lost, invented, is_good = LOGS[name]
    put(tmp_path / "root" / "p" / RUN, 1, b"".join(LogMaker().segment(events)))
    notes = Notes(tmp_path / "notes")
    for step in range(STEPS):
        notes.marks[step] = BEGUN if step == STEPS - 1 else RETURNED
    notes.expect(0, "finished")

    found = compare(tmp_path / "root", notes)

    assert (found.lost, found.invented) == (lost, invented)
    assert bool(found.problems) is not is_good


@pytest.mark.parametrize("name", ["x.ring", "x.reserve", "x.recovering"])
def test_judge_of_processes_sees_what_is_left_behind(name: str, tmp_path: Path) -> None:
    """Nothing but segments stays in the log of a run that has ended."""
    run = tmp_path / "root" / "p" / RUN
    put(run, 1, b"".join(LogMaker().segment([ENDED])))
    notes = Notes(tmp_path / "notes")
    notes.expect(0, "finished")
    assert compare(tmp_path / "root", notes).problems == []
    (run / "log" / name).mkdir()

    assert any(name in problem for problem in compare(tmp_path / "root", notes).problems)


def test_judge_of_processes_hears_errors_and_not_the_source_of_a_traceback(tmp_path: Path) -> None:
    """A line of ours that names an error is none; the error itself is one, indented or not."""
    said = tmp_path / "output"
    said.write_text('  File "a.py", line 3, in f\n    with suppress(RuntimeError):\nKeyboardInterrupt\n')
    assert _words_of(said, "SIGINT") == []

    for error in ("IndexError: list index out of range", "    OSError: no room"):
        said.write_text(f'  File "a.py", line 3, in f\n    return stack[-1]\n{error}\n')
        assert _words_of(said, "SIGINT") == [error.strip()]


# --- row 7 ------------------------------------------------------------------------------------


def _raise(error: Exception) -> Callable[[bytes], str]:
    def take(data: bytes) -> str:
        if data == b"3":
            raise error
        return "fine"

    return take


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), MemoryError(), OffenceError("too big")])
def test_judge_of_fuzzing_sees_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input that does it is named, and the others count."""
    numbers = iter(range(10))
    target = Target("odd", lambda _: b"%d" % next(numbers), _raise(error), 0)
    monkeypatch.setitem(fuzzing.TARGETS, "odd", target)
    told = fuzzing.Told()

    for number in range(10):
        fuzzing._take("odd", number, told, is_long=False)

    ((what, (count, where)),) = told.problems.items()
    assert type(error).__name__ in what
    assert (count, where) == (1, "odd 3")
    assert told.outcomes == {"odd: fine": 9}


DEADLY = {
    "it takes too long": "while True: pass",
    "the process died: -9": "os.kill(os.getpid(), 9)",
    "MemoryError": "bytes(4 << 30)",
}
CHILD = """
import os, sys
from pathlib import Path
from tests.torture import fuzzing
from tests.torture.targets import Target
def take(data):
    if data == b"3":
        {deed}
    return "fine"
numbers = iter(range({first}, 10))
fuzzing.SECONDS_OF_AN_INPUT = 0.2
fuzzing.TARGETS["odd"] = Target("odd", lambda _: b"%d" % next(numbers), take, 0)
fuzzing._take_job(Path(sys.argv[sys.argv.index("--job") + 1]))
"""


@pytest.mark.parametrize("what", DEADLY)
def test_judge_of_fuzzing_sees_what_ends_the_process(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process goes on behind the input that did it."""
    starts = iter(range(10))

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **options: object) -> None:
            code = CHILD.format(deed=DEADLY[what], first=0 if next(starts) == 0 else 4)
            super().__init__([command[0], "-c", code, *command[3:]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", Popen)

    told = fuzzing._in_children([fuzzing.Part(target="odd", first=0, count=10)])

    ((problem, (count, where)),) = told.problems.items()
    assert what in problem
    assert (count, where) == (1, "odd 3")
    assert told.outcomes["odd: fine"] == (9 if what == "MemoryError" else 6)


# --- row 9 ------------------------------------------------------------------------------------


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a golden case in a copy of all of them."""
    cases = tmp_path / "format-1" / "cases"
    shutil.copytree(make.home(1), cases)
    monkeypatch.setattr(make, "GOLDEN", tmp_path)
    return cases / random.Random(1).choice(make.names(1))


def test_judge_of_golden_logs_sees_another_byte(case: Path) -> None:
    """Also one that no reader looks at."""
    path = min(one for one in case.rglob("*") if one.is_file())
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b" ")

    problems = golden.play("short", 1).problems

    assert any(path.name in problem and "not what it was" in problem for problem in problems)


def test_judge_of_golden_logs_sees_another_reading(case: Path) -> None:
    """What is read today is compared with what was read then, not with what the files say."""
    path = case / READING
    told = json.loads(path.read_bytes())
    told["salvage"]["events"] = [*told["salvage"]["events"], {"type": "note", "text": "never there"}]
    path.chmod(0o600)
    path.write_text(json.dumps(told))

    problems = golden.play("short", 1).problems

    assert any("another reading" in problem and case.name in problem for problem in problems)
