"""Row 5: full disks, full quotas, files that are too long, disks that fail: at every write and every sync.

A scripted run is played once for each of its file operations, which then fails once, or fails with all that
follow, or after a short write. It is played on small file systems, too, and under a limit to the size of
files. Each time it has to end as if nothing had been, and its log has to be true: what is read back was
logged, what is missing is counted there or was told of.

Deliveries and queries are played likewise: they may fail, but the next try has to come out right.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import msgspec

from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.events import Artifact, Dropped, Event, Media, Metrics, type_name
from eventlog.plugins import load_sink
from eventlog.storage.layout import iter_runs
from eventlog.storage.merge import RunReader
from eventlog.storage.repair import recover_run
from tests.query.histories import ask, fold
from tests.torture import preload
from tests.torture.devices import apart, small_tmpfs
from tests.torture.rows import Form, Result
from tests.torture.scripted import LIMIT_S, POINTS, Case, Outcome, Player, sink_options, train

TITLE = "full and failing disks"
PROMISE = "training never sees an exception, the log never lies, what is lost is counted"
CODES = {"ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "EFBIG": errno.EFBIG, "EIO": errno.EIO}
FOR_EVER = 1 << 40
HOW = {
    "once": (1, False),
    "after a short write": (1, True),
    "for a while": (4, False),
    "for ever": (FOR_EVER, False),
}
SINKS = {"local": "", "mirror": "to", "csv": "to", "tensorboard": "log_dir", "sqlite": "path"}
SHORT_CASES = 5
KINDS = {"params": 1, "metrics": 2 * POINTS, "artifact": 1, "summary": 1, "media": 1, "checkpoint": 1}
KINDS |= {"tags": 1, "note": 1, "run_started": 1, "run_ended": 1, "context": 1}
"""What `scripted.train` logs, by type."""
_FAIL_WITH_ONE = {"artifact", "media"}
"""These need a file beside the log; the ring holds everything else until the disk works again."""
_LOSSES = {"artifact": "was not logged", "media": "could not be stored"}
_ANY_LOSS = "events could not be written|were dropped|could not be kept"
"""How the loss of an event is told of where the log cannot take a note of it."""
_TOLD = re.compile("EvlogWarning|not delivered|not answered")


class Tally:
    """What many cases came to."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.cases = self.invented = self.lost = 0
        self.problems: list[str] = []

    def add(self, case: Case, outcome: Outcome, problems: list[str], counted: str) -> None:
        """Count a case; what is wrong names how to see it again."""
        self.cases += 1
        self.counts[counted] += 1
        self.counts["operations that failed"] += outcome.fired
        if outcome.exit_code != 0 or "Traceback" in outcome.said:
            problems = [f"exit code {outcome.exit_code}: {outcome.said.strip()[-400:]}", *problems]
        if outcome.seconds > LIMIT_S:
            problems = [f"it took {outcome.seconds:.0f} s", *problems]
        shown = {name: value for name, value in msgspec.to_builtins(case).items() if name not in _UNSHOWN}
        self.problems += [f"{shown}: {problem}" for problem in problems[:4]]


_UNSHOWN = {"root", "source"}


def play(form: Form, seed: int) -> Result:
    """Play everything, or a part of it that *seed* chooses."""
    tally, skipped = Tally(), []
    chance = random.Random(seed) if form == "short" else None
    with tempfile.TemporaryDirectory(prefix="evlog-full-") as name:
        directory = Path(name).resolve()
        reason = preload.why_not()
        if reason is not None:
            skipped.append(f"failing operations: {reason}")
        elif chance is not None:
            _merge(tally, _play_failures(directory, chance, slice(None)))
        else:
            # They wait more than they work: for a disk that will not come.
            workers = 2 * (os.cpu_count() or 1)
            with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
                parts = [slice(number, None, workers) for number in range(workers)]
                for told in pool.map(partial(_play_failures, directory, None), parts):
                    _merge(tally, told)
        _play_limits(directory, chance, tally)
    try:
        told = apart(partial(_play_small_disks, chance), as_root_of_its_own=True)
    except OSError as error:
        skipped.append(f"small disks: no file system can be mounted here ({error})")
    else:
        _merge(tally, told)
    if not (skipped or tally.counts["operations that failed"]):
        tally.problems.append("no operation failed: nothing was tried")
    return Result(
        cases=tally.cases,
        counts=dict(tally.counts),
        lost=tally.lost,
        invented=tally.invented,
        problems=tally.problems[:100],
        skipped="; ".join(skipped) or None,
    )


