"""What `evlog sync` says without sending anything: how things stand, what is there, what would be sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventlog.delivery.ledger import iter_ledgers
from tests.cli.conftest import Evlog, log_run
from tests.sync.destinations import Delivered, install, tell


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the sink `files`."""
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))


@pytest.fixture
def there(to: Path) -> list[str]:
    """Return the words that name the destination."""
    return ["--to", "files", "-o", f"to={to}"]


# --- --status ---------------------------------------------------------------------------------------


def test_status_of_a_run_that_was_never_sent(root: Path, evlog: Evlog) -> None:
    """It has a line too, whether a sink was named or not."""
    log_run(root, "one")

    anywhere = json.loads(evlog("sync", "--status", "--json").out)
    at_files = json.loads(evlog("sync", "--status", "--to", "files", "--json").out)

    assert [(row["run_id"], row["sink"], row["state"]) for row in anywhere] == [("one", "-", "never sent")]
    assert [(row["run_id"], row["sink"], row["state"]) for row in at_files] == [
        ("one", "files", "never sent")
    ]


def test_status_tells_complete_failing_and_unreadable_apart(
    root: Path, evlog: Evlog, to: Path, there: list[str]
) -> None:
    """Each run has its own state, with the error of the last try."""
    tell(to, "fail-write-fails")
    for name in ("good", "fails", "garbage"):
        log_run(root, name)
    assert evlog("sync", *there).code == 1
    next(iter(iter_ledgers(root / "demo" / "garbage"))).write_text("garbage")

    done = evlog("sync", "--status")
    states = {row["run_id"]: row for row in json.loads(evlog("sync", "--status", "--json").out)}

    assert done.code == 0
    assert {name: row["state"] for name, row in states.items()} == {
        "good": "complete", "fails": "failing", "garbage": "unreadable",
    }  # fmt: skip
    assert states["fails"]["last_error"] == "RuntimeError: 404 in write"
    assert "--restart" in states["garbage"]["last_error"]
    assert "demo/good" in done.out
    assert "404 in write" in done.out


def test_status_shows_what_is_behind_and_what_was_refused(root: Path, evlog: Evlog, there: list[str]) -> None:
    """In events, and as numbers a program can read."""
    from eventlog import Tracker, TrackingConfig
    from eventlog.events import Alert

    log_run(root, "one")
    evlog("sync", *there)
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=root, resume=True)
    tracker.start_run(run_id="one")
    tracker.log_event(Alert(title="x"))
    tracker.end_run()

    (behind,) = json.loads(evlog("sync", "--status", "--json").out)
    synced = evlog("sync", *there)
    (refused,) = json.loads(evlog("sync", "--status", "--json").out)

    assert (behind["state"], behind["lag_events"]) == ("behind", 3)
    assert (refused["state"], refused["lag_events"], refused["dead_letters"]) == ("complete", 0, 1)
    assert synced.code == 1
    assert "1 events refused: evlog sync --status" in synced.out


