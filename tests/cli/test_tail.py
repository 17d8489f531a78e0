from __future__ import annotations

import io
import json
import signal
import subprocess
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.plugins import load_sink
from eventlog.sink import Batch
from eventlog.storage.merge import RunReader
from eventlog.tracker import Tracker, TrackingConfig
from tests.cli.conftest import Evlog, log_run, start
from tests.waiting import wait_until


def _steps(out: str) -> list[int]:
    return [event["step"] for event in map(json.loads, out.splitlines()) if event["type"] == "metrics"]


def test_tail_shows_the_last_events(root: Path, evlog: Evlog) -> None:
    """-n counts events from the end."""
    log_run(root, "one", steps=50)

    lines = evlog("tail", "one", "-n", "3").out.splitlines()

    assert [line.split()[1] for line in lines] == ["metrics", "metrics", "run_ended"]
    assert "step 49" in lines[1]


def test_tail_of_everything_has_every_event_once(root: Path, evlog: Evlog) -> None:
    """--all begins at the first event."""
    log_run(root, "one", steps=50)

    assert _steps(evlog("tail", "one", "--all", "--json").out) == list(range(50))


def test_tail_of_nothing_from_the_past_is_empty(root: Path, evlog: Evlog) -> None:
    """-n 0 waits for what comes, and without -f nothing does."""
    log_run(root, "one")

    assert evlog("tail", "one", "-n", "0").out == ""


def test_following_a_run_that_has_ended_ends(root: Path, evlog: Evlog) -> None:
    """-f gives the past and leaves when nobody writes any more."""
    log_run(root, "one", steps=50)

    assert _steps(evlog("tail", "one", "-f", "-n", "4", "--json").out) == [47, 48, 49]


class _Follower:
    """`evlog tail -f` in a process, with what it has printed so far."""

    def __init__(self, path: Path, *args: str) -> None:
        self._file = path.open("wb")
        self.path = path
        self.process = start("tail", "-f", "--json", *args, stdout=self._file)

    def steps(self) -> list[int]:
        text = self.path.read_text()
        return _steps(text[: text.rfind("\n") + 1])

    def end(self) -> tuple[int, bytes]:
        _, err = self.process.communicate(timeout=60)
        self._file.close()
        return self.process.returncode, err


def test_following_shows_what_is_logged_while_it_runs(root: Path, tmp_path: Path) -> None:
    """New events arrive while the writer is open, each once, and the end of the run ends the command."""
    with Tracker((), TrackingConfig(project="demo"), output_dir=root) as tracker:
        tracker.start_run(run_id="live")
        tracker.log_metrics({"loss": 1.0}, step=0)
        follower = _Follower(tmp_path / "out", "live")
        wait_until(lambda: follower.steps() == [0], "the past is shown")
        for step in range(1, 20):
            tracker.log_metrics({"loss": 1.0}, step=step)
        wait_until(lambda: follower.steps() == list(range(20)), "what came is shown")

    code, err = follower.end()

    assert (code, err) == (0, b"")


def test_interrupt_stops_following_without_a_word(root: Path, tmp_path: Path) -> None:
    """Ctrl-C is how one leaves."""
    with Tracker((), TrackingConfig(project="demo"), output_dir=root) as tracker:
        tracker.start_run(run_id="live")
        tracker.log_metrics({"loss": 1.0}, step=0)
        follower = _Follower(tmp_path / "out", "live")
        wait_until(lambda: follower.steps() == [0], "it follows")

        follower.process.send_signal(signal.SIGINT)
        code, err = follower.end()

    assert (code, err) == (130, b"")


# --- the console sink ----------------------------------------------------------------------------


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def _shown(root: Path, stream: io.StringIO, *events: ev.Event) -> list[str]:
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=root)
    tracker.start_run(run_id="one")
    for event in events:
        tracker.log_event(event)
    path = tracker.run_dir
    tracker.end_run()
    assert path is not None
    sink = load_sink("console", stream=stream)
    sink.write(Batch(list(RunReader(path).slices())))
    return [line.partition("  ")[2] for line in stream.getvalue().splitlines()[2:-1]]


def test_console_sink_writes_a_line_per_event(root: Path, stream: io.StringIO) -> None:
    """Each kind of event says what matters in it."""
    lines = _shown(
        root,
        stream,
        ev.Metrics(step=3, data={"loss": 0.123456789, "f1": "NaN"}),
        ev.Metrics(data={"n": 2}),
        ev.Params(data={"a": {"b": 1}}),
        ev.Note(text="two\nlines"),
        ev.Alert(title="hot", level="warning"),
    )

    assert [line.split() for line in lines] == [
        ["metrics", "step", "3", "loss=0.123457", "f1=NaN"],
        ["metrics", "n=2"],
        ["params", 'a={"b":', "1}"],
        ["note", "two"],
        ["note", "lines"],
        ["alert", "title=hot", "level=warning"],
    ]


def test_console_sink_marks_the_streams(root: Path, stream: io.StringIO) -> None:
    """What a command printed is told apart from what it complained about."""
    lines = _shown(
        root, stream, ev.Console(stream="stdout", text="a\nb"), ev.Console(stream="stderr", text="c")
    )

    assert [line.partition("console")[2].strip() for line in lines] == ["out| a", "out| b", "err| c"]


def test_console_sink_shows_every_known_event(root: Path, stream: io.StringIO) -> None:
    """No kind of event, with nothing but its defaults, stops it."""
    import msgspec

    values: dict[str, object] = {"status": "finished", "counts": {}, "media_type": "text", "stream": "stdout"}
    events = []
    for kind in ev.KNOWN:
        if kind in (ev.SegmentOpened, ev.SegmentSealed, ev.RunStarted, ev.RunEnded):
            continue
        required = [field.name for field in msgspec.structs.fields(kind) if field.required]
        numbers = dict.fromkeys(("first_ts", "last_ts", "index"), 1)
        events.append(kind(**{name: {**values, **numbers}.get(name, "x") for name in required}))  # type: ignore[arg-type]

    lines = _shown(root, stream, *events)

    assert [line.split()[0] for line in lines] == [ev.type_name(event) for event in events]


def test_tail_needs_no_pipe_to_be_read(root: Path) -> None:
    """A closed standard output is an error of the user's, not a traceback."""
    log_run(root, "one")
    process = start("tail", "one", stdout=subprocess.DEVNULL)

    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (0, b"")
