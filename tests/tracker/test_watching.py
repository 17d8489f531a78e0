"""Watching a model: histograms of real gradients of torch, and a training that never notices."""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import pickle
import re
import weakref
from pathlib import Path
from typing import Any

import pytest

from eventlog import EvlogWarning, Tracker, TrackingConfig
from eventlog.errors import BadValueError, forget_reports
from eventlog.events import Histogram, Metrics
from eventlog.replay import view
from eventlog.tracker.watching import distribution
from tests.tracker.support import logged, run_job

torch: Any = pytest.importorskip("torch", reason="the calls that need torch are tried where it is installed")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "torch.md"


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    forget_reports()
    torch.manual_seed(0)
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path / "runs")
    tracker.start_run("a")
    return tracker


@pytest.fixture
def net() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def train(net: Any, passes: int, *, width: int = 4) -> None:
    """Run backward passes with a step of SGD after each."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(passes):
        optimizer.zero_grad()
        net(torch.randn(16, width)).square().mean().backward()
        optimizer.step()


def histograms_of(tracker: Tracker) -> list[Histogram]:
    """End the run and return its histograms."""
    run = tracker.run_dir
    tracker.end_run()
    return logged(run, Histogram)


def test_gradients_are_logged_every_so_many_passes(tracker: Tracker, net: Any) -> None:
    """The first pass is step 0; each histogram counts every element of its parameter."""
    tracker.watch_model(net, log_freq=3)
    train(net, 7)

    found = histograms_of(tracker)
    names = ["gradients/0.bias", "gradients/0.weight", "gradients/2.bias", "gradients/2.weight"]
    assert sorted((h.key, h.step) for h in found) == [(name, step) for name in names for step in (0, 3, 6)]
    sizes = {"gradients/0.weight": 32, "gradients/0.bias": 8, "gradients/2.weight": 8, "gradients/2.bias": 1}
    assert all(sum(h.counts) == sizes[h.key] for h in found)
    assert all(len(h.edges) == len(h.counts) + 1 for h in found)


def test_the_histogram_is_that_of_the_gradient(tracker: Tracker, net: Any) -> None:
    """Least and greatest edge are least and greatest value of what torch put into .grad."""
    tracker.watch_model(net, bins=5)
    net(torch.randn(16, 4)).square().mean().backward()

    seen = {h.key: h for h in histograms_of(tracker)}["gradients/0.weight"]
    gradient = net[0].weight.grad
    assert (seen.edges[0], seen.edges[-1]) == (gradient.min().item(), gradient.max().item())
    assert seen.counts == [int(n) for n in torch.histogram(gradient, 5).hist.tolist()]


@pytest.mark.parametrize(
    ("log", "kinds"), [("parameters", {"parameters"}), ("all", {"gradients", "parameters"})]
)
def test_parameters_are_those_of_the_pass(tracker: Tracker, net: Any, log: Any, kinds: set[str]) -> None:
    """Values before the optimizer moved them."""
    before = copy.deepcopy(net[0].weight.detach())
    tracker.watch_model(net, log)
    train(net, 1)

    found = {h.key: h for h in histograms_of(tracker)}
    assert {key.split("/")[0] for key in found} == kinds
    assert found["parameters/0.weight"].edges[0] == before.min().item()


def test_prefixes_tell_models_apart(tracker: Tracker, net: Any) -> None:
    """Each has its own count of passes."""
    other = copy.deepcopy(net)
    tracker.watch_model(net, prefix="generator/", log_freq=1)
    tracker.watch_model(other, prefix="critic/", log_freq=1, first_step=10)
    train(other, 1)
    train(net, 2)

    keys = {(h.key, h.step) for h in histograms_of(tracker) if h.key.endswith("0.bias")}
    assert keys == {
        ("gradients/generator/0.bias", 0),
        ("gradients/generator/0.bias", 1),
        ("gradients/critic/0.bias", 10),
    }


def test_a_parameter_that_a_pass_does_not_reach_is_no_trouble(tracker: Tracker) -> None:
    """Passes are counted right although one layer is used every other time."""
    net = torch.nn.ModuleDict({"always": torch.nn.Linear(2, 2), "odd": torch.nn.Linear(2, 2)})
    watch = tracker.watch_model(net, log_freq=1)
    for number in range(6):
        out = net["always"](torch.ones(1, 2))
        (net["odd"](out) if number % 2 else out).sum().backward()

    found = histograms_of(tracker)
    assert watch.step == 5
    assert [h.step for h in found if h.key == "gradients/always.bias"] == [0, 1, 2, 3, 4, 5]
    assert [h.step for h in found if h.key == "gradients/odd.bias"] == [1, 3, 5]


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointed_layers_belong_to_one_pass(tracker: Tracker, net: Any, use_reentrant: bool) -> None:
    """A layer that is computed again runs a backward pass within the pass."""
    watch = tracker.watch_model(net, log_freq=1)
    for _ in range(3):
        x = torch.utils.checkpoint.checkpoint(
            net[0], torch.randn(2, 4, requires_grad=True), use_reentrant=use_reentrant
        )
        net[2](net[1](x)).sum().backward()

    assert watch.step == 2
    assert sorted(h.step or 0 for h in histograms_of(tracker)) == [0] * 4 + [1] * 4 + [2] * 4


def test_a_pass_that_fails_does_not_stop_the_count(tracker: Tracker) -> None:
    """The next gradient of the same parameter is the next pass."""
    first, last = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    watch = tracker.watch_model(torch.nn.Sequential(first, last), log_freq=1)

    def fail(_: object) -> None:
        raise RuntimeError("out of memory")

    for number in range(4):
        middle = first(torch.ones(1, 2))
        if number % 2:
            middle.register_hook(fail)
        with contextlib.suppress(RuntimeError):
            last(middle).sum().backward()

    assert watch.step == 3


def test_frozen_parameters_are_not_watched(tracker: Tracker, net: Any) -> None:
    """They get no gradient."""
    net[0].requires_grad_(False)
    tracker.watch_model(net, "all")
    train(net, 1)

    assert {h.key.split("/")[1] for h in histograms_of(tracker)} == {"2.weight", "2.bias"}


def test_values_that_are_not_finite_are_counted_apart(tracker: Tracker) -> None:
    """The histogram has the finite part; a metric says how many were not, if any."""
    weights = torch.nn.Parameter(torch.zeros(5))
    net = torch.nn.ParameterDict({"w": weights})
    tracker.watch_model(net, log_freq=1)
    (weights * torch.tensor([1.0, math.nan, 3.0, math.inf, -math.inf])).sum().backward()
    (weights * torch.full((5,), math.nan)).sum().backward()
    run = tracker.run_dir

    (seen,) = histograms_of(tracker)
    assert (seen.step, sum(seen.counts), seen.edges[0], seen.edges[-1]) == (0, 2, 1.0, 3.0)
    assert [(m.step, m.data) for m in logged(run, Metrics)] == [
        (0, {"gradients/w/nonfinite": 3}),
        (1, {"gradients/w/nonfinite": 5}),
    ]


def test_a_training_with_a_watch_is_the_same_training(tracker: Tracker, net: Any) -> None:
    """Weights after it are equal, bit by bit, and so is the state of the random numbers."""
    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    train(twin, 5)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    tracker.watch_model(net, "all", log_freq=1)
    train(net, 5)

    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("how", ["remove", "with", "end_run"])
def test_a_watch_ends(tracker: Tracker, net: Any, how: str) -> None:
    """By hand, with its block, and with its run; nothing stays on the parameters."""
    watch = tracker.watch_model(net, log_freq=1)
    was_active = watch.is_active
    train(net, 1)
    if how == "remove":
        watch.remove()
        watch.remove()
    elif how == "with":
        with watch:
            pass
    run = tracker.run_dir
    if how == "end_run":
        tracker.end_run()
    train(net, 2)

    tracker.end_run()
    assert (was_active, watch.is_active) == (True, False)
    assert {h.step for h in logged(run, Histogram)} == {0}
    assert all(not parameter._backward_hooks for parameter in net.parameters())


def test_the_end_of_a_nested_run_leaves_its_parents_watch(tracker: Tracker, net: Any) -> None:
    """A watch belongs to the run in which it began."""
    watch = tracker.watch_model(net, log_freq=1)
    with tracker.start_run("inner", nested=True):
        inner = tracker.watch_model(copy.deepcopy(net))
        train(net, 1)

    assert (watch.is_active, inner.is_active) == (True, False)
    assert len(histograms_of(tracker)) == 4


def test_a_second_watch_replaces_the_first(tracker: Tracker, net: Any) -> None:
    """As when a notebook's cell is run again."""
    first = tracker.watch_model(net, log_freq=1)
    second = tracker.watch_model(net, log_freq=1)
    train(net, 1)

    assert (first.is_active, second.is_active) == (False, True)
    assert len(histograms_of(tracker)) == 4


