"""What a run's log says, gathered once for comparison, statistics and audits.

Everything is folded from events, so it is the same on another machine, for crashed runs and while a run
goes on.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from eventlog import events as ev
from eventlog.errors import BadValueError
from eventlog.events import AnyEvent
from eventlog.projections import RunFold, RunView
from eventlog.replay import alive_writers, open_run
from eventlog.values import flatten, number_in_memory


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as its log tells it.

    Attributes:
        path: the run's directory.
        view: params, metrics in few numbers, context, tags, artifacts, status, ….
        evaluations: in the order of the log.
        samples: by benchmark, then by index; of one index the last event counts. Empty unless asked for.
    """

    path: Path
    view: RunView
    evaluations: list[ev.Evaluation]
    datasets: list[ev.Dataset]
    checkpoints: list[ev.Checkpoint]
    samples: dict[str, dict[int, ev.Sample]]

    @property
    def label(self) -> str:
        """Return ``PROJECT/RUN_ID``."""
        return f"{self.view.project}/{self.view.run_id}"


def load(run: Path, *, with_samples: bool = False) -> RunFacts:
    """Return what the log in the directory *run* says.

    Args:
        with_samples: keep the samples of evaluations too; they may be many.

    Raises:
        OSError: the log cannot be read.
    """
    reader = open_run(run)
    fold = RunFold(run.parent.name, run.name)
    facts = RunFacts(
        path=run,
        view=fold.view(set()),
        evaluations=[],
        datasets=[],
        checkpoints=[],
        samples={},
    )
    for part in reader.slices():
        fold.apply_slice(part.writer, part.rank, part.events)
        for event in part.events:
            _keep(facts, event, with_samples=with_samples)
    view = fold.view(alive_writers(reader), findings=len(reader.findings))
    return msgspec.structs.replace(facts, view=view)


def _keep(facts: RunFacts, event: AnyEvent, *, with_samples: bool) -> None:
    match event:
        case ev.Evaluation():
            facts.evaluations.append(event)
        case ev.Dataset():
            facts.datasets.append(event)
        case ev.Checkpoint():
            facts.checkpoints.append(event)
        case ev.Sample() if with_samples:
            facts.samples.setdefault(event.benchmark, {})[event.index] = event


def results(facts: RunFacts) -> dict[str, float]:
    """Return one number for each result of a run.

    A metric counts with its last value, unless the summary has a number of the same name; a metric of an
    evaluation is called ``benchmark/metric``, counts with its last evaluation, and yields to the other two.
    Texts and booleans of the summary are no results; NaN and infinities are.
    """
    found: dict[str, float] = {}
    for evaluation in facts.evaluations:
        for name, value in evaluation.metrics.items():
            with contextlib.suppress(BadValueError):
                found[f"{evaluation.benchmark}/{name}"] = number_in_memory(value)
    found |= {key: stats.last for key, stats in facts.view.metrics.items()}
    for key, final in flatten(facts.view.summary).items():
        if not isinstance(final, bool) and (isinstance(final, (int, float)) or final in _NON_FINITE):
            found[key] = number_in_memory(final)
    return found


_NON_FINITE = ("NaN", "Infinity", "-Infinity")
