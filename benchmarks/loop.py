"""What a tracker costs a training loop: the share of the loop's time that is spent in its calls."""

from __future__ import annotations

import random
import time
from pathlib import Path

from benchmarks.peers import PEERS

Figures = dict[str, float]
STEP_S = 0.005


def measure_loop(name: str, directory: Path, scale: float) -> Figures:
    """Return the time in log calls as a share of a loop of matrix products of 5 ms, one call a step."""
    import numpy as np

    rng = np.random.default_rng(0)
    left, right = rng.random((256, 256)), rng.random((256, 256))
    products = _calibrate(lambda: left @ right)
    session = PEERS[name].open(directory)
    fresh, now = random.Random(0).random, time.perf_counter
    in_calls = 0.0
    steps = max(20, int(400 * scale))
    begin = now()
    for step in range(steps):
        for _ in range(products):
            left @ right
        metrics = {"loss": fresh(), "accuracy": fresh(), "lr": fresh()}
        called = now()
        session.log(metrics, step)
        in_calls += now() - called
    total = now() - begin
    session.close()
    return {
        "overhead_percent": 100 * in_calls / total,
        "call_us": 1e6 * in_calls / steps,
        "step_ms": 1000 * (total - in_calls) / steps,
    }


def _calibrate(product: object) -> int:
    """Return how many products take 5 ms."""
    assert callable(product)
    times = []
    for _ in range(30):
        begin = time.perf_counter()
        product()
        times.append(time.perf_counter() - begin)
    return max(1, round(STEP_S / sorted(times)[len(times) // 2]))
