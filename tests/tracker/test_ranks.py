"""Ranks that start at the same moment log into one run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventlog.storage.buffer import LogBuffer
from eventlog.storage.system import RealSystem
from eventlog.tracker.naming import place_run
from tests.logs import MANUAL

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")


class Patient(RealSystem):
    """A system on which, while somebody waits, another writer begins its log; it keeps time by its waits."""

    def __init__(self, run: Path, rank: int | None) -> None:
        self._run, self._rank, self._now_s = run, rank, 0.0
        self.buffer: LogBuffer | None = None

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        if self.buffer is None and self._rank is not None:
            self.buffer = LogBuffer(self._run, run_id="r", project="p", rank=self._rank, options=MANUAL)
            self.buffer.open()

    def monotonic_s(self) -> float:
        return self._now_s


@pytest.mark.parametrize(("rank", "expected"), [(1, "r"), (0, "r-1"), (None, "r-1")])
def test_rank_0_takes_part_in_a_run_whose_directory_another_rank_has_just_made(
    tmp_path: Path, rank: int | None, expected: str
) -> None:
    """Between a directory and its first file there is a moment in which nobody can say whose it is."""
    place_run(tmp_path, "p", "r", resume=False, joins=False, rank=1)
    system = Patient(tmp_path / "p" / "r", rank)

    placed = place_run(tmp_path, "p", "r", resume=False, joins=False, rank=0, system=system)

    assert (placed.path.name, placed.is_new) == (expected, True)
    if system.buffer is not None:
        system.buffer.close()


def test_old_empty_directory_is_not_waited_for(tmp_path: Path) -> None:
    """Somebody made it long ago, and not to log into it now."""
    run = tmp_path / "p" / "r"
    run.mkdir(parents=True)
    os.utime(run, (0, 0))
    system = Patient(run, rank=1)

    placed = place_run(tmp_path, "p", "r", resume=False, joins=False, rank=0, system=system)

    assert (placed.path.name, system.buffer) == ("r-1", None)
