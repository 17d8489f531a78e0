"""`evlog audit`: the checklists, line by line, and whether runs of one experiment can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from eventlog import Tracker, TrackingConfig
from eventlog.analysis.facts import load
from eventlog.events import Checkpoint, Context, Dataset, Evaluation, Media
from eventlog.lineage.audit import Audit, audit
from eventlog.lineage.audit_lines import AuditRules
from tests.cli.conftest import Evlog as Command
from tests.cli.conftest import clean_environment, evlog, log_run  # noqa: F401 - fixtures

COMMIT = "a" * 40
CONTEXTS: Mapping[str, dict[str, object]] = {
    "command": {
        "orig_argv": ["python", "train.py"],
        "cwd": "/x",
        "script": "/x/train.py",
        "python": "3.11.9",
    },
    "git": {"commit": COMMIT, "is_dirty": False, "user": "Ada"},
    "environment": {"python": "3.11.9", "os": "Linux", "packages": {"numpy": "2.0"}},
    "hardware": {"cpu": "a fast one", "gpus": []},
}
PARAMS: Mapping[str, object] = {
    "model_type": "cnn",
    "learning_rate": 0.1,
    "batch_size": 8,
    "epochs": 3,
    "seed": 0,
}


def good_run(
    root: Path,
    run_id: str = "lr=0.1_seed=0",
    *,
    params: Mapping[str, object] = PARAMS,
    contexts: Mapping[str, dict[str, object]] = CONTEXTS,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, object] | None = None,
    experiment: str | None = "sweep_lr_cnn",
    dataset: Dataset | None = None,
) -> Path:
    """Log a run that passes everything, but for what is given otherwise."""
    named = {"purpose": "sweep", "owner": "ada", "ticket": "ML-12"} if tags is None else tags
    config = TrackingConfig(project="demo", experiment_name=experiment, tags=named, notes="why: a test")
    tracker = Tracker((), config, output_dir=root, redact=False)  # as older logs are
    tracker.start_run(run_id, run_id)
    tracker.log_params(params)
    for kind, data in contexts.items():
        tracker.log_event(Context(kind=kind, data=data))
    data = {"strategy": "by user", "indices": "data/indices.json"}
    tracker.log_event(
        dataset or Dataset(name="digits", version="v1", split="all", sha256="f" * 64, data=data)
    )
    for step in range(3):
        tracker.log_metrics({"train_loss": 1.0 / (step + 1)}, step)
    tracker.log_summary(metrics or {"val_f1_macro": 0.9})
    tracker.log_event(Checkpoint(path="/x/model.pt", step=2))
    tracker.log_event(Media(key="confusion_matrix", media_type="image", path="x.png"))
    tracker.add_note("outcome: it works")
    run = tracker.run_dir
    tracker.end_run()
    assert run is not None
    return run


def _audit(*runs: Path, rules: AuditRules | None = None) -> Audit:
    return audit([load(run) for run in runs], rules)


def _problems(outcome: Audit) -> dict[str, str]:
    lines = [line for report in [*outcome.runs, *outcome.experiments] for line in report.lines]
    return {line.check: line.level for line in lines if line.level != "pass"}


def _without(kind: str) -> dict[str, dict[str, object]]:
    return {name: data for name, data in CONTEXTS.items() if name != kind}


def test_a_run_that_has_everything_passes(tmp_path: Path) -> None:
    """No line of the checklists warns about it, so nobody learns to overlook warnings."""
    outcome = _audit(good_run(tmp_path))

    assert _problems(outcome) == {}
    assert outcome.is_good(strict=True)


def test_an_empty_run_fails_without_an_error(tmp_path: Path) -> None:
    """Of a run that logged nothing each line says so, with the way to mend it."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run("one")
    run = tracker.run_dir
    tracker.end_run()
    assert run is not None

    outcome = _audit(run)

    assert {"params", "seed", "data.name", "code.commit", "environment.packages", "metrics"} <= set(
        _problems(outcome)
    )
    assert all(line.mend for line in outcome.runs[0].lines if line.level != "pass")


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"params": {k: v for k, v in PARAMS.items() if k != "seed"}}, "seed", "fail"),
        ({"params": {k: v for k, v in PARAMS.items() if k != "batch_size"}}, "params.batch_size", "warn"),
        ({"params": {**PARAMS, "api_key": "abcdef123"}}, "params.secrets", "warn"),
        ({"params": {**PARAMS, "url": "https://ada:pw@host/x"}}, "params.secrets", "warn"),
        ({"dataset": Dataset(name="x", version="latest", sha256="f", split="all")}, "data.version", "fail"),
        ({"dataset": Dataset(name="x", split="all")}, "data.version", "fail"),
        ({"dataset": Dataset(name="x", version="v1", split="all")}, "data.sha256", "warn"),
        ({"dataset": Dataset(name="x", version="v1", sha256="f")}, "data.split", "warn"),
        ({"dataset": Dataset(name="x", version="v1", sha256="f", split="a")}, "data.indices", "warn"),
        ({"contexts": _without("git")}, "code.commit", "fail"),
        ({"contexts": {**CONTEXTS, "git": {"commit": COMMIT, "is_dirty": True}}}, "code.diff", "fail"),
        (
            {"contexts": {**CONTEXTS, "git": {"commit": COMMIT, "untracked": ["a.py"]}}},
            "code.untracked",
            "fail",
        ),
        (
            {"contexts": {**CONTEXTS, "git": {"commit": COMMIT, "untracked": ["a.csv"]}}},
            "code.untracked",
            "warn",
        ),
        ({"contexts": _without("environment")}, "environment.packages", "fail"),
        ({"metrics": {"F1": 0.5}}, "metrics.names", "warn"),
        ({"metrics": {"result_a": 0.5}}, "metrics.final", "warn"),
        ({"metrics": {"val_accuracy": 0.5, "prod_ctr": 0.1, "ctr": 0.2}}, "metrics.context", "warn"),
        ({"tags": {"owner": "ada", "ticket": "ML-12"}}, "tags.purpose", "warn"),
        ({"tags": {"baseline": None, "owner": "ada"}}, "tags.ticket", "warn"),
        ({"experiment": None}, "experiment", "warn"),
        ({"experiment": "test1"}, "experiment", "warn"),
        ({"run_id": "run-7"}, "run.name", "warn"),
        ({"run_id": "seed=9"}, "run.name", "fail"),
    ],
)
def test_what_is_taken_away_is_noticed(
    tmp_path: Path, changes: dict[str, object], check: str, level: str
) -> None:
    """Each item of the checklists can fail."""
    run = good_run(tmp_path, **changes)  # type: ignore[arg-type]

    assert _problems(_audit(run)).get(check) == level


