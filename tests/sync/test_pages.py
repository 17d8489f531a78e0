"""The pages on delivery: their commands are run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import Tracker, TrackingConfig
from eventlog.cli.reference import reference_page

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL, HOW_TO = DOCS / "tutorial" / "offline-cluster.md", DOCS / "how-to" / "sync.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run_shell(script: str, cwd: Path) -> str:
    """Run *script* as a shell would that stops at the first failure."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tutorial_can_be_followed(tmp_path: Path) -> None:
    """With what is installed with evlog itself, in the order of the page."""
    (tmp_path / "train.py").write_text(blocks(TUTORIAL, "python")[0])
    jobs, first_look, first_sync, second_sync, verify, mirror = blocks(TUTORIAL, "bash")

    run_shell(jobs, tmp_path)
    assert run_shell(first_look, tmp_path).count("never sent") == 2
    sent = run_shell(first_sync, tmp_path).partition("run ")[2].partition("\nrun ")[2]
    assert re.findall(r"cluster/seed-(\d) +tensorboard +delivered +(\d+) +finished", sent) == [
        ("1", "205"), ("2", "205"),
    ]  # fmt: skip
    assert re.findall(r"delivered +(\d+)", run_shell(second_sync, tmp_path)) == ["0", "0"]
    assert run_shell(verify, tmp_path).count("proven") == 2
    assert re.findall(r"seed-\d +200", run_shell(mirror, tmp_path)) != []


def test_the_how_tos_commands_work(tmp_path: Path) -> None:
    """Each block from the same beginning, with runs of the names that it uses."""
    if shutil.which("jq") is None:
        pytest.skip("there is no jq")
    for name in ("digits-1", "digits-2"):
        tracker = Tracker(
            (),
            TrackingConfig(project="demo", tags={"model": "resnet"}),
            output_dir=tmp_path / "experiments",
        )
        tracker.start_run(run_id=name)
        for step in range(30):
            tracker.log_metrics({"train/loss": 1.0, "train/grad": 2.0}, step)
        tracker.end_run()

    for block in blocks(HOW_TO, "bash"):
        run_shell(block, tmp_path)


@pytest.mark.parametrize("page", [TUTORIAL, HOW_TO], ids=lambda page: page.name)
def test_every_option_on_the_page_exists(page: Path) -> None:
    """Also in commands that cannot be run here."""
    known = set(
        re.findall(r"--[a-z-]+", reference_page().partition("## evlog sync")[2].partition("\n## ")[0])
    )
    lines = [line for line in page.read_text().splitlines() if "evlog sync" in line]
    used = {option for line in lines for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}

    assert used - known == set()