def _merge(tally: Tally, other: Tally) -> None:
    tally.counts.update(other.counts)
    tally.cases += other.cases
    tally.lost += other.lost
    tally.invented += other.invented
    tally.problems += other.problems


def _some(cases: list[Case], chance: random.Random | None, share: float = 1.0) -> list[Case]:
    """Return all *cases* in the long form, else a few."""
    return cases if chance is None else chance.sample(cases, min(len(cases), int(SHORT_CASES * share)))


def _one_of_each_way(cases: list[Case], chance: random.Random) -> list[Case]:
    """Return a case of each way to fail: how, and with which error."""
    ways: dict[tuple[int, bool, int], list[Case]] = {}
    for case in cases:
        ways.setdefault((case.times, case.is_short, case.code), []).append(case)
    return [chance.choice(same) for same in ways.values()]


# --- one operation after the other fails ----------------------------------------------------------


def _play_failures(above: Path, chance: random.Random | None, part: slice) -> Tally:
    """Play those of all cases that *part* selects, or of them some that *chance* does."""
    tally, directory = Tally(), Path(tempfile.mkdtemp(dir=above))
    source = directory / "source.txt"
    source.write_text("content\n" * 100)
    with Player(preload.environment(directory)) as player:
        root = directory / "root"
        blank = Case(script="train", root=str(root), source=str(source))
        operations = player.play(blank).operations
        if operations < len(KINDS):
            tally.problems.append(f"only {operations} operations of a whole run were seen: nothing is tried")
        shutil.rmtree(root)
        # Some more: in another run the flusher may cut the same bytes into more pieces.
        every = list(_failing(blank, operations + 5))
        for case in every[part] if chance is None else _one_of_each_way(every, chance):
            outcome = player.play(case)
            _check_run(case, outcome, tally)
            shutil.rmtree(root, ignore_errors=True)
        template = directory / "template"
        train(template, source)
        for script in [*(f"deliver {sink}" for sink in SINKS), "query"]:
            scripted = msgspec.structs.replace(blank, script=script)
            shutil.copytree(template, root)
            operations = player.play(scripted).operations
            shutil.rmtree(root)
            some = [
                case for case in _failing(scripted, operations + 2) if case.code in {errno.ENOSPC, errno.EIO}
            ]
            _play_consumer(player, template, _some(some[part], chance, 0.2), tally)
    return tally


def _failing(blank: Case, operations: int) -> Iterator[Case]:
    """Yield *blank* with each operation failing in each way."""
    for at in range(1, operations + 1):
        for times, is_short in HOW.values():
            for code in CODES.values():
                yield msgspec.structs.replace(blank, at=at, times=times, is_short=is_short, code=code)


def _play_consumer(player: Player, template: Path, cases: list[Case], tally: Tally) -> None:
    for case in cases:
        root = Path(case.root)
        shutil.copytree(template, root)
        outcome = player.play(case)
        kind, _, sink = case.script.partition(" ")
        problems = _check_delivered(root, sink) if kind == "deliver" else _check_answer(root, outcome)
        tally.add(case, outcome, problems, f"cases of {kind}")
        shutil.rmtree(root)


def _check_delivered(root: Path, sink: str) -> list[str]:
    """Deliver what is left, with a disk that works; return how the destination differs from the log."""
    run, options = root / "p" / "r", sink_options(root, SINKS[sink])
    try:
        deliver_run(run, load_sink(sink, **options), sink, timeout_s=5.0)
        proof = prove(run, load_sink(sink, **options), sink)
    except Exception as error:  # whatever it is, it is what the user of the next `evlog sync` would see
        return [f"cannot be delivered afterwards: {type(error).__name__}: {error}"]
    return [] if proof.result == "proven" else [f"{proof.result}: {proof.differences[:2]}"]


def _check_answer(root: Path, outcome: Outcome) -> list[str]:
    """Ask again with a disk that works."""
    wanted = fold(root)["metrics"]
    problems = []
    if f"answered: {len(wanted)}" not in outcome.said and not _TOLD.search(outcome.said):
        problems.append(f"a wrong answer: {outcome.said[-300:]}")
    if ask(root, ["metrics"])["metrics"] != wanted:
        problems.append("the next answer is wrong")
    return problems


# --- limits and small disks -----------------------------------------------------------------------


