from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventlog.errors import forget_reports


@pytest.fixture(autouse=True)
def clean_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty directory, as a user with no settings would."""
    for name in list(os.environ):
        if name.startswith(("EVLOG_", "WANDB_")) or name in {"RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    forget_reports()
