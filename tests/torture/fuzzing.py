"""Row 7: arbitrary and almost valid bytes for everything that reads.

    python -m tests.torture.fuzzing --one ring 123      one input again, with its traceback
    python -m tests.torture.fuzzing --keep 20000        look for interesting inputs, for the corpus

Inputs are taken in child processes with a limit on memory, and each with a limit on processor time. A child
that dies leaves the number of its input behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import msgspec

from tests.torture.giants import giants
from tests.torture.rows import Form, Result
from tests.torture.targets import STORAGE, OffenceError, Target, memory_directory, scratching
from tests.torture.targets_beside import BESIDE

TITLE = "Arbitrary and almost valid bytes for reader, codec, checkpoints, rings, configuration and importers"
PROMISE = "no error that is not documented, no hang, bounded memory, no file outside of the run opened"
TARGETS: dict[str, Target] = {target.name: target for target in (*STORAGE, *BESIDE)}
MILLIONS: dict[Form, float] = {"short": 0.006, "long": 10.0}
CORPUS = Path(__file__).parent / "corpus"
GIANTS, KEPT = "giants", "corpus"
SECONDS_OF_AN_INPUT, SECONDS_OF_A_GIANT, SECONDS_WITHOUT_A_WORD = 5, 60, 180
MEMORY_BYTES = 192 << 20
JOB_INPUTS = 100_000


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs of one target, by number; or the giants, or the corpus."""

    target: str
    first: int = 0
    count: int = 0
    is_long: bool = False


Job = list[Part]
"""What one child takes, one part after the other."""


class Told(msgspec.Struct, kw_only=True):
    """What a child says.

    Attributes:
        outcomes: how often each was seen.
        problems: by what went wrong where: how often, and an input that does it.
    """

    inputs: dict[str, int] = {}
    outcomes: dict[str, int] = {}
    problems: dict[str, tuple[int, str]] = {}

    def add(self, other: Told) -> None:
        """Add what another child says."""
        for target, count in other.inputs.items():
            self.inputs[target] = self.inputs.get(target, 0) + count
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        for what, (count, where) in other.problems.items():
            self.blame(what, where, count)

    def blame(self, what: str, where: str, count: int = 1) -> None:
        """Note something that should not be."""
        before, first = self.problems.get(what, (0, where))
        self.problems[what] = (before + count, first)


def play(form: Form, seed: int) -> Result:
    """Feed everything."""
    told, jobs = Told(), list(_jobs(form, seed))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for one in pool.map(_in_children, jobs):
            told.add(one)
    return Result(
        cases=sum(told.inputs.values()),
        counts={
            **{f"for {name}": count for name, count in told.inputs.items()},
            "different outcomes": len(told.outcomes),
        },
        lost=None,
        invented=None,
        problems=[
            f"{what}, {count} times, python -m tests.torture.fuzzing --one {where}"
            for what, (count, where) in told.problems.items()
        ],
    )


def _jobs(form: Form, seed: int) -> Iterator[Job]:
    """Yield jobs: in the long form many small ones, in the short one two, for a start costs a second."""
    is_long = form == "long"
    # A seed is a range of numbers of its own: a number alone makes an input again.
    base = (seed - 1) * 1_000_000_000
    kept = Part(target=KEPT, count=len(_kept()))
    beside = [kept, Part(target=GIANTS, count=len(giants(is_long=False)), is_long=is_long)]
    parts = []
    for name, target in TARGETS.items():
        count = max(1, round(target.share * MILLIONS[form]))
        parts += [
            Part(target=name, first=base + first, count=min(JOB_INPUTS, count - first))
            for first in range(0, count, JOB_INPUTS)
        ]
    yield beside
    yield from ([part] for part in parts) if is_long else [parts]


# --- the side of the parent -----------------------------------------------------------------


def _in_children(job: Job) -> Told:
    """Let a child take the inputs of *job*, and another one those after an input that killed it."""
    told = Told()
    while job:
        one, died_at, why = _in_child(job)
        told.add(one)
        if died_at is None:
            break
        place, number = died_at
        part = job[place]
        told.blame(f"{part.target}: {why}", f"{part.target} {number}")
        rest = part.first + part.count - number - 1
        job = [msgspec.structs.replace(part, first=number + 1, count=rest), *job[place + 1 :]]
    return told


