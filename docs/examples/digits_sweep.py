"""Train a small network on handwritten digits: 3 learning rates x 3 seeds, one of them killed and resumed.

    python docs/examples/digits_sweep.py --dir ./demo-experiments

Needs ``pip install evlog[demo]``; the data ship inside scikit-learn, so nothing is downloaded. Every run
logs its loss at every step and its accuracy at every epoch. One run is trained by a child process that
gets SIGKILL in the middle, which no program can catch. What it had logged is read back, and the run goes
on from there. Then the command line answers questions about all nine, says which difference is more than
chance, trains the best once more, audits that run and reproduces it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

from eventlog import Tracker, create_tracker
from eventlog.events import Checkpoint, Evaluation, Sample
from eventlog.replay import events, view

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PROJECT, EXPERIMENT = "digits", "sweep_learning_rates"
LEARNING_RATES = (0.01, 0.1, 0.5)
SEEDS = (0, 1, 2)
KILLED = (0.1, 1)
KILL_AFTER = 600  # of 1680 steps
EPOCHS, BATCH, HIDDEN = 20, 16, 48

LEADERBOARD = """
with final as (
    select project, run_id, max_by(value, step) as accuracy
    from metrics where project = 'digits' and key = 'val/accuracy'
    group by project, run_id
)
select p.value as learning_rate,
       count(*) as seeds,
       round(avg(accuracy), 4) as mean_accuracy,
       round(stddev_samp(accuracy), 4) as std
from final join params p using (project, run_id)
where p.key = 'lr'
group by p.value order by mean_accuracy desc
"""


# --- the model: one hidden layer, plain SGD ------------------------------------------------------


class Network:
    """A multi-layer perceptron (64 pixels, one hidden layer, 10 classes) with cross-entropy loss."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.weights: list[Floats] = [
            rng.normal(0, 0.1, (64, HIDDEN)),
            np.zeros(HIDDEN),
            rng.normal(0, 0.1, (HIDDEN, 10)),
            np.zeros(10),
        ]

    def forward(self, x: Floats) -> tuple[Floats, Floats]:
        """Return the hidden layer, shape (n, HIDDEN), and the probabilities of the classes, shape (n, 10)."""
        w1, b1, w2, b2 = self.weights
        hidden = np.maximum(x @ w1 + b1, 0)
        scores = hidden @ w2 + b2
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, scores / scores.sum(axis=1, keepdims=True)

    def step(self, x: Floats, y: Ints, lr: float) -> float:
        """Take one step down the gradient; return the loss before it."""
        hidden, probabilities = self.forward(x)
        rows = np.arange(len(y))
        loss = -np.log(probabilities[rows, y] + 1e-12).mean()
        error = probabilities
        error[rows, y] -= 1
        error /= len(y)
        back = (error @ self.weights[2].T) * (hidden > 0)
        gradients = (x.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0))
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight -= lr * gradient
        return float(loss)

    def predict(self, x: Floats) -> Ints:
        """Return the most probable class of each row."""
        return np.asarray(self.forward(x)[1].argmax(axis=1), dtype=np.int64)

    def save(self, path: Path) -> None:
        """Write the weights so that a kill leaves either the old file or the new one."""
        path.parent.mkdir(exist_ok=True)
        new = path.with_suffix(".new.npz")
        np.savez(new, *self.weights)
        new.replace(path)

    def load(self, path: Path) -> None:
        """Take the weights that `save` wrote."""
        with np.load(path) as stored:
            self.weights = [stored[name] for name in stored.files]


def split_rows(labels: Ints) -> tuple[Ints, Ints]:
    """Return which rows are for training and which for validation."""
    rows = np.arange(len(labels))
    found = train_test_split(rows, test_size=0.25, random_state=0, stratify=labels)
    return found[0], found[1]


def load_data() -> tuple[Floats, Floats, Ints, Ints]:
    """Return training and validation images, shape (n, 64) in [0, 1], then their labels."""
    x, y = load_digits(return_X_y=True)
    train_rows, val_rows = split_rows(y)
    return x[train_rows] / 16.0, x[val_rows] / 16.0, y[train_rows], y[val_rows]


def batches(size: int, seed: int) -> Iterator[tuple[int, int, Ints]]:
    """Yield step, epoch and the rows of a batch: the same for the same seed, so a run can be taken up."""
    step = 0
    for epoch in range(EPOCHS):
        order = np.random.default_rng((seed, epoch)).permutation(size)
        for start in range(0, size - BATCH + 1, BATCH):
            yield step, epoch, order[start : start + BATCH]
            step += 1


# --- the part that is about evlog ----------------------------------------------------------------


def tracker_in(root: Path) -> Tracker:
    return create_tracker(
        "local",
        project=PROJECT,
        experiment_name=EXPERIMENT,
        tags={"purpose": "sweep", "owner": "demo"},
        notes="Which learning rate suits a small network?",
        output_dir=root,
    )


