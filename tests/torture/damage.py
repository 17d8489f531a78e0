"""Row 4: damage on purpose, everywhere in a log of 10,000 events."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from tests.torture import cuts, flips, shuffles
from tests.torture.cuts import Cuts
from tests.torture.flips import Flips
from tests.torture.reading import Verdict, on_disk
from tests.torture.rows import Form, Result
from tests.torture.specimen import Log, Segment, build

TITLE = "Damage at every place of a log of 10,000 events"
PROMISE = (
    "every flipped bit is found and costs at most two events; every cut, every zero-fill and every line that "
    "was dropped, repeated, swapped or comes from another run is found and named"
)
EVENTS: dict[Form, int] = {"short": 600, "long": 10_000}
LINES_OF_A_JOB = 100
ENDS = 5
"""So many lines at both ends of a segment are where segments are joined: they are compared more often."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Some lines of one segment.

    Attributes:
        tries: places that are tried of each line; None for every bit and byte.
    """

    events: int
    seed: int
    number: int
    begin: int
    end: int
    tries: int | None


class Tally(msgspec.Struct, kw_only=True):
    """What a job came to."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    worst: int = 0
    invented: int = 0
    problems: list[str] = []

    def take(self, what: str, where: str, verdict: Verdict, complaints: Iterable[str]) -> None:
        """Count one thing that was tried."""
        self.counts[what] += 1
        self.invented += len(verdict.wrong)
        self.problems += [f"{what}, {where}: {complaint}" for complaint in complaints]

    def add(self, other: Tally) -> None:
        """Add what another job came to."""
        self.counts += other.counts
        self.worst = max(self.worst, other.worst)
        self.invented += other.invented
        self.problems += other.problems


def play(form: Form, seed: int) -> Result:
    """Damage the log and count."""
    tally = Tally()
    log = build(EVENTS[form], seed)
    if form == "long":
        workers, context = os.cpu_count() or 1, multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for part in pool.map(play_lines, _jobs(log, form, seed)):
                tally.add(part)
    else:
        for job in _jobs(log, form, seed):
            tally.add(play_lines(job))
    tally.add(_rearrange(log))
    return Result(
        cases=sum(count for what, count in tally.counts.items() if what != COMPARED),
        counts={**tally.counts, "most events that one flip cost": tally.worst},
        lost=None,
        invented=tally.invented,
        problems=[f"seed {seed}, {problem}" for problem in tally.problems],
    )


COMPARED = "of all these, compared with a reading of the whole log"


def _jobs(log: Log, form: Form, seed: int) -> Iterator[Job]:
    for segment in log.segments:
        for begin in range(0, len(segment.lines), LINES_OF_A_JOB):
            yield Job(
                events=EVENTS[form],
                seed=seed,
                number=segment.number,
                begin=begin,
                end=min(begin + LINES_OF_A_JOB, len(segment.lines)),
                tries=None if form == "long" else 6,
            )


def play_lines(job: Job) -> Tally:
    """Do everything to the lines of a job."""
    log, tally = build(job.events, job.seed), Tally()
    generator = random.Random(f"{job.seed} {job.number} {job.begin}")
    bench = _Bench(log, job, tally)
    with tempfile.TemporaryDirectory(prefix="evlog-damage-") as directory:
        bench.run = Path(directory)
        for line in range(job.begin, job.end):
            size = len(bench.segment.lines[line])
            places = range(size) if job.tries is None else generator.sample(range(size), job.tries)
            for at in places:
                bits = range(8) if job.tries is None else generator.sample(range(8), 2)
                bench.flip(line, at, bits)
                bench.cut(line, at)
                if job.tries is None or at % 3 == 0:
                    bench.hole(line, at)
            bench.shuffle(line)
            bench.compare(line, generator)
    return tally


