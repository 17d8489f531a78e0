"""Watches a model of torch: histograms of its gradients and parameters while it is trained.

A hook on each parameter that is trained sees its gradient in each backward pass. In one pass of *log_freq*
it counts the values where they lie (on a GPU too) and logs a `Histogram`; in all others it returns at once.
torch is not imported here, only methods of its tensors are called.

The first gradient begins a pass and a callback of the engine ends it. If a pass failed, or the engine has no
callbacks, a parameter that gets its second gradient begins the next one. What goes wrong in a hook costs one
warning and never reaches the training, unless ``strict``.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self, cast, get_args
from weakref import WeakKeyDictionary

from eventlog import events as ev
from eventlog.tracker.recording import RunRecorder
from eventlog.tracker.runs import Runs
from eventlog.values import text

Watched = Literal["gradients", "parameters", "all"]

# In `_Tensor` the name `float` is a method's.
Number = float

# torch counts in floats of 32 bits, which are exact up to here.
MAX_EXACT = 1 << 24


class _Tensor(Protocol):
    """What is needed of a torch tensor."""

    is_sparse: bool
    requires_grad: bool
    dtype: object

    def detach(self) -> _Tensor: ...
    def coalesce(self) -> _Tensor: ...
    def values(self) -> _Tensor: ...
    def flatten(self) -> _Tensor: ...
    def is_complex(self) -> bool: ...
    def abs(self) -> _Tensor: ...
    def float(self) -> _Tensor: ...
    def numel(self) -> int: ...
    def isfinite(self) -> _Tensor: ...
    def aminmax(self) -> Sequence[_Tensor]: ...
    def split(self, size: int, /) -> Sequence[_Tensor]: ...
    def histc(self, bins: int, min: Number, max: Number) -> _Tensor: ...
    def cpu(self) -> _Tensor: ...
    def tolist(self) -> list[Number]: ...
    def item(self) -> Number: ...
    def __getitem__(self, mask: _Tensor, /) -> _Tensor: ...
    def register_hook(self, hook: Callable[[_Tensor], None], /) -> _Hook: ...


class _Hook(Protocol):
    def remove(self) -> None: ...


class _Model(Protocol):
    def named_parameters(self) -> Iterable[tuple[str, _Tensor]]: ...


class Distribution(NamedTuple):
    """Counts of the finite values between edges, both empty if there is none, and how many are not finite."""

    counts: list[int]
    edges: list[float]
    non_finite: int


class Watch:
    """A model that is watched; `remove`, or the end of a ``with`` block or of the run, ends that.

    Attributes:
        step: that of the backward pass that runs or came last; one less than *first_step* before the first.
    """

    def __init__(
        self, run: RunRecorder | None, *, log: Watched, log_freq: int, first_step: int, bins: int
    ) -> None:
        self._run, self._bins, self._first = run, bins, first_step
        self._log_freq = log_freq
        self._sees_gradients, self._sees_parameters = log != "parameters", log != "gradients"
        self.step = first_step - 1
        self._is_in_pass = False
        self._lock = threading.Lock()
        self._hooks: list[_Hook] = []
        # Weakly: a parameter holds its hooks, and would never be freed if they held it.
        self._parameters: list[weakref.ref[_Tensor]] = []
        # By parameter: the step of the pass in which its gradient came last.
        self._seen: list[int | None] = []

    @property
    def is_active(self) -> bool:
        """Return whether gradients are still looked at."""
        return bool(self._hooks)

    def parameters(self) -> set[int]:
        """Return the identities of the watched parameters that are still there."""
        return {id(parameter) for ref in self._parameters if (parameter := ref()) is not None}

    def remove(self) -> None:
        """Stop watching; the second call does nothing."""
        hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def add(self, name: str, parameter: _Tensor) -> None:
        """Watch one parameter too."""
        number = len(self._seen)
        self._seen.append(None)
        mine = weakref.ref(parameter)
        self._parameters.append(mine)
        first, log_freq, seen = self._first, self._log_freq, self._seen

        def hook(gradient: _Tensor) -> None:
            if not self._is_in_pass or seen[number] == self.step:
                self._begin_pass(number)
            seen[number] = self.step
            if (self.step - first) % log_freq == 0:
                self._look(name, gradient, mine())

        self._hooks.append(parameter.register_hook(hook))

    def _begin_pass(self, number: int) -> None:
        with self._lock:  # a backward pass over several devices has a thread for each
            if self._is_in_pass and self._seen[number] != self.step:
                return
            self.step += 1
            self._is_in_pass = True
        with contextlib.suppress(Exception):  # not documented, though torch's own wrappers live on it
            sys.modules["torch"].autograd.Variable._execution_engine.queue_callback(self._end_pass)

    def _end_pass(self) -> None:
        self._is_in_pass = False

    def _look(self, name: str, gradient: _Tensor, parameter: _Tensor | None) -> None:
        run, step = self._run, self.step
        if run is None or run.is_ended:
            self.remove()
            return
        wanted: list[tuple[str, _Tensor]] = []
        if self._sees_gradients:
            wanted.append((f"gradients/{name}", gradient))
        if self._sees_parameters and parameter is not None:
            wanted.append((f"parameters/{name}", parameter))
        for key, tensor in wanted:
            try:
                found = distribution(tensor, self._bins)
                if found.counts:
                    run.add(ev.Histogram(key=key, step=step, edges=found.edges, counts=found.counts))
                if found.non_finite:
                    run.metrics({f"{key}/nonfinite": found.non_finite}, step)
            except Exception as error:  # the training must go on, whatever a tensor is made of
                run.complain("watch_model", f"{key!r} was not logged: {error}")


class WatchCalls(Runs):
    """The tracker's call that watches a model."""

    def watch_model(
        self,
        model: object,
        log: Watched = "gradients",
        log_freq: int = 100,
        prefix: str = "",
        *,
        first_step: int = 0,
        bins: int = 64,
    ) -> Watch:
        """Log histograms of a torch model's gradients, parameters, or both, until the run ends.

        Keys are ``gradients/<prefix><parameter>`` and ``parameters/<prefix><parameter>``. The step is the
        number of the backward pass, from *first_step*; the pass of *first_step* is logged, and every
        *log_freq*-th after it. Gradients are those of this pass alone (before they are added to ``.grad``,
        clipped or unscaled), parameters are those that the pass was computed with. Values that are not finite
        are left out of the histogram and counted in the metric ``<key>/nonfinite``. Parameters that do
        not require a gradient now are not watched.

        Args:
            model: a ``torch.nn.Module``; a second watch of the same parameters replaces the first.
            prefix: tells apart several models of one run.
            first_step: the step to go on from in a resumed run.

        Returns:
            A handle with ``remove()``, which is also a context manager.
        """
        run = self._active()
        watch = Watch(run, log=log, log_freq=log_freq, first_step=first_step, bins=bins)
        if run is None:
            return watch
        try:
            if log not in get_args(Watched):
                raise ValueError(f"log is one of {', '.join(get_args(Watched))}, not {log!r}")
            if log_freq < 1 or bins < 1:
                raise ValueError(f"log_freq and bins are at least 1, not {log_freq} and {bins}")
            _attach(watch, model, prefix)
        except Exception as error:  # whatever was given as a model
            watch.remove()
            run.complain("watch_model", f"the model is not watched: {error or type(error).__name__}")
            return watch
        mine = _watches.setdefault(run, [])
        for other in mine:
            if other.parameters() & watch.parameters():
                other.remove()
        mine.append(watch)
        return watch

    def _end(self, status: str, error: ev.ErrorInfo | None) -> None:
        newest = self._newest()
        for watch in _watches.pop(newest, []) if newest is not None else []:
            watch.remove()
        super()._end(status, error)