def _play_limits(directory: Path, chance: random.Random | None, tally: Tally) -> None:
    """Play the run under limits to the size of a file: a short write, then EFBIG."""
    source, root = directory / "source.txt", directory / "root"
    source.write_text("content\n" * 100)
    limits = [*range(0, 2000, 97), *range(2000, 20_000, 331), *range(20_000, 80_000, 4999)]
    cases = [Case(script="train", root=str(root), source=str(source), limit_bytes=size) for size in limits]
    with Player() as player:
        for case in _some(cases, chance, 0.3):
            outcome = player.play(case)
            _check_run(case, outcome, tally, "runs under a limit to the size of files")
            shutil.rmtree(root, ignore_errors=True)


def _play_small_disks(chance: random.Random | None) -> Tally:
    """Play the run in memories of all sizes up to what it needs; in a process apart."""
    tally = Tally()
    sizes = [4096 * pages for pages in range(1, 80)]
    with tempfile.TemporaryDirectory(prefix="evlog-full-") as name:
        source = Path(name) / "source.txt"
        source.write_text("content\n" * 100)
        for size in sizes if chance is None else chance.sample(sizes, SHORT_CASES // 3):
            # A process for each disk: one that was started before would not see it.
            with small_tmpfs(size) as disk, Player() as player:
                case = Case(script="train", root=str(disk / "root"), source=str(source))
                outcome = player.play(case)
                outcome.fired = int(bool(_TOLD.search(outcome.said)))
                _check_run(case, outcome, tally, f"runs on small disks, up to {sizes[-1] >> 10} KiB")
    return tally


# --- the log ------------------------------------------------------------------------------------------


def _check_run(case: Case, outcome: Outcome, tally: Tally, counted: str = "") -> None:
    """Compare what is read back with what was logged, and what is missing with what was counted."""
    runs = list(iter_runs(Path(case.root)))
    problems: list[str] = []
    read: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for run in runs:
        recover_run(run.path)
        reader = RunReader(run.path)
        steps: list[int] = []
        for part in reader.slices():
            for event in part.events:
                if isinstance(event, Dropped):
                    dropped.update(event.counts)
                    continue
                read[type_name(event)] += 1
                if isinstance(event, Metrics) and event.step is not None:
                    steps.append(event.step)
                    if event.data != {"loss": event.step + 0.5}:
                        tally.invented += 1
                        problems.append(f"invented: {event}")
                elif isinstance(event, (Artifact, Media)):
                    problems += _check_file(run.path, event)
        if steps != sorted(set(steps)):
            problems.append(f"steps out of order or twice: {steps}")
    too_many = {kind: count for kind, count in read.items() if count > KINDS.get(kind, 0)}
    if too_many:
        tally.invented += sum(too_many.values())
        problems.append(f"more than was logged: {too_many}")
    missing = {kind: count - read[kind] for kind, count in KINDS.items() if count > read[kind]}
    tally.counts["events lost"] += sum(missing.values())
    tally.counts["of them counted in the log"] += sum(
        min(count, dropped[kind]) for kind, count in missing.items()
    )
    for kind in missing.keys() | dropped.keys():
        if dropped[kind] > missing.get(kind, 0):
            problems.append(f"{dropped[kind]} {kind} are counted as lost, {missing.get(kind, 0)} are missing")
        told = f"{_ANY_LOSS}|{_LOSSES.get(kind, _ANY_LOSS)}"
        if missing.get(kind, 0) > dropped[kind] and not re.search(told, outcome.said):
            tally.lost += missing[kind] - dropped[kind]
            problems.append(
                f"{missing[kind]} {kind} are missing, {dropped[kind]} counted, and nobody was told"
            )
    if case.at and case.times == 1 and missing.keys() - _FAIL_WITH_ONE:
        problems.append(f"one operation has failed, and {missing} are missing")
    if missing and not outcome.fired and case.limit_bytes is None:
        problems.append(f"nothing has failed, and {missing} are missing")
    tally.add(case, outcome, problems, counted or "runs with a failing operation")


def _check_file(run: Path, event: Event) -> list[str]:
    """Return what is wrong with the copy of an artifact, or with the payload of a long text."""
    if isinstance(event, Artifact):
        path, digest = run / event.path, event.sha256
    elif isinstance(event, Media) and event.payload is not None:
        path, digest = run / event.payload.path, event.payload.sha256
    else:
        return []
    if not path.is_file():
        return [f"{event.path if isinstance(event, Artifact) else path} is logged and not there"]
    is_same = hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return [] if is_same else [f"{path.name} is not what was logged"]
