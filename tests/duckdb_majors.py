"""Runs the tests of queries on the other supported major of DuckDB, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

TESTS = ("tests/query", "tests/lake/test_publish.py")
OTHER = {"2": "duckdb>=1.5.6,<2", "1": "duckdb>=2,<3"}


def main() -> int:
    """Return pytest's exit code on the major that is not installed here."""
    wanted = OTHER[duckdb.__version__.split(".")[0]]
    with tempfile.TemporaryDirectory(prefix="evlog-duckdb-") as directory:
        target = Path(directory)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--target", str(target), wanted], check=True)
        # A directory of its own in front of the path, for every process: the same packages, another DuckDB.
        paths = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        words = [sys.executable, "-c", "import duckdb; print('DuckDB', duckdb.__version__)"]
        subprocess.run(words, env=environment, check=True)
        pytest = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", *TESTS]
        return subprocess.run(pytest, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
