"""`make demo` tells its whole story."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "digits_sweep.py"


def test_the_demo_tells_its_whole_story(tmp_path: Path) -> None:
    """A sweep, a kill, SQL, a leaderboard over seeds, a significance test, an audit, and "identical"."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVLOG_")}

    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--dir", str(tmp_path / "runs")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "nothing lost",
        "9 runs: 9 good, 0 with damage",
        "Leaderboard: val/accuracy",
        "lr0.5-seed0 is better than lr0.01-seed0",
        "evlog audit best",
        "identical",
    ):
        assert words in done.stdout, words
    assert "Traceback" not in done.stdout + done.stderr
