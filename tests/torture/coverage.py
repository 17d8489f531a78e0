"""Row 10: branches that no test reaches, and mutants that no test notices."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from tests.torture.mutation import TREE, Explanation, Mutant, explanations, is_installed, mutants
from tests.torture.mutation_runs import Judged, Tests, judge, quick_directory
from tests.torture.rows import Form, Result

TITLE = "Branches and mutants of what writes, reads and remembers"
PROMISE = "every branch is reached by a test, and every mutant that no test notices is explained"
INSTALL = "needs coverage and cosmic-ray: pip install 'evlog[torture]'"
PARTS = {
    "codec": ("codec",),
    "reader": ("segment", "frames", "reader", "block", "merge", "repeats", "remains", "circle", "repair"),
    "writer": ("stream", "chain", "buffer", "writer", "wake", "rewrite", "reserve", "modes"),
    "ring": ("ring", "pages"),
    "cursor": ("cursor",),
    "checkpoint": ("ledger",),
}
"""The modules of each part that the campaign names."""
SHORT = ("codec", "ring", "cursor")
SHORT_TESTS = (
    "tests/events/test_codec.py",
    "tests/events/test_decoding.py",
    "tests/events/test_lines_almost.py",
    "tests/property/test_codec.py",
    "tests/storage/test_cursor.py",
    "tests/storage/test_cursor_values.py",
    "tests/storage/test_pages.py",
    "tests/storage/test_ring.py",
    "tests/storage/test_ring_edges.py",
)
LONG_TESTS = (
    "tests/events",
    "tests/property",
    "tests/storage",
    "tests/simos/test_exhaustive.py",
    "tests/simos/test_hosts.py",
    "tests/simos/test_layer.py",
    "tests/simos/test_machine.py",
    "tests/security/test_private.py",
    "tests/security/test_links.py",
    "tests/delivery/test_exact_ledger.py",
    "tests/delivery/test_ledger.py",
    "tests/delivery/test_ledger_unreadable.py",
    "tests/delivery/test_pump.py",
)
NOT_MEASURED = {
    "tests/storage/test_fork.py::test_child_of_a_busy_parent_can_log": (
        "a lock of coverage's own is held by another thread at the fork"
    ),
}
"""Tests that cannot run while branches are counted, and why."""
JUDGING_S = 10.0
"""Tests of so many seconds, the quickest that reach its line, judge a mutant."""
MUTANTS = {"codec.py": 1000, "cursor.py": 1000, "ring.py": 1000, "pages.py": 1000}
OF_OTHERS = 50
"""Of more mutants of a module than these a sample is tried, which the seed chooses."""


SURVIVED = ("survived", "no tests")


class Module(msgspec.Struct):
    """What the tests reach of a module.

    Attributes:
        missing: branches that no test takes, as a line and where it does not go.
        excluded: lines that are left out.
        tests: names of the tests that reach a line.
    """

    branches: int
    missing: list[tuple[int, int]]
    excluded: list[int]
    tests: dict[int, list[str]]


class Measured(msgspec.Struct):
    """What the tests reach, and how long each takes."""

    modules: dict[str, Module]
    seconds: dict[str, float]

    def tests_of(self, mutant: Mutant) -> Tests:
        """Return the quickest tests that reach the line of a mutant."""
        reached = self.modules[mutant.key.module].tests
        names = self._quickest(reached.get(mutant.line) or self._near(reached))
        return Tests(names, list(map(self._seconds_of, names)))

    def _near(self, reached: dict[int, list[str]]) -> list[str]:
        """Return the tests beside those that reach the module; what runs at its import is reached by none."""
        files = {name.partition("::")[0] for names in reached.values() for name in names}
        return [name for name in self.seconds if name.partition("::")[0] in files]

    def _quickest(self, names: list[str]) -> list[str]:
        names = sorted(names, key=self._seconds_of)
        ends = accumulate(map(self._seconds_of, names))
        return [name for name, end in zip(names, ends, strict=True) if end <= JUDGING_S] or names[:1]

    def _seconds_of(self, name: str) -> float:
        return self.seconds.get(name, 0.0)


def paths_of(part: str) -> list[str]:
    """Return the modules of a part, below the tree; those that are there."""
    places = ("eventlog", "eventlog/storage", "eventlog/delivery")
    return [f"{at}/{name}.py" for name in PARTS[part] for at in places if (TREE / at / f"{name}.py").exists()]


def play(form: Form, seed: int) -> Result:
    """Count branches; in the long form, make mutants and try each."""
    if not (is_installed() and importlib.util.find_spec("coverage")):
        return Result(skipped=INSTALL, lost=None, invented=None)
    parts = SHORT if form == "short" else tuple(PARTS)
    modules = [path for part in parts for path in paths_of(part)]
    measured, problems = measure(modules, SHORT_TESTS if form == "short" else LONG_TESTS)
    counts = Counter({"branches": sum(one.branches for one in measured.modules.values())})
    for path, module in measured.modules.items():
        problems += [f"{path}: no test goes from line {begin} to {end}" for begin, end in module.missing]
        problems += [f"{path}: line {line} is left out of the count" for line in module.excluded]
    if form == "long":
        with ProcessPoolExecutor() as pool:
            made = dict(zip(modules, pool.map(mutants, modules), strict=True))
        chosen = [one for path in modules for one in _sample(made[path], path, seed)]
        judged = judge_twice(chosen, explanations(), lambda some: judge(some, measured.tests_of))
        counts += Counter({f"mutants of {Path(path).stem}": len(made[path]) for path in modules})
        counts += Counter(_counts(judged))
        counts["mutation score, %"] = score(judged)
        problems += complaints([one for path in modules for one in made[path]], judged, explanations())
    return Result(
        cases=sum(count for name, count in counts.items() if name == "branches" or name.endswith(" tried")),
        counts=dict(counts),
        lost=None,
        invented=None,
        problems=problems,
    )


def measure(modules: list[str], tests: tuple[str, ...]) -> tuple[Measured, list[str]]:
    """Run *tests* and return what they reach of *modules*, and what went wrong."""
    with quick_directory() as directory:
        settings, report = directory / "coverage.rc", directory / "report.json"
        durations = directory / "durations.json"
        settings.write_text(_settings(directory / "data", modules))
        environment = os.environ | {"EVLOG_TEST_DURATIONS": str(durations), "TMPDIR": str(directory)}

        def coverage(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "coverage", arguments[0], f"--rcfile={settings}", *arguments[1:]]
            return subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True)

        left_out = [f"--deselect={name}" for name in NOT_MEASURED]
        plugins = ("-p", "tests.torture.coverage_plugin", "-p", "no:cacheprovider", "-p", "no:xdist")
        ran = coverage("run", "-m", "pytest", "-q", *plugins, *left_out, *tests)
        said = ran.stdout[-2000:] + ran.stderr[-500:]
        problems = [f"the tests do not pass: {said}"] if ran.returncode else []
        coverage("combine", "--quiet")
        coverage("json", "--quiet", "--show-contexts", "-o", str(report))
        seconds = msgspec.json.decode(durations.read_bytes(), type=dict[str, float])
        files = msgspec.json.decode(report.read_bytes())["files"]
    return Measured({path: _module(files[path]) for path in modules}, seconds), problems


def _settings(data: Path, modules: list[str]) -> str:
    include = "".join(f"\n  {TREE / path}" for path in modules)
    return (
        f"[run]\nbranch = True\nparallel = True\nrelative_files = True\npatch = subprocess, _exit\n"
        f"data_file = {data}\ninclude ={include}\n"
    )


def _module(found: dict[str, Any]) -> Module:
    lines = {int(line): [name for name in names if name] for line, names in found["contexts"].items()}
    missing = [(begin, end) for begin, end in found["missing_branches"]]
    # A line that is not run and no branch leads to is missing, too.
    ends = {end for _, end in missing}
    missing += [(line, line) for line in found["missing_lines"] if line not in ends]
    return Module(found["summary"]["num_branches"], missing, found["excluded_lines"], lines)


def _sample(made: list[Mutant], module: str, seed: int) -> list[Mutant]:
    """Return as many mutants of a module as are tried, in the order in which they were made."""
    count = min(len(made), MUTANTS.get(Path(module).name, OF_OTHERS))
    return [made[at] for at in sorted(random.Random(seed).sample(range(len(made)), count))]


def _counts(judged: list[Judged]) -> Iterator[str]:
    """Yield what is to be counted of each mutant."""
    for (key, *_), outcome in judged:
        name = Path(key.module).stem
        yield f"of {name} tried"
        if outcome in SURVIVED:
            yield f"of {name} survived"


def score(judged: list[Judged]) -> int:
    """Return how many of a hundred mutants a test notices, rounded down."""
    return 100 * sum(outcome not in SURVIVED for _, outcome in judged) // max(len(judged), 1)


def judge_twice(
    chosen: list[Mutant], explained: list[Explanation], judge: Callable[[list[Mutant]], Iterable[Judged]]
) -> list[Judged]:
    """Return what *judge* makes of mutants; one that is explained and was noticed is judged once more.

    A machine that stands still for seconds lets tests fail that have nothing to do with it.
    """
    judged = list(judge(chosen))
    patterns = [pattern for one in explained for pattern in one.patterns()]
    doubtful = [
        mutant
        for mutant, outcome in judged
        if outcome not in SURVIVED and any(pattern.matches(mutant.key) for pattern in patterns)
    ]
    again = {one.mutant.key: one for one in judge(doubtful)}
    return [again.get(one.mutant.key, one) for one in judged]


def complaints(made: list[Mutant], judged: list[Judged], explained: list[Explanation]) -> Iterator[str]:
    """Yield survivors that nobody explains, and explanations of what is no survivor."""
    patterns = [pattern for one in explained for pattern in one.patterns()]
    survivors = [mutant for mutant, outcome in judged if outcome in SURVIVED]
    for mutant in survivors:
        if not any(pattern.matches(mutant.key) for pattern in patterns):
            yield f"a mutant is noticed by no test: line {mutant.line} of {mutant}"
    tried = {mutant.key for mutant, _ in judged}
    for pattern in patterns:
        meant = {mutant.key for mutant in made if pattern.matches(mutant.key)}
        if not meant:
            yield f"an explanation is about no mutant any more: {pattern}"
        elif meant <= tried and not any(pattern.matches(mutant.key) for mutant in survivors):
            yield f"what is explained is noticed by a test: {pattern}"
