"""One measurement in a process of its own, so that no tracker's threads and imports slow another one.

Called as ``python -m benchmarks.worker <measurement> <peer> <directory> <scale>``; the last line of its
output is the figures as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.calls import measure_busy_calls, measure_calls, measure_throughput
from benchmarks.loop import measure_loop
from benchmarks.peers import QUIET

Figures = dict[str, float]

MEASUREMENTS: dict[str, Callable[[str, Path, float], Figures]] = {
    "calls": measure_calls,
    "busy": measure_busy_calls,
    "throughput": measure_throughput,
    "loop": measure_loop,
}
# One thread for numpy: the other core is for whatever the tracker does in the background.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TIMEOUT_S = 180


class PeerFailedError(Exception):
    """A peer could not be measured; the message says why, in one line."""


def run(measurement: str, peer: str, scale: float) -> Figures:
    """Measure in a new process and a new directory.

    Raises:
        PeerFailedError: it is not installed, or failed, or did not come to an end.
    """
    with tempfile.TemporaryDirectory(prefix="evlog-bench-") as directory:
        command = [sys.executable, "-m", "benchmarks.worker", measurement, peer, directory, str(scale)]
        environment = {**os.environ, **QUIET, **ONE_THREAD, "TMPDIR": directory}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise PeerFailedError(f"no end after {TIMEOUT_S} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise PeerFailedError(lines[-1][:200])
        figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
        return figures


def main() -> None:
    """Measure what the arguments say; print the figures."""
    measurement, peer, directory, scale = sys.argv[1:]
    work = Path(directory) / "work"
    work.mkdir()
    print("\n" + json.dumps(MEASUREMENTS[measurement](peer, work, float(scale))))


if __name__ == "__main__":
    main()
