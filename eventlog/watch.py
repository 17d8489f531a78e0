"""Follows any number of runs, also those that begin later, and delivers what they log while they log it.

What there is, is told by listing directories and by the sizes of files. A notification of the system only
makes the next look come sooner, and where other machines write there is none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from eventlog.delivery.batches import log_sizes
from eventlog.following import PAUSE_FACTOR, POLL_S, Followed, Share
from eventlog.replay import is_running
from eventlog.storage.layout import RunPath, is_network_file_system, iter_runs
from eventlog.sync import Outcome, Selection, SyncOptions, Target

LIST_S, NETWORK_LIST_S = 1.0, 5.0
HINT_RETRY_S = 5.0


class RunSource(msgspec.Struct, frozen=True):
    """Where runs are found: all below *root*, or *only* one of them."""

    root: Path
    only: RunPath | None = None

    def runs(self) -> Iterable[RunPath]:
        """Return the runs that are there now."""
        return iter_runs(self.root) if self.only is None else [self.only]


def follow_runs(
    source: RunSource,
    targets: Sequence[Target],
    options: SyncOptions,
    selection: Selection,
    *,
    stop: threading.Event,
    report: Callable[[Outcome], None],
) -> None:
    """Deliver all runs of *source*, also those that begin later, until *stop* is set.

    Args:
        report: is told, from any of the threads, what was delivered to the end and what went wrong.
    """
    shares = [Share() for _ in range(options.jobs)]
    threads = [threading.Thread(target=share.follow, args=(stop,), name="evlog-follow") for share in shares]
    for thread in threads:
        thread.start()

    def add(run: RunPath) -> None:
        for target in targets:
            followed = Followed(run, target, options, report=report)
            shares[hash((run.path, target.sink)) % len(shares)].add(followed)

    try:
        _Discovery(source, selection, add, report).go_on(stop)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class _Discovery:
    """Finds runs as they appear, by listing directories; a notification only makes it look sooner."""

    def __init__(
        self,
        source: RunSource,
        selection: Selection,
        add: Callable[[RunPath], None],
        report: Callable[[Outcome], None],
    ) -> None:
        self._source, self._selection = source, selection
        self._add, self._report = add, report
        self._known: set[Path] = set()
        self._refused: dict[Path, object] = {}
        self._told: set[str] = set()

    def go_on(self, stop: threading.Event) -> None:
        """Look for runs until *stop* is set."""
        root = self._source.root
        is_network = is_network_file_system(root)
        hint = threading.Event()
        if not is_network and self._source.only is None:
            threading.Thread(target=_hint, args=(root, hint, stop), name="evlog-hint", daemon=True).start()
        while not stop.is_set():
            began = time.thread_time()
            self._look(stop)
            spent = time.thread_time() - began
            stop.wait(PAUSE_FACTOR * spent)
            # In short waits: a stop has to be noticed, and there is no waiting for two events.
            until = time.monotonic() + (NETWORK_LIST_S if is_network else LIST_S)
            while not stop.is_set() and not hint.wait(POLL_S) and time.monotonic() < until:
                pass
            hint.clear()

    def _look(self, stop: threading.Event) -> None:
        try:
            for run in self._source.runs():
                if stop.is_set():
                    return
                if run.path not in self._known:
                    self._consider(run)
        except OSError as error:
            self._tell("", self._source.root.name, f"{error}")

    def _consider(self, run: RunPath) -> None:
        """Take *run* if it is wanted; ask again only when that may have changed."""
        try:
            state = (log_sizes(run.path), self._selection.only_finished and is_running(run.path))
            if self._refused.get(run.path) == state:
                return
            if self._selection.takes(run):
                self._known.add(run.path)
                self._refused.pop(run.path, None)
                self._add(run)
            else:
                self._refused[run.path] = state
        except Exception as error:  # one bad log must not keep the others from being found
            self._tell(run.project, run.run_id, f"{type(error).__name__}: {error}")

    def _tell(self, project: str, run_id: str, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._report(Outcome(project=project, run_id=run_id, sink="", result="failed", message=message))


def _hint(root: Path, hint: threading.Event, stop: threading.Event) -> None:
    """Set *hint* when a directory may have come below *root*. Notifications get lost: others look anyway."""
    from watchfiles import watch

    while not stop.is_set():
        try:
            projects = _projects(root)
            watched: Iterable[object] = watch(
                root, *projects, recursive=False, stop_event=stop, step=10, debounce=100,
                rust_timeout=1000, yield_on_timeout=True, raise_interrupt=False,
            )  # fmt: skip
            for changes in watched:
                if changes:
                    hint.set()
                if _projects(root) != projects:
                    break
        except Exception:  # no root yet, no more watches to be had, …: looking once a second goes on
            stop.wait(HINT_RETRY_S)


def _projects(root: Path) -> set[Path]:
    return {path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