@pytest.mark.parametrize(
    "params",
    [{"max_tokens": 512}, {"tokenizer": "bpe"}, {"token": None}, {"password": "$FROM_ENV"}, {"key": "a"}],
)
def test_harmless_params_are_no_secrets(tmp_path: Path, params: dict[str, object]) -> None:
    """What merely sounds like a credential is not reported."""
    assert "params.secrets" not in _problems(_audit(good_run(tmp_path, params={**PARAMS, **params})))


def test_a_secret_is_named_and_never_shown(tmp_path: Path) -> None:
    """An audit goes into the logs of CI."""
    run = good_run(tmp_path, params={**PARAMS, "opt": {"api_key": "hunter2-hunter2"}})

    shown = json.dumps(_audit(run).to_dict())

    assert "opt.api_key" in shown
    assert "hunter2" not in shown


def test_a_model_without_steps_needs_no_batch_size(tmp_path: Path) -> None:
    """What is asked of training is not asked of a fit at once."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run("one")
    tracker.log_params({"model": "logreg", "seed": 1})
    tracker.log_summary({"val_auc_roc": 0.8})
    run = tracker.run_dir
    tracker.end_run()
    assert run is not None

    assert not {"params.batch_size", "params.epochs", "params.learning_rate"} & set(_problems(_audit(run)))


def test_an_evaluation_is_not_asked_for_curves(tmp_path: Path) -> None:
    """A run of a benchmark trains nothing, and its metrics are named by the benchmark."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run("one")
    tracker.log_event(Evaluation(benchmark="gsm8k", metrics={"accuracy": 0.5, "F1": 0.5}))
    run = tracker.run_dir
    tracker.end_run()
    assert run is not None

    assert not {m for m in _problems(_audit(run)) if m.startswith(("metrics", "artifacts.model"))}


def test_rules_of_a_team_change_the_levels(tmp_path: Path) -> None:
    """Checks are required, ignored and given another level, by id or by group."""
    run = good_run(
        tmp_path, tags={}, experiment=None, params={k: v for k, v in PARAMS.items() if k != "seed"}
    )
    rules = AuditRules(
        require=["tags.purpose"],
        ignore=["experiment", "owner"],
        severity={"seed": "warn", "tags.ticket": "fail"},
        tags=["team"],
        params=["dropout"],
        metrics=["test_f1_macro"],
    )

    found = _problems(_audit(run, rules=rules))

    assert found == {
        "tags.purpose": "fail",
        "tags.ticket": "fail",
        "tags.team": "fail",
        "params.dropout": "fail",
        "metrics.test_f1_macro": "fail",
        "seed": "warn",
    }


# --- several runs ----------------------------------------------------------------------------------