@pytest.mark.parametrize(
    ("model", "options", "why"),
    [
        (None, {}, "NoneType has no named_parameters"),
        (object(), {}, "object has no named_parameters"),
        (torch.nn.ReLU(), {}, "none of its parameters requires a gradient"),
        (torch.nn.Linear(1, 1), {"log": "weights"}, "'weights'"),
        (torch.nn.Linear(1, 1), {"log_freq": 0}, "at least 1"),
        (torch.nn.Linear(1, 1), {"log_freq": "often"}, "."),
    ],
)
def test_what_cannot_be_watched_costs_one_warning(
    tracker: Tracker, model: object, options: dict[str, Any], why: str
) -> None:
    """The handle that comes back watches nothing."""
    with pytest.warns(EvlogWarning, match=rf"the model is not watched: .*{why}"):
        watch = tracker.watch_model(model, **options)

    assert not watch.is_active
    forget_reports()
    tracker.strict = tracker._stack[-1].strict = True
    with pytest.raises(BadValueError):
        tracker.watch_model(model, **options)


def test_a_failure_in_a_hook_does_not_reach_the_training(tracker: Tracker, net: Any) -> None:
    """A tensor that cannot be counted costs one warning, and the pass goes on to its end."""
    tracker.watch_model(net, log_freq=1, bins=4)
    recorder = tracker._stack[-1]

    def refuse(_: object) -> bool:
        raise RuntimeError("no room")

    recorder.add = refuse  # type: ignore[method-assign,assignment]

    with pytest.warns(EvlogWarning, match="'gradients/2.bias' was not logged: no room") as caught:
        train(net, 3)

    assert len(caught) == 1
    assert net[0].weight.grad is not None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e-40, 3e38, 0.0])
