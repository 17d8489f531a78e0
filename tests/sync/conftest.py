"""A place for runs, a place where they go, and the sink between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.delivery import breaker
from tests.sync.destinations import install


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the sinks, for this process and for those that it starts; forget what was down before."""
    site = install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setattr(breaker, "_breakers", {})
    return site
