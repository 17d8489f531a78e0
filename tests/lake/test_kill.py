from __future__ import annotations

import random
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from eventlog.lake.publish import publish
from eventlog.lake.verify import verify
from tests.lake.publishers import publish_at_once, start
from tests.lake.support import RunMaker, finished, make_runs, plain_rows, steps

NOW = timedelta(0)
ONCE = "SELECT count(*), count(DISTINCT (run_id, key, writer, seq)) FROM {metrics}"


def is_whole(root: Path, lake: Path) -> bool:
    """Tell whether the lake holds each row once, also for readers without Delta."""
    found = verify(root, str(lake))
    assert found.differences == []
    assert found.useless == []
    (rows,) = plain_rows(lake, ONCE)
    (runs,) = plain_rows(lake, "SELECT count(*), count(DISTINCT (project, run_id)) FROM {runs}")
    return rows[0] == rows[1] == found.rows["metrics"] and runs[0] == runs[1] == found.rows["runs"]


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("write", 1),
        ("keep", 1),
        ("commit", 1),
        ("keep", 2),
        ("commit", 2),
        ("commit", 4),
        ("keep", 6),
        ("commit", 8),
        ("delete", 1),
        ("delete", 9),
    ],
)
def test_a_publisher_killed_at_a_step_leaves_each_row_once(
    tmp_path: Path, step: str, number: int, is_after: bool
) -> None:
    """Whatever a dead publisher left, the next one finds what is missing and removes what does not count."""
    root, lake = tmp_path / "root", tmp_path / "lake"
    grown = RunMaker(root, "grows")
    grown.put(finished(10)[:-1])
    publish(root, str(lake), keep=NOW)
    grown.put([*steps(5, start=10), *finished(0)[-1:]])
    make_runs(root, 1)

    killed = start(root, str(lake), kill_at=(step, number, is_after))
    killed.join(60)
    publish(root, str(lake), keep=NOW)

    assert killed.exitcode == -9
    assert is_whole(root, lake)


def test_several_publishers_of_one_root_write_each_row_once(tmp_path: Path) -> None:
    """Hosts that share a file system may all publish it at once."""
    root, lake = tmp_path / "root", tmp_path / "lake"
    make_runs(root, 6)

    codes = publish_at_once([root] * 4, str(lake), times=2)
    publish(root, str(lake), keep=NOW)

    assert codes == [0, 0, 0, 0]
    assert is_whole(root, lake)


def test_publishers_killed_at_random_beside_others_leave_each_row_once(tmp_path: Path) -> None:
    """SIGKILL at any moment, while others publish the same and other runs, costs no row and doubles none."""
    root, other, lake = tmp_path / "root", tmp_path / "other", tmp_path / "lake"
    make_runs(other, 2, project="other")
    clock = threading.Event()
    moments = random.Random(4)
    for number in range(6):
        make_runs(root, 2, first=2 * number)
        victims = [start(root, str(lake), times=3) for _ in range(2)]
        bystander = start(other, str(lake))
        for victim in victims:
            clock.wait(moments.uniform(0.05, 0.6))
            victim.kill()
        for process in (*victims, bystander):
            process.join(60)
        assert bystander.exitcode == 0

    publish(root, str(lake), keep=NOW)
    publish(other, str(lake), keep=NOW)

    assert verify(root, str(lake)).differences == []
    assert verify(other, str(lake)).differences == []
    (rows,) = plain_rows(lake, ONCE)
    assert rows == (14 * 40, 14 * 40)