def test_one_metric_under_several_names_fails(tmp_path: Path) -> None:
    """A script could not aggregate them; the name that follows the rules is proposed."""
    runs = [
        good_run(tmp_path, f"seed={i}", params={**PARAMS, "seed": i}, metrics={name: 0.5})
        for i, name in enumerate(["val_accuracy", "ValAcc", "val/accuracy"])
    ]

    (report,) = _audit(*runs).experiments

    (line,) = [line for line in report.lines if line.check == "consistency.metrics"]
    assert line.level == "fail"
    assert {"val_accuracy", "ValAcc", "val/accuracy"} <= set(line.text.replace(",", " ").split())
    assert line.mend in {"call it val_accuracy everywhere", "call it val/accuracy everywhere"}


def test_std_over_seeds_is_told(tmp_path: Path) -> None:
    """Runs that differ in nothing but the seed are one setting."""
    runs = [
        good_run(tmp_path, f"seed={i}", params={**PARAMS, "seed": i}, metrics={"val_f1_macro": value})
        for i, value in enumerate([0.8, 0.9, 1.0])
    ]

    (report,) = _audit(*runs).experiments

    assert [line.text for line in report.lines if line.check == "metrics.std"] == [
        "val_f1_macro 0.9 ± 0.1 over 3 runs"
    ]


def test_runs_on_other_data_or_without_a_result_are_noticed(tmp_path: Path) -> None:
    """What cannot be compared is named."""
    other = Dataset(name="digits", version="v1", split="all", sha256="e" * 64, data={"indices": "x"})
    runs = [
        good_run(tmp_path, "seed=0", metrics={"val_f1_macro": 0.5, "val_loss": 1.0}),
        good_run(tmp_path, "seed=0-again", dataset=other, params={**PARAMS, "Seed": 1}),
    ]

    found = _problems(_audit(*runs, rules=AuditRules(min_seeds=3)))

    assert {"consistency.data", "consistency.coverage", "consistency.params", "metrics.std"} <= set(found)


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


def test_exit_code_says_whether_something_fails(evlog: Command, root: Path) -> None:  # noqa: F811
    """For CI: warnings count under --strict."""
    good_run(root)
    good_run(root, "run-7", params={**PARAMS, "momentum": 0.9})
    log_run(root, "bare")

    assert evlog("audit", "lr=0.1_seed=0", "--strict").code == 0
    assert evlog("audit", "run-7").code == 0
    assert evlog("audit", "run-7", "--strict").code == 1
    assert evlog("audit", "bare").code == 1
    assert evlog("audit", "--experiment", "sweep_lr_cnn").code == 0
    assert evlog("audit", "--project", "demo").code == 1


def test_all_lines_of_one_run_are_shown_and_problems_of_many(evlog: Command, root: Path) -> None:  # noqa: F811
    """Whoever looks at one run wants the checklist, whoever looks at all wants to know where to look."""
    good_run(root)
    good_run(root, "seed=0", tags={"purpose": "sweep", "owner": "ada"})

    one = evlog("audit", "lr=0.1_seed=0").out
    many = evlog("audit").out

    assert "pass   seed " in one
    assert "pass " not in many.rpartition("\n2 runs:")[0]
    assert "warn   tags.ticket  no ticket or task  evlog log demo/seed=0 --tag ticket=ML-12" in many
    assert "demo: sweep_lr_cnn (2 runs): pass" in many


def test_configuration_file_counts(evlog: Command, root: Path) -> None:  # noqa: F811
    """Tables [audit] and [naming] of evlog.toml; a word that nobody knows is refused."""
    good_run(root, metrics={"val_f1_macro": 0.9, "Reward": 1.0})
    configuration = root / "evlog.toml"

    configuration.write_text('[naming]\nallow = ["Reward"]\n[audit]\ntags = ["team"]\n')
    strict = evlog("audit", "--json")
    configuration.write_text('[audit]\nrequired = ["team"]\n')
    wrong = evlog("audit")

    assert {
        line["check"] for line in json.loads(strict.out)["runs"][0]["lines"] if line["level"] != "pass"
    } == {"tags.team"}
    assert (wrong.code, "required" in wrong.err) == (1, True)


def test_names_alone_can_be_checked(evlog: Command) -> None:  # noqa: F811
    """Without any run."""
    done = evlog("audit", "--names", "F1", "val_loss", "--strict")

    assert done.code == 1
    assert "F1" in done.out
    assert "val_f1_macro" in done.out
    assert "val_loss" not in done.out
    assert evlog("audit", "--names").code == 2


def test_an_empty_root_has_nothing_to_audit(evlog: Command, root: Path) -> None:  # noqa: F811
    """That is no failure; a root that is not there is."""
    missing = evlog("audit")
    root.mkdir()

    assert missing.code == 1
    assert evlog("audit").code == 0
