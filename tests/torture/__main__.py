"""Plays rows, keeps what they came to, and writes the table: see the package."""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.torture.rows import MODULES, Form, Result, load_row

DOCS = Path(__file__).parents[2] / "docs" / "explanation"
RECORD, PAGE = DOCS / "torture.json", DOCS / "durability.md"
_TABLE = re.compile(r"(<!-- torture -->\n).*?(<!-- /torture -->)", re.DOTALL)


class Played(msgspec.Struct, kw_only=True):
    """A row as it was played.

    Attributes:
        code: the commit, with a ``+`` if something was changed since.
        day: on which it was played, UTC.
    """

    row: int
    title: str
    promise: str
    form: Form
    seed: int
    seconds: float
    machine: str
    code: str
    day: str
    result: Result


def play(number: int, form: Form, seed: int) -> Played:
    """Play one row."""
    row = load_row(number)
    began = time.monotonic()
    result = row.play(form, seed)
    return Played(
        row=number,
        title=row.TITLE,
        promise=row.PROMISE,
        form=form,
        seed=seed,
        seconds=round(time.monotonic() - began, 1),
        machine=f"{platform.system()} {platform.release()}, {os.cpu_count()} processors",
        code=_commit(),
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        result=result,
    )


def _commit() -> str:
    """Return what is played, as git names it; empty where there is no git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, cwd=DOCS, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def read_record() -> dict[int, Played]:
    """Return what is on record, by row."""
    if not RECORD.exists():
        return {}
    return {one.row: one for one in msgspec.json.decode(RECORD.read_bytes(), type=list[Played])}


def is_poorer(played: Played, kept: Played | None) -> bool:
    """Tell whether a play found nothing, and less was tried than is on record since something is missing."""
    result = played.result
    return bool(kept and result.is_good and result.skipped and result.cases < kept.result.cases)


def keep(played: Played) -> bool:
    """Put a row on record in the place of what was there; return False if it is poorer, and is not kept."""
    record = read_record()
    if is_poorer(played, record.get(played.row)):
        return False
    record[played.row] = played
    data = msgspec.json.format(msgspec.json.encode([record[row] for row in sorted(record)]), indent=2)
    RECORD.write_bytes(data + b"\n")
    return True


def table() -> str:
    """Return the table of all rows on record, as Markdown."""
    lines = ["| | what | tried | lost | invented | result | on |", "|---|---|---:|---:|---:|---|---|"]
    for row, one in sorted(read_record().items()):
        result = one.result
        counts = "; ".join(f"{name}: {count:,}" for name, count in result.counts.items())
        tried = f"{result.cases:,}" + (f" ({counts})" if counts else "")
        verdict = "kept" if result.is_good else f"**{len(result.problems)} problems**"
        verdict += f"; not tried: {result.skipped}" if result.skipped else ""
        cells = (
            row,
            f"{one.title}: {one.promise}",
            tried,
            _count(result.lost),
            _count(result.invented),
            verdict,
            f"{one.day}, {one.seconds / 60:.0f} min",
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def write_table() -> None:
    """Put the table into the page, between its marks."""
    page = PAGE.read_text()
    PAGE.write_text(_TABLE.sub(lambda found: found[1] + table() + found[2], page))


def main() -> int:
    """Play the rows that are asked for; return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(description="The fault campaign.")
    parser.add_argument("--row", type=int, action="append", choices=sorted(MODULES), help="default all")
    parser.add_argument("--short", action="store_true", help="as `make test` plays it; nothing is kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="write the table only")
    arguments = parser.parse_args()
    is_good = True
    for number in [] if arguments.table else arguments.row or sorted(MODULES):
        played = play(number, "short" if arguments.short else "long", arguments.seed)
        is_kept = arguments.short or keep(played)
        result = played.result
        is_good = is_good and result.is_good
        sys.stdout.write(
            f"row {number}, {played.title}: {result.cases} tried in {played.seconds} s, {result.counts}, "
            f"lost {result.lost}, invented {result.invented}"
            f"{', skipped: ' + result.skipped if result.skipped else ''}\n"
        )
        for problem in result.problems[:50]:
            sys.stdout.write(f"  {problem}\n")
        if not is_kept:
            sys.stdout.write("  not put on record, where more was tried: install what is missing\n")
    if not arguments.short:
        write_table()
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
