"""Prints medians as Markdown tables, and says on what they were measured."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers import PEERS

Figures = dict[str, float]
Rounds = dict[str, list[Figures]]

TITLES = {name: peer.title for name, peer in PEERS.items()} | {"evlog_local": "evlog with the `local` sink"}
PACKAGES = ("evlog", "orjson", "msgspec", "duckdb", "numpy", "tensorboard", "wandb", "trackio", "mlflow")


def medians(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure over the rounds."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def environment() -> dict[str, object]:
    """Return date, processor, system, versions, and how busy the machine was before."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    ruler = (
        "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    )
    return "\n".join([line(columns), ruler, *(line(row) for row in rows)])


def number(value: float, digits: int = 1) -> str:
    """Return *value* with thousands separated."""
    return f"{value:,.{digits}f}"


def by_peer(rounds: Rounds, figures: dict[str, tuple[str, int]], ratio_of: str) -> str:
    """Return a table with a row for each peer; the last column compares one figure with the naive one's.

    Args:
        figures: figure to its column's title and digits.
        ratio_of: the figure that is compared.
    """
    if not rounds:
        return "Nothing could be measured."
    found = {name: medians(results) for name, results in rounds.items()}
    naive = found.get("naive")
    rows = []
    for name, values in found.items():
        cells = [number(values[figure], digits) for figure, (_, digits) in figures.items()]
        ratio = f"{values[ratio_of] / naive[ratio_of]:.2f}" if naive else "-"
        rows.append([TITLES[name], *cells, ratio])
    return table(["", *(title for title, _ in figures.values()), "to naive"], rows)


def one_each(values: Figures, lines: dict[str, tuple[str, int]]) -> str:
    """Return a table with a row for each figure: title, value."""
    rows = [
        [title, number(values[name], digits)] for name, (title, digits) in lines.items() if name in values
    ]
    return table(["", "median"], rows)


def describe(about: dict[str, object]) -> str:
    """Return one paragraph on the machine and the versions."""
    packages = about["packages"]
    assert isinstance(packages, dict)
    names = ", ".join(f"{name} {found}" for name, found in packages.items())
    return (
        f"{about['date']}, {about['cpu']} x {about['cores']}, {about['system']}, Python {about['python']}, "
        f"load before: {about['load_1min']}; {names}"
    )
