"""Delivers many runs to several destinations, once; what happens to one of them never stops the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec
from msgspec.structs import replace

from eventlog.delivery.batches import find_start
from eventlog.delivery.pump import TIMEOUT_S, deliver_run
from eventlog.delivery.shaping import Shape
from eventlog.errors import EvlogError, LeaseHeldError, LeaseLostError
from eventlog.plugins import load_sink, missing_package
from eventlog.replay import is_running, outline
from eventlog.sink import Sink
from eventlog.storage.layout import RunPath


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A destination: the name of a sink, and the arguments for its class."""

    sink: str
    options: Mapping[str, object] = {}

    def make(self) -> Sink:
        """Return a new sink.

        Raises:
            MissingPackageError: it needs a package that is not installed.
            UnknownSinkError, TypeError, ValueError: see `eventlog.plugins.load_sink`.
        """
        return load_sink(self.sink, **self.options)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are wanted.

    Attributes:
        projects: any of them; empty for all.
        tags: all of them, as ``name`` or ``name=value``.
        since_us: started then or later, microseconds since the epoch.
        only_finished: not those that are still running.
    """

    projects: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    since_us: int | None = None
    only_finished: bool = False

    def takes(self, run: RunPath) -> bool:
        """Tell whether *run* is wanted, as its log stands now."""
        if self.projects and run.project not in self.projects:
            return False
        if self.only_finished and is_running(run.path):
            return False
        if self.since_us is not None:
            started = find_start(run.path)
            if started is None or started.ts < self.since_us:
                return False
        return not self.tags or self._has_tags(outline(run.path).tags)

    def _has_tags(self, tags: Mapping[str, str | None]) -> bool:
        return all(
            name in tags and (not equals or tags[name] == value)
            for name, equals, value in (wanted.partition("=") for wanted in self.tags)
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one run at one destination.

    Attributes:
        result: ``delivered``, ``busy`` (another process is at it), ``stopped`` or ``failed``; of a run that
            is followed also ``waiting`` (the destination is out of reach).
        events: that were delivered now.
        status: of the run, as the destination was told.
    """

    project: str
    run_id: str
    sink: str
    result: str
    events: int = 0
    status: str = ""
    message: str = ""
    dead_letters: int = 0
    findings: int = 0

    @property
    def is_good(self) -> bool:
        """Tell whether nothing is left for a person to do."""
        return self.result in {"delivered", "busy", "stopped"} and not self.dead_letters


class Watcher(Protocol):
    """Is told how it goes, from several threads."""

    def began(self, run: RunPath, sink: str) -> None:
        """Take note that a delivery has begun."""

    def took(self, events: int) -> None:
        """Take note that a destination took events."""

    def ended(self, outcome: Outcome) -> None:
        """Take note that a delivery has ended."""


class SyncOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How runs are delivered; see `eventlog.delivery.pump.deliver_run`."""

    shape: Shape | None = None
    restart: bool = False
    retry_letters: bool = False
    timeout_s: float | None = TIMEOUT_S
    jobs: int = 1


def sync_runs(
    runs: Sequence[RunPath],
    targets: Sequence[Target],
    options: SyncOptions,
    *,
    stop: threading.Event | None = None,
    watcher: Watcher | None = None,
) -> list[Outcome]:
    """Deliver each of *runs* to each of *targets*, ``options.jobs`` at a time.

    Args:
        stop: when set, deliveries end after the batch they are at, and no other begins.
    """
    stop = stop or threading.Event()

    def one(item: tuple[RunPath, Target]) -> Outcome:
        run, target = item
        if watcher:
            watcher.began(run, target.sink)
        outcome = deliver_one(run, target, options, stop=stop, on_batch=watcher.took if watcher else None)
        if watcher:
            watcher.ended(outcome)
        return outcome

    items = [(run, target) for run in runs for target in targets]
    if options.jobs == 1:
        return [one(item) for item in items]
    with ThreadPoolExecutor(options.jobs, thread_name_prefix="evlog-sync") as pool:
        try:
            return list(pool.map(one, items))
        except BaseException:
            stop.set()  # so that leaving the block does not wait for all the others
            raise


def deliver_one(
    run: RunPath,
    target: Target,
    options: SyncOptions,
    *,
    stop: threading.Event,
    on_batch: Callable[[int], None] | None = None,
) -> Outcome:
    """Deliver one run; never raises because of the run, the sink or the destination."""
    done = Outcome(project=run.project, run_id=run.run_id, sink=target.sink, result="stopped")
    if stop.is_set():
        return done
    try:
        result = deliver_run(
            run.path,
            target.make(),
            target.sink,
            shape=options.shape,
            restart=options.restart,
            retry_letters=options.retry_letters,
            timeout_s=options.timeout_s,
            stop=stop,
            on_batch=on_batch,
        )
    except (LeaseHeldError, LeaseLostError) as error:
        return replace(done, result="busy", message=str(error))
    except Exception as error:  # sinks are anybody's code; the table shows what they raised
        return replace(done, result="failed", message=explain(error, target.sink))
    return replace(
        done,
        result="stopped" if result.is_stopped else "delivered",
        events=result.events,
        status=result.status,
        message="; ".join(_remarks(result.findings, result.dead_letters)),
        dead_letters=result.dead_letters,
        findings=result.findings,
    )


def explain(error: Exception, sink_name: str) -> str:
    """Return what a person should read of *error*: ours as they are, others with their type."""
    if isinstance(error, ImportError) and not isinstance(error, EvlogError):
        error = missing_package(sink_name, error)
    text = str(error)
    return text if isinstance(error, EvlogError) and text else f"{type(error).__name__}: {text}"


def _remarks(findings: int, dead_letters: int) -> Iterator[str]:
    if dead_letters:
        yield f"{dead_letters} events refused: evlog sync --status"
    if findings:
        yield f"{findings} findings in the log: evlog verify"
