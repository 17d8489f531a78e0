"""Asks a model: batches at the same time, within its rates, again when that may help.

A sync model is called in the caller's own thread as long as one call at a time is wanted and no time limit:
then nothing here needs an event loop, a debugger works, and Ctrl-C arrives inside of the model. Otherwise
each call gets a thread of its own. An async model runs in an event loop; where one runs already, as in a
notebook, in a thread beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import NamedTuple, TypeVar, cast

from eventlog.evaluation.cache import AnswerCache, key_of
from eventlog.evaluation.engine_errors import BadEvaluationError, ModelCallError
from eventlog.evaluation.limits import (
    MAX_RETRY_AFTER_S,
    SYSTEM_TIMING,
    Pace,
    RateLimit,
    Retry,
    Timing,
    kind_of,
    retry_after_of,
)
from eventlog.evaluation.model import Answer, Model, Prompt

T = TypeVar("T")
Batch = TypeVar("Batch")


class Outcome(NamedTuple):
    """An answer, or why there is none.

    Attributes:
        latency_ms: of the call, divided by the prompts in it; None if the answer was in the cache.
    """

    answer: Answer | Exception
    latency_ms: float | None = None
    is_cached: bool = False


class Caller:
    """Gets answers from one model.

    Args:
        timeout_s: of one call; default as the model says.
        concurrency: calls at the same time; default as the model says.
    """

    def __init__(
        self,
        model: Model,
        *,
        batch_size: int | None = None,
        concurrency: int | None = None,
        rate_limit: RateLimit | None = None,
        retry: Retry | None = None,
        timeout_s: float | None = None,
        cache: AnswerCache | None = None,
        timing: Timing = SYSTEM_TIMING,
    ) -> None:
        defaults = model.defaults
        self.model, self.cache, self.timing = model, cache, timing
        size = _at_least_one("batch_size", defaults.batch_size if batch_size is None else batch_size)
        self.batch_size = min(size, defaults.largest_batch or size)
        self.concurrency = _at_least_one(
            "concurrency", defaults.concurrency if concurrency is None else concurrency
        )
        self.timeout_s = defaults.timeout_s if timeout_s is None else timeout_s
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise BadEvaluationError(f"timeout_s is a number above 0, not {self.timeout_s!r}")
        self.retry = retry or Retry()
        self.calls = 0
        self._pace = Pace(rate_limit or RateLimit())
        self._chance = random.Random()  # one of its own: the job's seeds stay as they are
        self.is_inline = model.is_sync and self.concurrency == 1 and self.timeout_s is None

    # --- all batches --------------------------------------------------------------------------

    def run(self, batches: Iterable[Batch], work: Callable[[Batch], Coroutine[object, object, None]]) -> None:
        """Do *work* for each batch, at most `concurrency` at a time; the first error ends it.

        *batches* is read only as fast as it is worked off. Nothing of *work* runs at the same time in two
        threads.
        """
        if self.is_inline:
            for batch in batches:
                run_inline(work(batch))
            run_inline(self.model.close())
        else:
            run_in_loop(lambda: self._run_many(batches, work))

    async def _run_many(
        self, batches: Iterable[Batch], work: Callable[[Batch], Coroutine[object, object, None]]
    ) -> None:
        left = iter(batches)

        async def one_after_another() -> None:
            for batch in left:  # shared: each batch is taken by one of the workers
                await work(batch)

        workers = [asyncio.ensure_future(one_after_another()) for _ in range(self.concurrency)]
        try:
            for done in asyncio.as_completed(workers):
                await done
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self.model.close()

    # --- one batch ----------------------------------------------------------------------------

    async def answer(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        """Return the outcome for each prompt, from the cache where it is there.

        Raises:
            ModelCallError: of the kind ``fatal``; no other prompt would be answered either.
        """
        if self.cache is None:
            return await self._ask(prompts)
        keys = [key_of(self.model, prompt) for prompt in prompts]
        known = self.cache.get(keys)
        missing = [i for i, key in enumerate(keys) if key not in known]
        asked = await self._ask([prompts[i] for i in missing]) if missing else []
        new = dict(zip(missing, asked, strict=True))
        self.cache.put({keys[i]: o.answer for i, o in new.items() if isinstance(o.answer, Answer)})
        return [new[i] if i in new else Outcome(known[key], None, True) for i, key in enumerate(keys)]

    async def _ask(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        """Ask, and ask again for those that failed in a way that may pass."""
        outcomes: dict[int, Outcome] = {}
        left = list(range(len(prompts)))
        for attempt in range(self.retry.retries + 1):
            found = await self._ask_apart([prompts[i] for i in left])
            outcomes |= dict(zip(left, found, strict=True))
            left = [i for i in left if _may_pass(outcomes[i].answer)]
            if not left or attempt == self.retry.retries:
                break
            await self._back_off(attempt, [outcomes[i].answer for i in left])
        return [outcomes[i] for i in range(len(prompts))]

    async def _back_off(self, attempt: int, errors: Sequence[Answer | Exception]) -> None:
        asked = [
            after for e in errors if isinstance(e, Exception) and (after := retry_after_of(e)) is not None
        ]
        retry_after_s = max(asked, default=None)
        if retry_after_s is not None:
            if retry_after_s > MAX_RETRY_AFTER_S:
                raise ModelCallError(
                    f"the model asks to wait for {retry_after_s:.0f} s. Go on with the evaluation then",
                    "fatal",
                )
            # The server means all of us, not this call alone: the next calls wait, this one's too.
            self._pace.hold(self.timing.monotonic_s() + retry_after_s)
        await self._sleep(self.retry.wait_s(attempt, self._chance))

    async def _ask_apart(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        """Ask for all at once; if that fails for good, for each alone, for one of them may be the cause."""
        found = await self._call(prompts)
        if found is None:
            found = [outcome for prompt in prompts for outcome in (await self._call([prompt]) or ())]
        return found

    async def _call(self, prompts: Sequence[Prompt]) -> list[Outcome] | None:
        """Return the outcomes of one call, or None if it failed for good with several prompts in it."""
        wait_s, reserved = self._pace.reserve(self.timing.monotonic_s(), _guess_tokens(prompts))
        if wait_s > 0:
            await self._sleep(wait_s)
        start = self.timing.monotonic_s()
        self.calls += 1
        try:
            answers = list(await self._limited(prompts))
            if len(answers) != len(prompts):
                raise ModelCallError(f"the model returned {len(answers)} outputs for {len(prompts)} prompts")
        except Exception as error:
            if kind_of(error) == "final" and len(prompts) > 1:
                return None
            answers = [error] * len(prompts)
        latency_ms = (self.timing.monotonic_s() - start) * 1000 / len(prompts)
        self._pace.settle(reserved, _tokens(answers, reserved))
        for answer in answers:
            if isinstance(answer, Exception) and kind_of(answer) == "fatal":
                raise answer
        return [Outcome(answer, latency_ms) for answer in answers]

    async def _limited(self, prompts: Sequence[Prompt]) -> Sequence[Answer | Exception]:
        if self.is_inline:
            return await self.model.ask(prompts)
        asking: Awaitable[Sequence[Answer | Exception]] = (
            in_thread(lambda: run_inline(self.model.ask(prompts)))
            if self.model.is_sync
            else self.model.ask(prompts)
        )
        if self.timeout_s is None:
            return await asking
        limit = asyncio.timeout(self.timeout_s)
        try:
            async with limit:
                return await asking
        except TimeoutError as error:
            if not limit.expired():
                raise  # the model's own
            raise ModelCallError(f"no answer within {self.timeout_s:g} s", "transient") from error

    async def _sleep(self, seconds: float) -> None:
        if self.is_inline:
            self.timing.wait(seconds)
        else:
            await self.timing.sleep(seconds)


def ask_all(model: Model, prompts: Sequence[Prompt], caller: Caller | None = None) -> list[Outcome]:
    """Return the outcome for each prompt, in their order; for judges and notebooks."""
    caller = caller or Caller(model)
    found: dict[int, Outcome] = {}

    async def work(batch: range) -> None:
        outcomes = await caller.answer([prompts[i] for i in batch])
        found.update(zip(batch, outcomes, strict=True))

    size, count = caller.batch_size, len(prompts)
    caller.run((range(start, min(start + size, count)) for start in range(0, count, size)), work)
    return [found[i] for i in range(count)]


# --- ways to run a coroutine -------------------------------------------------------------------


def run_inline(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine that never waits for an event loop, here and now."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    coroutine.close()
    raise ModelCallError("a model that is declared sync waits for an event loop", "fatal")


def run_in_loop(make: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine in an event loop of its own; beside one that runs in this thread, in another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    done: list[T | BaseException] = []
    tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []

    async def run() -> T:
        task = asyncio.ensure_future(make())
        tasks.append((asyncio.get_running_loop(), task))
        return await task

    def target() -> None:
        try:
            done.append(asyncio.run(run()))
        except BaseException as error:  # given to the thread that waits
            done.append(error)

    thread = threading.Thread(target=target, name="evlog-evaluation", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        for loop, task in tasks:
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    (result,) = done
    if isinstance(result, BaseException):
        raise result
    return result


async def in_thread(function: Callable[[], T]) -> T:
    """Run *function* in a new thread; who stops waiting for it leaves it behind.

    The threads are daemons: a model that hangs must not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # no error: it is there

    def target() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = function()
        except StopIteration as error:  # a future cannot carry it
            failure = RuntimeError(f"the model raised StopIteration: {error}")
        except BaseException as error:  # given to who waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=target, name="evlog-model", daemon=True).start()
    return await future


def _may_pass(answer: Answer | Exception) -> bool:
    return isinstance(answer, Exception) and kind_of(answer) == "transient"


def _tokens(answers: Sequence[Answer | Exception], reserved: float) -> float:
    """Return the tokens of a call; those that were reserved for it if the model does not count them."""
    good = [answer for answer in answers if isinstance(answer, Answer)]
    counts = [count for one in good for count in (one.prompt_tokens, one.completion_tokens)]
    if counts and all(count is None for count in counts):
        return reserved
    return sum(count or 0 for count in counts)


def _guess_tokens(prompts: Sequence[Prompt]) -> float:
    """Return a rough number of tokens: four characters each, and as much again for the answer."""
    return sum(len(p) if isinstance(p, str) else sum(len(str(m)) for m in p) for p in prompts) / 2


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise BadEvaluationError(f"{name} is a whole number from 1 on, not {value!r}")
    return value
