"""The page on benchmarks says what the software does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "benchmarks.md"


def test_examples_of_the_page_print_what_they_should(tmp_path: Path) -> None:
    """Each example runs by itself."""
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)

    printed = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        for code in examples
    ]

    assert printed == ["Accuracy: 50.0%\n", "1.0\n", "4.0\ntie 1.0\n0.88\n"]
