"""Following many runs: what there is, is found and delivered, whatever happens to one of them."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from eventlog import Tracker, TrackingConfig
from eventlog.delivery import lease
from eventlog.delivery.ledger import ledger_path
from eventlog.events import RunStarted
from eventlog.storage.layout import RunPath
from eventlog.sync import Outcome, Selection, SyncOptions, Target
from eventlog.watch import RunSource, follow_runs
from tests.logs import LogMaker, metrics, put
from tests.sync.destinations import NAME, Delivered, tell
from tests.tracker.support import start_job
from tests.waiting import wait_until


class Following:
    """What is heard of runs that are followed in a thread."""

    def __init__(self, root: Path, to: Path) -> None:
        self.root, self.to = root, to
        self.outcomes: list[Outcome] = []

    def of(self, run_id: str) -> Delivered:
        return Delivered(self.to, run_id)

    def results(self, run_id: str) -> list[str]:
        return [one.result for one in self.outcomes if one.run_id == run_id]

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        wait_until(condition, f"{what}; heard: {self.outcomes}", timeout_s=30.0)

    def wait_for_steps(self, run_id: str, count: int) -> None:
        self.wait_for(f"{count} steps of {run_id}", lambda: len(self.of(run_id).steps) == count)

    def wait_for_status(self, run_id: str, status: str) -> None:
        self.wait_for(f"{run_id} is {status}", lambda: self.of(run_id).status == status)


Follow = Callable[..., AbstractContextManager[Following]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than for real."""
    monkeypatch.setattr("eventlog.watch.LIST_S", 0.2)
    monkeypatch.setattr("eventlog.following.ENDED_POLL_S", 0.5)
    monkeypatch.setattr("eventlog.following.ALIVE_EVERY_S", 0.2)
    monkeypatch.setattr("eventlog.delivery.breaker.FIRST_WAIT_S", 0.1)


@pytest.fixture
def follow(root: Path, to: Path) -> Follow:
    @contextmanager
    def following(
        *, jobs: int = 1, selection: Selection | None = None, only: RunPath | None = None, **options: object
    ) -> Iterator[Following]:
        heard, stop = Following(root, to), threading.Event()
        thread = threading.Thread(
            target=follow_runs,
            args=(
                RunSource(root, only=only),
                [Target(sink=NAME, options={"to": str(to), **options})],
                SyncOptions(jobs=jobs),
                selection or Selection(),
            ),
            kwargs={"stop": stop, "report": heard.outcomes.append},
            daemon=True,
        )
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive(), "it does not stop"

    return following


def begin(root: Path, run_id: str, *, project: str = "p", **tags: object) -> Tracker:
    tracker = Tracker((), TrackingConfig(project=project, tags=tags or None), output_dir=root)
    tracker.start_run(run_id=run_id)
    return tracker


def finished(root: Path, run_id: str, *, project: str = "p", steps: int = 3, **tags: object) -> Path:
    tracker = begin(root, run_id, project=project, **tags)
    for step in range(steps):
        tracker.log_metrics({"loss": 1.0}, step)
    path = tracker.run_dir
    assert path is not None
    tracker.end_run()
    return path


