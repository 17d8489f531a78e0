"""Evaluates a model on a benchmark, inside of a run.

Each sample is an event as soon as it has a score, so an evaluation that is killed goes on where it was; what
was asked is not asked again, but for the calls that were under way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from eventlog.evaluation.benchmark import Benchmark, Prompt
from eventlog.evaluation.engine_errors import BadEvaluationError, TooManyErrorsError
from eventlog.evaluation.engine_log import (
    Kept,
    archive,
    kept_by,
    log_data,
    log_result,
    run_for,
    sorted_out,
)
from eventlog.evaluation.engine_options import (
    Options,
    Progress,
    answer_cache,
    options_of,
    params_of,
    run_name,
)
from eventlog.evaluation.engine_task import GIVE_UP_AFTER, Task, load_task, reason, third_party
from eventlog.evaluation.limits import RateLimit, Retry
from eventlog.evaluation.model import Answer, Model, as_model
from eventlog.evaluation.model_prices import price_of
from eventlog.evaluation.results import (
    EvaluationResult,
    SampleResult,
    measure,
    scored,
    to_event,
    usage_of,
)
from eventlog.evaluation.runner import Caller, Outcome, in_thread
from eventlog.values import text

if TYPE_CHECKING:
    from eventlog.tracker.core import Tracker


def evaluate(
    benchmark: Benchmark,
    model: object,
    *,
    tracker: Tracker | None = None,
    resume: bool = False,
    **options: object,
) -> EvaluationResult:
    """Return how good *model* is at *benchmark*.

    Args:
        model: a callable that takes a list of prompts and returns a list of texts (sync or async), or a
            `eventlog.evaluation.model.Model` such as an endpoint.
        tracker: whose run gets the samples and results; without it they get a run of their own.
        resume: go on with what the tracker's run holds of this benchmark; samples that failed are asked
            again.
        options: the fields of `Options`: ``split``, ``num_samples``, ``concurrency``, ….

    Raises:
        BadEvaluationError: there is nothing to evaluate, or an option is not what it should be.
        DataChangedError: *resume*, and the data are not those of the run.
        TooManyErrorsError: more samples failed than allowed.
        ModelCallError: the model cannot be used at all, as with a wrong key or a wrong shape of its outputs.
    """
    chosen = options_of(options)
    asked = as_model(model)
    if resume and tracker is None:
        raise BadEvaluationError("resume needs the tracker of a run: start_run(run_id=…, resume=True)")
    task = load_task(benchmark, chosen)  # what has no data leaves no run behind
    params = params_of(benchmark.name, asked, chosen)
    with run_for(tracker, run_name(benchmark.name, asked), params=params) as own:
        result = evaluate_in(own, task, asked, chosen, resume=resume)
        archive(own, {result.benchmark: result}, {})
    return result


def evaluate_in(
    tracker: Tracker, task: Task, model: Model, options: Options, *, resume: bool
) -> EvaluationResult:
    """Evaluate in the active run of *tracker*, and log all but the archive."""
    if options.price is None:
        options = msgspec.structs.replace(options, price=price_of(model.name, root=tracker.root))
    kept = kept_by(tracker, task.benchmark.name, options.step) if resume else Kept(samples={})
    log_data(tracker, task, kept)
    cache = answer_cache(tracker.root, model, options)
    try:
        caller = Caller(
            model,
            batch_size=options.batch_size,
            concurrency=options.concurrency,
            rate_limit=options.rate_limit if isinstance(options.rate_limit, RateLimit) else None,
            retry=Retry(retries=options.retries),
            timeout_s=options.timeout_s,
            cache=cache,
            timing=options.timing,
        )
        result = _Evaluation(tracker, task, caller, options, kept).run()
    finally:
        if cache is not None:
            cache.close()
    log_result(tracker, result)
    return result


class _Evaluation:
    """One evaluation under way. Not thread-safe: the runner calls one of its methods at a time."""

    def __init__(self, tracker: Tracker, task: Task, caller: Caller, options: Options, kept: Kept) -> None:
        self.tracker, self.task, self.benchmark, self.items = tracker, task, task.benchmark, task.items
        self.caller, self.options, self.kept = caller, options, kept
        self.samples = task.checked(kept.samples, tracker.run_id or "")
        self.resumed = sum(sample.error is None for sample in self.samples.values())
        self.done, self.errors, self.answered = self.resumed, 0, self.resumed

    def run(self) -> EvaluationResult:
        """Ask for all that is missing; return the results."""
        self._tell()
        start = self.caller.timing.monotonic_s()
        self.caller.run(self._batches(), self._work)
        return self._result(self.kept.seconds + self.caller.timing.monotonic_s() - start)

    def _batches(self) -> Iterator[list[int]]:
        """Yield the numbers of the items that have no score yet."""
        batch: list[int] = []
        for index in range(len(self.items)):
            sample = self.samples.get(index)
            if sample is not None and sample.error is None:
                continue
            batch.append(index)
            if len(batch) == self.caller.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _work(self, batch: list[int]) -> None:
        """Ask for a batch, and log what came of it."""
        young = [self.task.sample(index) for index in batch]
        # With an output it was answered before, and only its scoring failed; with an error it has no prompt.
        old = [self._with_old_output(sample) for sample in young]
        asked = [i for i, sample in enumerate(old) if sample.output is None and sample.error is None]
        outcomes = await self.caller.answer([self._prompt(old[i]) for i in asked]) if asked else []
        for i, outcome in zip(asked, outcomes, strict=True):
            old[i] = _answered(old[i], outcome)
        finished = await self._scored(old)
        for sample in finished:
            self._keep(sample)
        self._tell()
        self._check_errors(finished)

    def _with_old_output(self, sample: SampleResult) -> SampleResult:
        old = self.samples.get(sample.index)
        if old is None or old.output is None or sample.error is not None:
            return sample
        return msgspec.structs.replace(old, error=None)

    def _prompt(self, sample: SampleResult) -> Prompt:
        return self.benchmark.prompt(self.items[sample.index])

    async def _scored(self, samples: Sequence[SampleResult]) -> list[SampleResult]:
        def score() -> list[SampleResult]:
            return [self._score(sample) for sample in samples]

        # A judge or an algebra system takes its time, and the event loop has others to serve.
        return score() if self.caller.is_inline else await in_thread(score)

    def _score(self, sample: SampleResult) -> SampleResult:
        if sample.output is None or sample.error is not None:
            return sample
        try:
            return scored(sample, self.benchmark.score(self.items[sample.index], sample.output))
        except Exception as error:  # it costs this sample, and is told there
            return msgspec.structs.replace(sample, error=reason("the output cannot be scored", error))

    def _keep(self, sample: SampleResult) -> None:
        self.tracker.log_event(to_event(self.benchmark.name, sample, self.options.step))
        self.samples[sample.index] = sample
        self.done += 1
        self.errors += sample.error is not None
        self.answered += sample.error is None

    def _check_errors(self, finished: Sequence[SampleResult]) -> None:
        limit = self.options.max_errors
        is_too_much = limit is not None and self.errors > limit
        is_hopeless = self.errors >= GIVE_UP_AFTER and not self.answered
        if is_too_much or is_hopeless:
            last = next((sample.error for sample in reversed(finished) if sample.error), "")
            raise TooManyErrorsError(self.benchmark.name, self.errors, self.answered, last)

    def _tell(self) -> None:
        if self.options.on_progress is not None:
            self.options.on_progress(
                Progress(
                    benchmark=self.benchmark.name, done=self.done, total=len(self.items), errors=self.errors
                )
            )

    def _result(self, seconds: float) -> EvaluationResult:
        samples = [self.samples[index] for index in range(len(self.items))]
        good = [sample for sample in samples if sample.error is None]
        model = self.caller.model
        usage = usage_of(samples, self.options.price)
        name = self.benchmark.name
        found = third_party(name, "aggregate", lambda: self.benchmark.aggregate([s.score for s in good]))
        scores, texts = sorted_out(name, found if good else {})
        return EvaluationResult(
            benchmark=name,
            scores=scores,
            measured=measure(samples, seconds, usage),
            texts=texts,
            samples=samples,
            num_samples=len(samples),
            errors=len(samples) - len(good),
            resumed=self.resumed,
            usage=usage,
            model=model.name,
            parameters=dict(model.parameters),
            split=self.options.split,
            step=self.options.step,
            run_id=self.tracker.run_id,
        )


def _answered(sample: SampleResult, outcome: Outcome) -> SampleResult:
    answer = outcome.answer
    if isinstance(answer, Answer):
        counts = (answer.prompt_tokens, answer.completion_tokens)
        return msgspec.structs.replace(
            sample,
            output=answer.text,
            latency_ms=outcome.latency_ms,
            tokens=None if counts == (None, None) else (counts[0] or 0, counts[1] or 0),
            finish=None if answer.finish in (None, "stop") else text(answer.finish or ""),
            is_cached=outcome.is_cached,
        )
    return msgspec.structs.replace(sample, error=reason("no answer", answer), latency_ms=outcome.latency_ms)