_watches: WeakKeyDictionary[RunRecorder, list[Watch]] = WeakKeyDictionary()


def _attach(watch: Watch, model: object, prefix: str) -> None:
    if not callable(getattr(model, "named_parameters", None)):
        raise TypeError(f"a {type(model).__name__} has no named_parameters: it is no model of torch")
    trained = [(n, p) for n, p in cast("_Model", model).named_parameters() if p.requires_grad]
    if not trained:
        raise ValueError("none of its parameters requires a gradient")
    for name, parameter in trained:
        watch.add(text(prefix + name), parameter)


def distribution(tensor: _Tensor, bins: int) -> Distribution:
    """Count the finite values of *tensor* (any shape; of complex numbers the magnitude) in equal bins."""
    values = tensor.detach()
    if values.is_sparse:
        values = values.coalesce().values()
    values = values.flatten()
    if values.is_complex():
        values = values.abs()
    if not str(values.dtype).endswith(("float32", "float64")):
        values = values.float()
    total = values.numel()
    if not total:
        return Distribution([], [], 0)
    low, high = (end.item() for end in values.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        values = values[values.isfinite()]
        if not values.numel():
            return Distribution([], [], total)
        low, high = (end.item() for end in values.aminmax())
    counts, edges = _count(values, low, high, bins)
    return Distribution(counts, edges, total - values.numel())


def _count(values: _Tensor, low: float, high: float, bins: int) -> tuple[list[int], list[float]]:
    if low == high:
        half = max(0.5, abs(low) / 2)
        return [values.numel()], [low - half, low + half]
    edges = [low + (high - low) * (i / bins) for i in range(bins)] + [high]
    if not high - low < 3e38 or any(a >= b for a, b in itertools.pairwise(edges)):
        return [values.numel()], [low, high]  # too far apart, or too near, for bins of their type
    counts = [0] * bins
    for part in values.split(MAX_EXACT):
        try:
            counted = part.histc(bins, min=low, max=high)
        except RuntimeError:  # on a GPU, when only deterministic operations are allowed
            counted = part.cpu().histc(bins, min=low, max=high)
        for number, count in enumerate(counted.tolist()):
            counts[number] += int(count)
    return counts, edges