@contextmanager
def dying_job(directory: Path, *, resume: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Start a job that has logged a hundred steps and waits for its death."""
    job = start_job(
        f"""
        import time
        from eventlog import create_tracker
        t = create_tracker("local", output_dir="experiments", project="p")
        t.start_run(run_id="dies", resume={resume})
        for i in range(100): t.log_metrics({{"x": i}}, i)
        t.flush()
        print("ready", flush=True)
        time.sleep(60)
        """,
        directory,
    )
    assert job.stdout is not None
    job.stdout.readline()
    try:
        yield job
    finally:
        job.kill()
        job.communicate()


def test_runs_that_were_there_and_those_that_come_later_are_delivered(root: Path, follow: Follow) -> None:
    """Whether a run began before or after the following makes no difference."""
    first = finished(root, "first")

    with follow() as heard:
        heard.wait_for_status("first", "finished")
        second = finished(root, "second", project="other")
        heard.wait_for_status("second", "finished")

    assert heard.of("first").is_all_of(first)
    assert heard.of("second").is_all_of(second)


def test_a_root_that_is_not_there_yet_is_waited_for(root: Path, follow: Follow) -> None:
    """Who follows is often there before the first run."""
    with follow() as heard:
        assert not root.exists()
        finished(root, "first")

        heard.wait_for_status("first", "finished")


def test_what_a_live_run_logs_arrives_while_it_goes_on(root: Path, follow: Follow) -> None:
    """Also several appends within one second, each as it comes."""
    tracker = begin(root, "live")

    with follow() as heard:
        for step in range(10):
            tracker.log_metrics({"loss": 1.0}, step)
            heard.wait_for_steps("live", step + 1)
        assert heard.of("live").status == ""
        tracker.end_run("failed")
        heard.wait_for_status("live", "failed")

    assert heard.of("live").steps == list(range(10))


def test_a_run_directory_that_is_filled_late_is_found(root: Path, follow: Follow) -> None:
    """A directory is seen before its log is in it, and the log before its first line."""
    run = root / "p" / "late"
    run.mkdir(parents=True)

    with follow() as heard:
        finished(root, "other")
        heard.wait_for_status("other", "finished")
        (run / "log").mkdir()
        finished(root, "third")
        heard.wait_for_status("third", "finished")
        lines = LogMaker().segment([RunStarted(name="late"), *metrics(5)])
        put(run, 1, b"".join(lines))
        heard.wait_for_status("late", "crashed")

    assert heard.of("late").steps == list(range(5))


def test_a_run_without_a_beginning_is_delivered(root: Path, follow: Follow) -> None:
    """A log that lost its first line is still worth having."""
    run = root / "p" / "headless"
    put(run, 1, b"".join(LogMaker().segment(metrics(5))))

    with follow() as heard:
        heard.wait_for_status("headless", "crashed")

    assert heard.of("headless").steps == list(range(5))


def test_a_run_that_is_resumed_after_its_delivery_is_delivered_on(root: Path, follow: Follow) -> None:
    """The end of a run is not the end of following it, and nothing comes twice."""
    run = finished(root, "again", steps=3)

    with follow() as heard:
        heard.wait_for_status("again", "finished")
        tracker = Tracker((), TrackingConfig(project="p"), output_dir=root, resume=True)
        tracker.start_run(run_id="again")
        tracker.log_metrics({"loss": 2.0}, 3)
        heard.wait_for("the resumed part", lambda: 3 in heard.of("again").steps)
        tracker.end_run("failed")
        heard.wait_for_status("again", "failed")

    assert heard.of("again").steps == [0, 1, 2, 3]
    assert heard.of("again").is_all_of(run)


def test_a_run_that_is_deleted_is_left_alone(root: Path, follow: Follow) -> None:
    """Its directory does not come back, others go on, and a new run of its name is another run."""
    tracker = begin(root, "gone")
    tracker.log_metrics({"loss": 1.0}, 0)
    run = tracker.run_dir
    assert run is not None

    with follow() as heard:
        heard.wait_for("its beginning", lambda: 0 in heard.of("gone").steps)
        tracker.end_run()
        heard.wait_for("its end", lambda: heard.results("gone") == ["delivered"])
        shutil.rmtree(run)
        finished(root, "other")
        heard.wait_for_status("other", "finished")
        was_made_again = run.exists()
        shutil.rmtree(heard.to)
        finished(root, "gone", steps=7)
        heard.wait_for_status("gone", "finished")

    assert not was_made_again
    assert heard.of("gone").steps == list(range(7))


def test_a_run_that_is_deleted_while_it_is_delivered_is_left_alone(
    root: Path, tmp_path: Path, follow: Follow
) -> None:
    """Not even a ledger is written where somebody has cleaned up."""
    with dying_job(tmp_path) as job, follow() as heard:
        heard.wait_for("its beginning", lambda: len(heard.of("dies").steps) == 100)
        # In one step: its directory may be written at this moment.
        (root / "p" / "dies").rename(tmp_path / "away")
        job.kill()
        finished(root, "other")
        heard.wait_for_status("other", "finished")
        heard.wait_for("the sink's end", lambda: heard.of("dies").calls[-1][0] == "close")

    assert not (root / "p" / "dies").exists()
    assert heard.of("dies").status == ""
    assert heard.results("dies") == []


def test_a_sink_that_fails_for_one_run_is_told_once_and_the_others_go_on(
    root: Path, to: Path, follow: Follow
) -> None:
    """One bad run costs one line."""
    tell(to, "fail-write-bad")
    for name in ("a", "bad", "z"):
        finished(root, name)

    with follow() as heard:
        heard.wait_for_status("a", "finished")
        heard.wait_for_status("z", "finished")
        heard.wait_for("the failure", lambda: heard.results("bad") == ["failed"])

    assert "404 in write" in next(one.message for one in heard.outcomes if one.run_id == "bad")


def test_a_run_that_failed_is_tried_again(
    root: Path, to: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong may have been put right."""
    monkeypatch.setattr("eventlog.following.RETRY_S", 0.1)
    fault = tell(to, "fail-write")
    finished(root, "run")

    with follow() as heard:
        heard.wait_for("the failure", lambda: heard.results("run") == ["failed"])
        fault.unlink()
        heard.wait_for_status("run", "finished")


def test_a_sink_that_hangs_on_one_run_does_not_stop_other_threads(
    root: Path, to: Path, follow: Follow
) -> None:
    """With several jobs the runs of other threads go on."""
    fault = tell(to, "hang-write-bad")
    finished(root, "bad")
    others = [f"run{i}" for i in range(12)]

    with follow(jobs=4) as heard:
        heard.wait_for("the hanging", lambda: "write" in dict(heard.of("bad").calls))
        for name in others:
            finished(root, name)
        # Of twelve runs in four threads not all share one with the one that hangs.
        heard.wait_for("another run", lambda: sum(heard.of(n).status == "finished" for n in others) >= 3)
        assert heard.of("bad").status == ""
        fault.unlink()
        for name in ["bad", *others]:
            heard.wait_for_status(name, "finished")


def test_a_destination_that_is_down_is_told_once_and_comes_back(root: Path, to: Path, follow: Follow) -> None:
    """Nothing is lost and nothing comes twice."""
    fault = tell(to, "down")
    run = finished(root, "run")

    with follow() as heard:
        heard.wait_for("word of it", lambda: heard.results("run") == ["waiting"])
        heard.wait_for("another try", lambda: len(heard.of("run").calls) > 2)
        fault.unlink()
        heard.wait_for_status("run", "finished")

    assert heard.results("run") == ["waiting", "delivered"]
    assert heard.of("run").is_all_of(run)


def test_waits_grow_while_a_destination_opens_but_takes_nothing(
    root: Path, to: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many sinks open without a word to their server: that is no success."""
    from eventlog.delivery.breaker import Breaker

    waits: list[int] = []
    failed = Breaker.failed

    def noted(self: Breaker, now: float, error: str, retry_after_s: float | None = None) -> None:
        failed(self, now, error, retry_after_s)
        waits.append(self._failures)

    monkeypatch.setattr(Breaker, "failed", noted)
    finished(root, "run")
    opens_only = tell(to, "down-write")

    with follow() as heard:
        heard.wait_for("three failures", lambda: len(waits) >= 3)
        opens_only.unlink()
        heard.wait_for_status("run", "finished")

    assert waits[:3] == [1, 2, 3]


def test_a_writer_that_is_killed_leaves_a_crashed_run(root: Path, tmp_path: Path, follow: Follow) -> None:
    """Everything that it logged arrives, and so does its death."""
    with dying_job(tmp_path) as job, follow() as heard:
        job.kill()
        heard.wait_for_status("dies", "crashed")

    assert heard.of("dies").steps == list(range(100))


def test_a_run_that_is_resumed_and_killed_is_crashed_after_all(
    root: Path, tmp_path: Path, follow: Follow
) -> None:
    """That it was finished once does not count any more, and its death makes no file grow."""
    finished(root, "dies", steps=0)

    with follow() as heard:
        heard.wait_for_status("dies", "finished")
        with dying_job(tmp_path, resume=True) as job:
            heard.wait_for_steps("dies", 100)
            job.kill()
            heard.wait_for_status("dies", "crashed")


def test_a_run_that_another_process_delivers_is_waited_for(
    root: Path, to: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One delivers, the other follows when the first has gone."""
    monkeypatch.setattr("eventlog.following.RETRY_S", 0.1)
    run = finished(root, "run")
    held = lease.acquire(ledger_path(run, NAME, str(to)).with_suffix(""))

    with follow() as heard:
        heard.wait_for("word of it", lambda: heard.results("run") == ["busy"])
        assert heard.of("run").calls == []
        held.release()
        heard.wait_for_status("run", "finished")

    assert heard.results("run") == ["busy", "delivered"]


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_two_hundred_live_runs_at_once(root: Path, follow: Follow) -> None:
    """Each arrives whole; no file is kept open for each of them."""
    makers = {}
    for i in range(200):
        makers[f"run{i}"] = log = LogMaker(f"r0-01KAHCZG0000000000000{i:05d}")
        put(root / "p" / f"run{i}", 1, b"".join(log.segment(metrics(3))), writer=log.writer)
    open_before = _open_files()

    with follow(jobs=2) as heard:
        heard.wait_for("all", lambda: sum(heard.of(name).status == "crashed" for name in makers) == 200)
        for name, log in makers.items():
            put(root / "p" / name, 2, b"".join(log.segment(metrics(2, start=3))), writer=log.writer)
        heard.wait_for("the rest", lambda: sum(len(heard.of(name).steps) == 5 for name in makers) == 200)
        assert _open_files() < open_before + 50

    assert all(heard.of(name).steps == list(range(5)) for name in makers)


def test_only_wanted_runs_are_followed_and_a_tag_may_come_later(root: Path, follow: Follow) -> None:
    """A run that gets the tag while it goes on is taken from its beginning."""
    finished(root, "never", project="other")
    tracker = begin(root, "later")
    tracker.log_metrics({"loss": 1.0}, 0)
    finished(root, "at-once", keep="yes")

    with follow(selection=Selection(projects=("p",), tags=("keep",))) as heard:
        heard.wait_for_status("at-once", "finished")
        assert heard.of("later").calls == []
        tracker.set_tags({"keep": "yes"})
        heard.wait_for("its beginning", lambda: heard.of("later").steps == [0])
        tracker.end_run()
        heard.wait_for_status("later", "finished")

    assert heard.of("never").calls == []


def test_only_finished_runs_can_be_followed(root: Path, follow: Follow) -> None:
    """A run is taken when it has ended."""
    tracker = begin(root, "run")

    with follow(selection=Selection(only_finished=True)) as heard:
        finished(root, "other")
        heard.wait_for_status("other", "finished")
        assert heard.of("run").calls == []
        tracker.end_run()
        heard.wait_for_status("run", "finished")


def test_a_log_that_cannot_be_looked_at_does_not_stop_the_others(root: Path, follow: Follow) -> None:
    """It is told once."""
    bad = root / "p" / "bad" / "log"
    bad.mkdir(parents=True)
    (bad / "r0-01KAHCZG000000000000000A00.000001.jsonl").mkdir()

    with follow(selection=Selection(tags=("x",))) as heard:
        finished(root, "good", x="1")
        heard.wait_for_status("good", "finished")
        heard.wait_for("word of the bad one", lambda: heard.results("bad") == ["failed"])


def test_one_run_can_be_followed_alone(root: Path, follow: Follow) -> None:
    """Others in the same root are not touched."""
    run = finished(root, "one")
    finished(root, "two")

    with follow(only=RunPath("p", "one", run)) as heard:
        heard.wait_for_status("one", "finished")

    assert heard.of("two").calls == []


def test_a_large_backlog_can_be_stopped_between_batches(root: Path, to: Path, follow: Follow) -> None:
    """Stopping does not wait for all that there is, and the next one goes on from there."""
    tell(to, "slow")
    run = finished(root, "big", steps=2000)

    with follow(batch=10) as heard:
        heard.wait_for("a beginning", lambda: len(heard.of("big").events) >= 20)
    count = len(heard.of("big").events)
    (to / "slow").unlink()
    with follow(batch=1000) as heard:
        heard.wait_for_status("big", "finished")

    assert count < 2000
    assert heard.of("big").is_all_of(run)


def test_notifications_are_only_a_hint(root: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none ever come, looking at sizes finds everything."""
    monkeypatch.setattr("eventlog.watch._hint", lambda *_: None)
    monkeypatch.setattr("eventlog.watch.is_network_file_system", lambda _: True)
    monkeypatch.setattr("eventlog.delivery.growth.is_network_file_system", lambda _: True)
    monkeypatch.setattr("eventlog.watch.NETWORK_LIST_S", 0.2)
    tracker = begin(root, "run")

    with follow() as heard:
        tracker.log_metrics({"loss": 1.0}, 0)
        heard.wait_for("the first", lambda: heard.of("run").steps == [0])
        finished(root, "second")
        heard.wait_for_status("second", "finished")
        tracker.end_run()
        heard.wait_for_status("run", "finished")