def test_every_type_and_size_of_number_is_counted(dtype: str, scale: float) -> None:
    """Edges ascend strictly and every finite element is in one bin."""
    tensor = (torch.linspace(-1, 1, 1001, dtype=torch.float64) * scale).to(getattr(torch, dtype))
    real = tensor.abs() if tensor.is_complex() else tensor

    found = distribution(tensor, 64)

    finite = int(real.isfinite().sum())
    assert sum(found.counts) == finite
    assert found.non_finite == 1001 - finite
    assert all(a < b for a, b in zip(found.edges, found.edges[1:], strict=False))


def test_values_that_differ_in_the_last_bit_are_counted() -> None:
    """There is no room for 64 bins between neighbours."""
    low = torch.tensor(1.0, dtype=torch.float64)
    tensor = torch.stack([low, torch.nextafter(low, torch.tensor(2.0, dtype=torch.float64))])

    found = distribution(tensor, 64)

    assert sum(found.counts) == 2
    assert all(a < b for a, b in zip(found.edges, found.edges[1:], strict=False))


def test_more_values_than_a_float_can_count_are_counted() -> None:
    """torch adds up in 32 bits, where 2**24 + 1 is 2**24."""
    tensor = torch.zeros((1 << 24) + 5)
    tensor[-1] = 1.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # each thread adds up for itself

    try:
        assert sum(distribution(tensor, 4).counts) == (1 << 24) + 5
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e30, -1e-30])
def test_equal_values_are_one_bin_around_them(value: float) -> None:
    """A frozen or dead layer has a width too, whatever its size."""
    found = distribution(torch.full((7,), value), 64)

    assert found.counts == [7]
    assert found.edges[0] < value < found.edges[1]


def test_sparse_gradients_are_counted(tracker: Tracker) -> None:
    """Those of an embedding, with the rows that a batch used."""
    net = torch.nn.Embedding(100, 4, sparse=True)
    tracker.watch_model(net, log_freq=1)
    net(torch.tensor([1, 5, 5])).square().sum().backward()

    (seen,) = histograms_of(tracker)
    assert sum(seen.counts) == 8


def test_models_are_freed_copied_and_pickled_as_ever(tracker: Tracker) -> None:
    """A watch keeps no model alive, and copies of a model are not watched."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 1))
    tracker.watch_model(net, "all", log_freq=1)
    other = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    train(other, 1)
    train(net, 1)
    gone = weakref.ref(net[0].weight)
    del net
    gc.collect()

    assert gone() is None
    assert len(histograms_of(tracker)) == 8


def test_a_compiled_model_is_watched(tracker: Tracker, net: Any) -> None:
    """torch.compile gives the same parameters another way to their gradients."""
    compiled = torch.compile(net, backend="aot_eager")
    tracker.watch_model(net, log_freq=1)
    train(compiled, 2)

    assert {h.step for h in histograms_of(tracker)} == {0, 1}


def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    """The how-to's script logs curves, gradients and a model that is registered."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)

    exit_code, _, err = run_job(code, tmp_path)

    assert (exit_code, err) == (0, "")
    run = tmp_path / "experiments" / "torch" / "mlp"
    seen = view(run)
    assert seen.metrics["train/loss"].count == 300
    assert [a.name for a in seen.artifacts] == ["models/mlp"]
    assert {h.step for h in logged(run, Histogram)} == {0, 100, 200}
