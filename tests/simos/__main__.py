"""The long walk: see the package."""

from __future__ import annotations

import argparse
import sys
import time
import warnings

from tests.simos.walk import walk


def main() -> int:
    """Walk as far as asked."""
    parser = argparse.ArgumentParser(description="Storage on a simulated operating system.")
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    began = time.monotonic()
    calls = walk(arguments.steps, arguments.seed)
    sys.stdout.write(
        f"{arguments.steps} steps, {calls} calls of the system, seed {arguments.seed}: every promise kept "
        f"({time.monotonic() - began:.1f} s)\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