def start(root: Path, lr: float, seed: int, on_call: Callable[[], object] = lambda: None) -> str:
    """Train one run from its beginning; return its id."""
    tracker = tracker_in(root)
    with tracker.start_run(f"lr{lr}-seed{seed}") as run_id:
        log_inputs(tracker, lr, seed)
        train(tracker, Network(seed), lr, seed, on_call=on_call)
    return str(run_id)


def log_inputs(tracker: Tracker, lr: float, seed: int) -> None:
    """Log what somebody needs to train the same: params, data, and how they are split."""
    net: dict[str, object] = {"model_type": "mlp", "hidden": HIDDEN}
    tracker.log_params({"lr": lr, "seed": seed, "epochs": EPOCHS, "batch_size": BATCH, "net": net})
    images, labels = load_digits(return_X_y=True)
    train_rows, val_rows = split_rows(labels)
    tracker.log_dataset(
        "digits",
        version="uci-1998",
        array=images,
        indices={"train": train_rows, "val": val_rows},
        strategy="stratified by label",
        split_seed=0,
    )


def resume(root: Path, run_id: str) -> int:
    """Go on with a run that was killed, where its log ends; return the step."""
    run = root / PROJECT / run_id
    known = view(run)
    lr, seed = float(str(known.params["lr"])), int(str(known.params["seed"]))
    loss = known.metrics.get("train/loss")
    logged = -1 if loss is None or loss.last_step is None else loss.last_step

    network, saved = Network(seed), -1
    for event in events(run):
        if isinstance(event, Checkpoint) and event.step is not None:
            network.load(Path(event.path))
            saved = event.step

    tracker = tracker_in(root)
    with tracker.start_run(run_id=run_id, resume=True):
        train(tracker, network, lr, seed, saved=saved, logged=logged)
    return logged + 1


def train(
    tracker: Tracker,
    network: Network,
    lr: float,
    seed: int,
    *,
    saved: int = -1,
    logged: int = -1,
    on_call: Callable[[], object] = lambda: None,
) -> None:
    """Train *network* and log it.

    Args:
        saved: last step that the weights contain; the ones up to here are skipped.
        logged: last step in the log; the ones from *saved* to here are taken again, but not logged again.
        on_call: called after each step whose log call has returned.
    """
    x, x_val, y, y_val = load_data()
    best, steps_per_epoch = 0.0, len(x) // BATCH
    assert tracker.run_dir is not None
    weights = tracker.run_dir / "checkpoints" / "weights.npz"
    for step, epoch, rows in batches(len(x), seed):
        if step <= saved:
            continue
        loss = network.step(x[rows], y[rows], lr)
        if step > logged:
            tracker.log_metrics({"train/loss": loss}, step=step)
            on_call()
        if (step + 1) % steps_per_epoch == 0:
            accuracy = float((network.predict(x_val) == y_val).mean())
            best = max(best, accuracy)
            # The accuracy is logged after the loss of the epoch's last step. If the log ends with that loss,
            # the kill may have come between the two: better the same accuracy twice than not at all.
            if step >= logged:
                tracker.log_metrics({"val/accuracy": accuracy, "epoch": epoch}, step=step)
                network.save(weights)
                tracker.log_checkpoint(weights, step=step, metrics={"val/accuracy": accuracy})
    report_model(tracker, network, x_val, y_val, best)


def report_model(tracker: Tracker, network: Network, x_val: Floats, y_val: Ints, best: float) -> None:
    """Log what is known at the end of a run."""
    predicted = network.predict(x_val)
    accuracy = float((predicted == y_val).mean())
    tracker.log_summary({"val/accuracy": accuracy, "val/best_accuracy": best})
    for index, (digit, guess) in enumerate(zip(y_val.tolist(), predicted.tolist(), strict=True)):
        correct: dict[str, int | float | str] = {"correct": int(digit == guess)}
        sample = Sample(
            benchmark="digits",
            index=index,
            input=f"digit {index}",
            target=digit,
            prediction=guess,
            metrics=correct,
        )
        tracker.log_event(sample)
    tracker.log_event(Evaluation(benchmark="digits", metrics={"accuracy": accuracy}))
    matrix = confusion_matrix(y_val, predicted)
    rows = [[digit, *(int(n) for n in row)] for digit, row in enumerate(matrix)]
    tracker.log_table("confusion", ["true", *(str(digit) for digit in range(10))], rows)
    assert tracker.run_dir is not None
    tracker.log_artifact(tracker.run_dir / "checkpoints" / "weights.npz", "model.npz", type="model")
    tracker.add_note(f"outcome: {accuracy:.1%} of the digits that it had not seen")


# --- the kill ------------------------------------------------------------------------------------


