"""Runs the tests of queries on the other supported major of DuckDB, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

OTHER = {"2": "duckdb>=1.5.6,<2", "1": "duckdb>=2,<3"}


def main() -> int:
    """Return pytest's exit code on the major that is not installed here."""
    wanted = OTHER[duckdb.__version__.split(".")[0]]
    with tempfile.TemporaryDirectory(prefix="evlog-duckdb-") as directory:
        target = Path(directory)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--target", str(target), wanted], check=True)
        # A directory of its own in front of the path: the same packages, another DuckDB.
        code = (
            f"import sys; sys.path.insert(0, {str(target)!r}); import duckdb, pytest; "
            "print('DuckDB', duckdb.__version__); "
            "raise SystemExit(pytest.main(['-q', '-p', 'no:cacheprovider', 'tests/query']))"
        )
        return subprocess.run([sys.executable, "-c", code], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