class _Bench:
    """Where the lines of one segment are damaged."""

    def __init__(self, log: Log, job: Job, tally: Tally) -> None:
        self.run = Path()
        self.segment = log.segments[job.number - 1]
        self._log, self._job, self._tally = log, job, tally
        self._flips, self._cuts = Flips(log, job.number), Cuts(log, job.number)

    def flip(self, line: int, at: int, bits: Iterable[int]) -> None:
        for bit in bits:
            where = self._where(line, at, bit)
            try:
                verdict = self._flips.verdict(line, at, bit)
            except AssertionError as error:
                self._tally.problems.append(f"flip, {where}: {error}")
                continue
            self._tally.worst = max(self._tally.worst, len(verdict.lost))
            found = flips.complaints(verdict, self.segment, line, at, bit)
            self._tally.take("flipped bits", where, verdict, found)

    def cut(self, line: int, at: int) -> None:
        where, tally = self._where(line, at), self._tally
        verdict = self._cuts.cut(line, at)
        tally.take("cuts", where, verdict, cuts.complaints(verdict, self._cuts, line, at))
        verdict = self._cuts.cut(line, at, zeros=cuts.ZEROS)
        found = cuts.complaints(verdict, self._cuts, line, at, zeros=cuts.ZEROS)
        tally.take("zero-fills to the end", where, verdict, found)
        if self._cuts.is_last:
            verdict = self._cuts.at_a_cursor(line, at)
            tally.take("cuts before a cursor", where, verdict, cuts.complaints_of_a_cursor(verdict))

    def hole(self, line: int, at: int) -> None:
        try:
            found = self._cuts.hole(line, at)
        except AssertionError as error:
            self._tally.problems.append(f"sector, {self._where(line, at)}: {error}")
            return
        if found is not None:
            complaints = cuts.complaints_of_a_hole(*found)
            self._tally.take("sectors of zeros", self._where(line, at), found[0], complaints)

    def shuffle(self, line: int) -> None:
        following = self._following
        for one in shuffles.shuffles(self._log, self.segment, line):
            is_at_the_end = following is None and line >= len(self.segment.lines) - 3
            verdict = self._whole(one.data) if line <= 1 else one.verdict(following)
            found = shuffles.complaints(verdict, one, is_at_the_end=is_at_the_end)
            self._tally.take(f"lines {one.change}", self._where(line), verdict, found)

    # --- the same, read whole from real files ---------------------------------------------------

    def compare(self, line: int, generator: random.Random) -> None:
        """Check for a few places that looking at the place only tells what reading everything does."""
        is_end = line < ENDS or line >= len(self.segment.lines) - ENDS
        chance = 0.2 if self._job.tries is None else 0.1
        times = 20 * chance if is_end else chance
        for _ in range(int(times) + (generator.random() < times % 1)):
            at, bit = generator.randrange(len(self.segment.lines[line])), generator.randrange(8)
            check = generator.choice((self._compare_flip, self._compare_flip, self._compare_cut))
            try:
                message = check(line, at, bit)
            except AssertionError as error:
                message = str(error)
            self._tally.counts[COMPARED] += 1
            if message:
                self._tally.problems.append(f"{self._where(line, at, bit)}: {message}")
        if generator.random() < chance / 2 and line > 1:
            self._compare_shuffles(line)

    def _compare_flip(self, line: int, at: int, bit: int) -> str:
        segment = self.segment
        whole = self._whole(flips.flipped(segment.data, segment.starts[line] + at, bit))
        part = self._flips.verdict(line, at, bit)
        return "" if whole == part else f"a flip: {part} at the place, {whole} of the whole"

    def _compare_cut(self, line: int, at: int, bit: int) -> str:
        segment, zeros = self.segment, bit % 2
        data = segment.data[: segment.starts[line] + at]
        whole = self._whole(data + bytes(zeros * (segment.starts[-1] - len(data))))
        part = self._cuts.cut(line, at, zeros=cuts.ZEROS * zeros)
        gone = {segment.seqs[i] for i in range(line, len(segment.lines)) if segment.is_event(i)}
        is_same = whole.places == part.places and whole.lost == gone and not whole.wrong
        return "" if is_same else f"a cut: {part} at the place, {whole} of the whole"

    def _compare_shuffles(self, line: int) -> None:
        for one in shuffles.shuffles(self._log, self.segment, line):
            whole, part = self._whole(one.data), one.verdict(self._following)
            self._tally.counts[COMPARED] += 1
            # The whole says, besides, that the segment has not the length that its seal counts.
            if whole.lost != part.lost or whole.wrong or not part.places <= whole.places:
                message = f"{self._where(line)}: {one.change}: {part} at the place, {whole} of the whole"
                self._tally.problems.append(message)

    def _whole(self, data: bytes) -> Verdict:
        return on_disk(self.run, self._log, {self.segment.number: data})

    @property
    def _following(self) -> Segment | None:
        return self._log.segments[self._job.number] if self._job.number < len(self._log.segments) else None

    def _where(self, *place: int) -> str:
        named = zip(("line", "byte", "bit"), place, strict=False)
        return f"segment {self.segment.number} " + " ".join(itertools.chain(*((n, str(v)) for n, v in named)))


def _rearrange(log: Log) -> Tally:
    """Do what can be done to whole segments."""
    tally = Tally()
    for one in shuffles.rearrangements(log):
        with tempfile.TemporaryDirectory(prefix="evlog-damage-") as directory:
            verdict = on_disk(Path(directory), log, one.files)
        tally.take("segments moved", one.what, verdict, shuffles.complaints_of_segments(verdict, one))
    return tally