def train_for_the_kill(root: Path, lr: float, seed: int) -> None:
    """Train in the child process: one dot on stdout for each log call that has returned."""
    start(root, lr, seed, on_call=lambda: os.write(sys.stdout.fileno(), b"."))


def kill_in_the_middle(root: Path, lr: float, seed: int) -> tuple[str, int]:
    """Train in a child, send SIGKILL in the middle; return its run and the calls it made."""
    before = {path.name for path in (root / PROJECT).iterdir()}
    command = [sys.executable, __file__, "--dir", str(root), "--victim", str(lr), str(seed)]
    returned = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdout is not None
        while returned < KILL_AFTER and (dots := child.stdout.read(4096)):
            returned += len(dots)
        child.send_signal(signal.SIGKILL)
        # What the child wrote until it died is still in the pipe.
        returned += len(child.stdout.read())
    if child.returncode != -signal.SIGKILL:
        raise SystemExit(f"the child ended with {child.returncode} before it was killed")
    (run_id,) = {path.name for path in (root / PROJECT).iterdir()} - before
    return run_id, returned


def kill_and_resume(root: Path, lr: float, seed: int) -> None:
    run_id, returned = kill_in_the_middle(root, lr, seed)
    killed = view(root / PROJECT / run_id)
    read_back = killed.metrics["train/loss"].count
    print(f"  {run_id:<18} SIGKILL: {returned} calls returned before the kill, {read_back} read back", end="")
    # A call may be kept whose dot was not written any more; never the other way round.
    print(f" ({killed.status}; {'nothing lost' if read_back >= returned else 'LOST EVENTS'})")
    step = resume(root, run_id)
    print_run(root, run_id, f"resumed at step {step}")


# --- the best once more, to be repeated ---------------------------------------------------------


def train_and_reproduce(root: Path) -> None:
    """Train the best as a run of its own, audit it, and repeat it from its log alone."""
    about = [
        "--name",
        "best",
        "--experiment",
        EXPERIMENT,
        "--tag",
        "purpose=candidate",
        "--tag",
        "owner=demo",
    ]
    command = [sys.executable, __file__, "--dir", str(root), "--train", "0.5", "0"]
    evlog(root, "run", "--project", PROJECT, *about, command=command)
    evlog(root, "audit", "best", check=False)  # in a changed work tree it finds something
    evlog(root, "reproduce", "best", "--execute", *([] if is_committed() else ["--in-place"]))


def is_committed() -> bool:
    """Tell whether there is a commit to go back to; without, the best is run again where it stands."""
    status = ["git", "-C", str(Path(__file__).parent), "status", "--porcelain"]
    try:
        done = subprocess.run(status, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return not done.stdout


# --- what is printed -----------------------------------------------------------------------------


def print_run(root: Path, run_id: str, remark: str = "") -> None:
    run = view(root / PROJECT / run_id)
    loss = run.metrics["train/loss"]
    print(
        f"  {run_id:<18} {run.status:<9} {loss.count:>5} steps   loss {loss.last:6.4f}   "
        f"accuracy {run.metrics['val/accuracy'].last:.4f}   {remark}".rstrip()
    )


def evlog(root: Path, *arguments: str, command: Sequence[str] = (), check: bool = True) -> None:
    """Run an ``evlog`` command and let it print; of another program's *command* it is the wrapper."""
    words = [*arguments, "--dir", str(root), *(["--", *command] if command else [])]
    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    print(f"\n$ evlog {shown}", flush=True)
    subprocess.run([sys.executable, "-m", "eventlog", *words], check=check)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("./demo-experiments"), help="root of all runs")
    parser.add_argument("--train", nargs=2, metavar=("LR", "SEED"), help="train one run and nothing else")
    parser.add_argument("--victim", nargs=2, metavar=("LR", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    root: Path = options.dir
    if options.victim:
        train_for_the_kill(root, float(options.victim[0]), int(options.victim[1]))
        return
    if options.train:
        start(root, float(options.train[0]), int(options.train[1]))
        return
    began = time.monotonic()
    print(f"{len(LEARNING_RATES)} learning rates x {len(SEEDS)} seeds into {root}/{PROJECT}")
    for lr in LEARNING_RATES:
        for seed in SEEDS:
            if (lr, seed) == KILLED:
                kill_and_resume(root, lr, seed)
            else:
                print_run(root, start(root, lr, seed))
    evlog(root, "list")
    evlog(root, "verify")
    evlog(root, "query", LEADERBOARD)
    evlog(root, "leaderboard", "--metric", "val/accuracy", "--group-by", "lr")
    evlog(root, "significance", "lr0.5-seed0", "lr0.01-seed0", "--benchmark", "digits")
    train_and_reproduce(root)
    print(f"\n{time.monotonic() - began:.1f} s in all")


if __name__ == "__main__":
    main()