def test_refused_events_can_be_tried_again(
    root: Path, evlog: Evlog, there: list[str], to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the destination takes them they are dead letters no more."""
    from eventlog import Tracker, TrackingConfig
    from eventlog.events import Alert

    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=root)
    tracker.start_run(run_id="one")
    tracker.log_event(Alert(title="x"))
    tracker.end_run()
    evlog("sync", *there)
    still = evlog("sync", *there, "--retry-dead-letters")
    import file_sinks  # type: ignore[import-not-found]

    monkeypatch.setattr(file_sinks, "type_name", lambda _: "note")

    done = evlog("sync", *there, "--retry-dead-letters")

    assert (still.code, done.code) == (1, 0)
    assert json.loads(evlog("sync", "--status", "--json").out)[0]["dead_letters"] == 0
    assert Delivered(to, "one").is_all_of(root / "demo" / "one")


def test_status_of_a_name_that_is_no_run_says_so(root: Path, evlog: Evlog) -> None:
    """The others are shown."""
    log_run(root, "one")

    done = evlog("sync", "--status", "one", "typo")

    assert done.code == 1
    assert "demo/one" in done.out
    assert "No run 'typo'" in done.err


# --- --verify -----------------------------------------------------------------------------------------


def test_verify_proves_what_was_delivered(root: Path, evlog: Evlog, there: list[str]) -> None:
    """Every series of every run, point by point."""
    log_run(root, "one")
    log_run(root, "two", steps=5)
    evlog("sync", *there)

    done = evlog("sync", *there, "--verify", "--json")

    assert done.code == 0
    assert [(row["run_id"], row["result"], row["points"]) for row in json.loads(done.out)] == [
        ("one", "proven", 3), ("two", "proven", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        (None, "loss: 3 in the log, 2 at files; missing: step 1: 0.5"),
        ("0.25", "missing: step 1: 0.5; not in the log: step 1: 0.25"),
        ("NaN", "missing: step 1: 0.5; not in the log: step 1: NaN"),
    ],
)
def test_verify_finds_what_was_changed_at_the_destination(
    root: Path, evlog: Evlog, there: list[str], to: Path, after: str | None, shown: str
) -> None:
    """A point that is missing, and a value that is another."""
    log_run(root, "one")
    evlog("sync", *there)
    path = to / "one.jsonl"
    lines = path.read_text().splitlines(True)
    changed = [line.replace("0.5", after or "0.5") for line in lines if after or '"loss": 0.5' not in line]
    path.write_text("".join(changed))

    done = evlog("sync", *there, "--verify")

    assert done.code == 1
    assert shown in done.out


def test_verify_finds_a_point_too_much(root: Path, evlog: Evlog, there: list[str], to: Path) -> None:
    """In a series that the log does not have."""
    log_run(root, "one")
    evlog("sync", *there)
    with (to / "one.jsonl").open("a") as file:
        file.write('["r0-x", 99, "metrics", 7, {"other": 2.5}]\n')

    done = evlog("sync", *there, "--verify", "--json")

    (row,) = json.loads(done.out)
    assert (done.code, row["result"]) == (1, "differs")
    assert [(one["series"], one["expected"], one["delivered"]) for one in row["differences"]] == [
        ("metric other", 0, 1)
    ]


def test_verify_of_what_cannot_be_verified_is_no_proof(
    root: Path, evlog: Evlog, there: list[str], to: Path
) -> None:
    """Never sent, out of reach, no such run, a package that is missing: each has its line."""
    log_run(root, "one")

    never = evlog("sync", *there, "--verify")
    tell(to, "down")
    evlog("sync", *there, "--timeout", "0")
    (to / "down").unlink()
    evlog("sync", *there)
    tell(to, "down")
    down = evlog("sync", *there, "--verify")
    typo = evlog("sync", "typo", *there, "--verify")
    needy = evlog("sync", "--to", "needy", "--verify")

    assert [one.code for one in (never, down, typo, needy)] == [1, 1, 1, 1]
    assert "not delivered" in never.out
    assert "the server is down" in down.out
    assert "No run 'typo'" in typo.out
    assert "pip install no_such_package_anywhere" in needy.out


# --- --dry-run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[], ["--every", "2"], ["--exclude", "loss"], ["--redact", "adam"]])
def test_a_dry_run_counts_what_is_then_sent(
    root: Path, evlog: Evlog, there: list[str], to: Path, shape: list[str]
) -> None:
    """And sends nothing itself."""
    log_run(root, "one", steps=7)

    (row,) = json.loads(evlog("sync", *there, *shape, "--dry-run", "--json").out)
    was_sent = to.exists()
    evlog("sync", *there, *shape)

    assert not was_sent
    assert sum(row["events"].values()) == len(Delivered(to, "one").events)
    assert json.loads(evlog("sync", *there, *shape, "--dry-run", "--json").out)[0]["events"] == {}


def test_a_dry_run_shows_what_a_delivery_would_refuse(root: Path, evlog: Evlog, there: list[str]) -> None:
    """Another shape than before, with the way out."""
    log_run(root, "one")
    evlog("sync", *there, "--every", "2")

    done = evlog("sync", *there, "--dry-run")

    assert done.code == 1
    assert "--restart" in done.err


def test_restart_delivers_everything_anew(root: Path, evlog: Evlog, there: list[str], to: Path) -> None:
    """Also in another shape."""
    log_run(root, "one", steps=6)
    evlog("sync", *there)
    for file in to.iterdir():
        file.unlink()
    refused = evlog("sync", *there, "--every", "2")

    done = evlog("sync", *there, "--every", "2", "--restart")

    assert (refused.code, done.code) == (1, 0)
    assert "Give the same options as then" in refused.out
    assert Delivered(to, "one").steps == [0, 2, 4]


# --- what does not go together ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say where to"),
        (["--to", "files", "--option", "nonsense"], "give KEY=VALUE"),
        (["--to", "files", "--to", "more", "-o", "to=x"], "say whose option it is: files.to=… or more.to=…"),
        (["--to", "files", "-o", "other.to=x"], "say whose option it is"),
        (["--to", "files", "--rename", "a"], "give OLD=NEW"),
        (["--to", "files", "--since", "yesterday"], "give a date"),
        (["--to", "files", "--every", "0"], "--every"),
        (["--to", "files", "--max-points", "1"], "--max-points"),
        (["--to", "files", "--jobs", "0"], "--jobs"),
        (["--to", "files", "--timeout", "-1"], "--timeout"),
        (["--to", "files", "--verify", "--dry-run"], "--dry-run and --verify: choose one"),
        (["--status", "--follow"], "--follow and --status: choose one"),
        (["--to", "files", "--follow", "a", "b"], "one directory of runs, or one run"),
        (["--to", "files", "--follow", "--restart"], "do that once"),
        (["--to", "files", "--follow", "--max-points", "5"], "--only-finished"),
    ],
)
def test_a_wrong_command_line_is_refused_in_words(
    root: Path, evlog: Evlog, words: list[str], message: str
) -> None:
    """With 2, before anything is done."""
    log_run(root, "one")

    done = evlog("sync", *words)

    assert done.code == 2
    # The box around it breaks lines.
    assert message.replace(" ", "") in "".join(done.err.replace("│", "").split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "nowhere"], "No sink is called 'nowhere'"),
        (["--to", "files", "-o", "colour=red"], "it has no option 'colour'"),
        (["--to", "files", "--redact", "("], "--redact"),
        (["--to", "files", "--rename", "a=c", "--rename", "b=c"], "mixed"),
        (["--to", "files", "-o", "to=x", "-o", "batch=many"], "invalid literal"),
    ],
)
def test_what_cannot_be_is_refused_in_words(root: Path, evlog: Evlog, words: list[str], message: str) -> None:
    """With 1, and no traceback."""
    log_run(root, "one")

    done = evlog("sync", *words)

    assert done.code == 1
    assert message in done.out + done.err
    assert "Traceback" not in done.out + done.err
