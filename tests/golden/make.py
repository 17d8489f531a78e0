"""Makes the golden logs that are not there yet; those that are there are never changed.

    python -m tests.golden.make             make what is missing, and tell what has another reading now
    python -m tests.golden.make torn-tail   only these

Look at the reading of a new case before it is committed: it is what evlog will say for ever.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from eventlog.events import FORMAT
from tests.golden import cases as cases
from tests.golden import rings as rings
from tests.golden.reading import READING, SUMS, reading
from tests.golden.registry import CASES

GOLDEN = Path(__file__).parent


def home(version: int) -> Path:
    """Return where the cases of a format lie."""
    return GOLDEN / f"format-{version}" / "cases"


def names(version: int) -> list[str]:
    """Return the cases of a format."""
    return sorted(path.name for path in home(version).iterdir() if path.is_dir())


def sums_of(directory: Path) -> list[str]:
    """Return a line for each file below *directory*, as ``sha256sum`` writes and checks it."""
    return [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(directory.parent).as_posix()}"
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]


def changed(version: int) -> list[str]:
    """Return what is wrong with the files of a format: changed, gone, or nobody's."""
    wanted = (home(version) / SUMS).read_text().splitlines()
    there = [line for name in names(version) for line in sums_of(home(version) / name)]
    return sorted(set(wanted) ^ set(there))


def misread(version: int) -> list[str]:
    """Return the cases of a format of which something else is read than when they were made."""
    wrong = []
    with tempfile.TemporaryDirectory(prefix="evlog-golden-") as scratch:
        for name in names(version):
            case = home(version) / name
            if reading(case, Path(scratch)) != (case / READING).read_bytes():
                wrong.append(name)
    return wrong


def make(name: str) -> None:
    """Make a case that is not there yet; it appears when it is whole."""
    final = home(FORMAT) / name
    with tempfile.TemporaryDirectory(prefix="evlog-golden-") as scratch:
        young = Path(scratch) / name
        young.mkdir()
        CASES[name](young)
        data = reading(young, Path(scratch) / "copy")
        (young / READING).write_bytes(data)
        if final.exists():
            raise FileExistsError(f"{final} is there: golden logs are never made again")
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(young, final)
    with (final.parent / SUMS).open("a") as file:
        file.writelines(f"{line}\n" for line in sums_of(final))


def main() -> int:
    """Make what is missing; return 1 if something that is there is not as it was."""
    wanted = sys.argv[1:] or list(CASES)
    home(FORMAT).mkdir(parents=True, exist_ok=True)
    (home(FORMAT) / SUMS).touch()
    for name in wanted:
        if not (home(FORMAT) / name).exists():
            make(name)
            sys.stdout.write(f"made {name}; look at {home(FORMAT) / name / READING}\n")
    problems = [line for n in range(1, FORMAT + 1) for line in (*changed(n), *misread(n))]
    for problem in problems:
        sys.stdout.write(f"not as it was: {problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