def _in_child(job: Job) -> tuple[Told, tuple[int, int] | None, str]:
    """Return what the child says, the part and number of the input that killed it, if one did, and how."""
    # The directory is the parent's: a child that is killed leaves nothing behind.
    with tempfile.TemporaryFile() as told, memory_directory() as home:
        progress = Path(home) / "progress"
        progress.touch()
        command = [sys.executable, "-m", "tests.torture.fuzzing", "--job", home]
        order = msgspec.json.encode(job)
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdin is not None
        child.stdin.write(order)
        child.stdin.close()
        is_stuck = _wait(child, progress)
        told.seek(0)
        if child.returncode == 0:
            return msgspec.json.decode(told.read(), type=Told), None, ""
        words = progress.read_text().split() or ["0", str(job[0].first)]
        at = int(words[0]), int(words[1])
    if is_stuck:
        return Told(), at, f"nothing happened for {SECONDS_WITHOUT_A_WORD} s"
    is_slow = child.returncode == -signal.SIGPROF
    return Told(), at, "it takes too long" if is_slow else f"the process died: {child.returncode}"


def _wait(child: subprocess.Popen[bytes], progress: Path) -> bool:
    """Wait for the end; tell whether the child had to be killed because nothing went on."""
    seen, tick = b"", 0
    while True:
        try:
            child.wait(1.0)
        except subprocess.TimeoutExpired:
            now = progress.read_bytes()
            tick = tick + 1 if now == seen else 0
            seen = now
            if tick > SECONDS_WITHOUT_A_WORD:
                child.kill()
                child.wait()
                return True
        else:
            return False


# --- the side of the child ------------------------------------------------------------------


def _take_job(home: Path) -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    fd = os.open(home / "progress", os.O_WRONLY)
    told, files = Told(), home / "files"
    files.mkdir()
    with scratching(files):
        _limit_memory()
        for place, part in enumerate(job):
            # Processor time, not time: other processes must not make an input look slow.
            limit = SECONDS_OF_A_GIANT if part.target == GIANTS else SECONDS_OF_AN_INPUT
            for number in range(part.first, part.first + part.count):
                os.pwrite(fd, b"%d %d    " % (place, number), 0)
                signal.setitimer(signal.ITIMER_PROF, limit)
                _take(part.target, number, told, is_long=part.is_long)
            told.add(Told(inputs={part.target: part.count}))
        signal.setitimer(signal.ITIMER_PROF, 0)
    sys.stdout.buffer.write(msgspec.json.encode(told))


def _limit_memory() -> None:
    """Let this process have little more memory than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _take(target: str, number: int, told: Told, *, is_long: bool) -> None:
    try:
        outcome = _run(target, number, is_long=is_long)
    except Exception as error:  # whatever it is, it is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.name for frame in frames if "eventlog" in frame.filename][-3:] or [frames[-1].name]
        what = str(error)[:80] if isinstance(error, OffenceError) else ""
        place = f"{type(error).__name__} in {' > '.join(own)}"
        told.blame(f"{target}: {place} {what}".strip(), f"{target} {number}")
    else:
        told.outcomes[outcome] = told.outcomes.get(outcome, 0) + 1


def _run(target: str, number: int, *, is_long: bool) -> str:
    if target == GIANTS:
        name, call = list(giants(is_long=is_long).items())[number]
        call()
        return name
    if target == KEPT:
        path = _kept()[number]
        return f"{path.stem}: {TARGETS[path.name.partition('-')[0]].take(path.read_bytes())}"
    return f"{target}: {TARGETS[target].take(TARGETS[target].make(random.Random(number)))}"


# --- the corpus -----------------------------------------------------------------------------

LARGEST_KEPT, MOST_KEPT = 3000, 24


def _kept() -> list[Path]:
    return sorted(CORPUS.glob("*-*.bin"))


def keep(count: int) -> int:
    """Put one small input of each outcome that is not in the corpus yet into it; return how many."""
    kept = 0
    with scratching():
        for name, target in TARGETS.items():
            if name == "database":
                continue  # not small
            seen = {_outcome_of(target, path.read_bytes()) for path in CORPUS.glob(f"{name}-*.bin")}
            for number in range(count):
                data = target.make(random.Random(number))
                if len(data) > LARGEST_KEPT or len(seen) >= MOST_KEPT:
                    continue
                outcome = _outcome_of(target, data)
                if outcome not in seen:
                    seen.add(outcome)
                    (CORPUS / f"{name}-{sha256(data).hexdigest()[:12]}.bin").write_bytes(data)
                    kept += 1
    return kept


def _outcome_of(target: Target, data: bytes) -> str:
    try:
        return target.take(data)
    except Exception as error:
        return f"{type(error).__name__} {str(error)[:20]}"


def main() -> None:
    """Do what the package's `play`, or a person, asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, metavar=("TARGET", "NUMBER"))
    parser.add_argument("--keep", type=int, metavar="INPUTS")
    arguments = parser.parse_args()
    if arguments.job:
        _take_job(arguments.job)
    elif arguments.one:
        with scratching():
            _limit_memory()
            outcome = _run(arguments.one[0], int(arguments.one[1]), is_long=False)
        sys.stdout.write(f"{outcome}\n")
    elif arguments.keep:
        sys.stdout.write(json.dumps({"kept": keep(arguments.keep)}) + "\n")


if __name__ == "__main__":
    main()
