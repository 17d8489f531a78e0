"""Where a run comes from, besides its code: command, packages, machine and job."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from eventlog import replay
from eventlog.events import Context
from eventlog.lineage.capture.probes.packages import installed
from eventlog.lineage.capture.probes.scheduler import scheduler
from eventlog.lineage.capture.probes.variables import allowed
from eventlog.lineage.credentials import is_secret_name, without_credentials
from eventlog.lineage.origin import origin_of_command
from eventlog.tracker import create_tracker
from tests.lineage.support import captured, notes, repository, with_nvml
from tests.tracker.support import logged, only_run, run_job

SCRIPT = (
    "from eventlog import create_tracker\nwith create_tracker('local') as t: t.log_metrics({'a': 1}, 1)\n"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONDA_PREFIX", "EVLOG_CONFIG", "KUBERNETES_SERVICE_HOST", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


# --- the command -------------------------------------------------------------------------------------


def test_the_command_is_there_with_the_first_events(tmp_path: Path) -> None:
    """What was run is logged before anything else, also without the rest of the lineage."""
    (tmp_path / "train.py").write_text(SCRIPT)

    subprocess.run([sys.executable, "-X", "dev", "train.py", "--lr", "0.1"], check=True, env=os.environ)

    command = replay.view(only_run(tmp_path / "experiments")).context["command"]
    assert command == {
        "argv": ["train.py", "--lr", "0.1"],
        "cwd": str(tmp_path),
        "script": str(tmp_path / "train.py"),
        "module": None,
        "executable": sys.executable,
        "python": sys.version.split()[0],
        "orig_argv": [sys.executable, "-X", "dev", "train.py", "--lr", "0.1"],
    }


def test_a_module_is_named(tmp_path: Path) -> None:
    """After ``python -m`` the module counts, with its file."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "__main__.py").write_text(SCRIPT)

    subprocess.run([sys.executable, "-m", "job"], check=True)

    command = replay.view(only_run(tmp_path / "experiments")).context["command"]
    assert (command["module"], command["script"]) == ("job", str(tmp_path / "job" / "__main__.py"))


def test_code_without_a_file_has_no_script(tmp_path: Path) -> None:
    """As in a notebook."""
    run_job(SCRIPT, tmp_path)

    command = replay.view(only_run(tmp_path / "experiments")).context["command"]
    assert (command["script"], command["module"], command["argv"]) == (None, None, ["-c"])


@pytest.mark.parametrize(
    ("words", "script", "module"),
    [
        (["train.py", "x"], "train.py", None),
        (["-u", "-W", "ignore", "train.py"], "train.py", None),
        (["-m", "job", "train.py"], None, "job"),
        (["-mjob"], None, "job"),
        (["-c", "pass", "train.py"], None, None),
        ([], None, None),
    ],
)
def test_a_commands_script_is_told_from_its_words(
    tmp_path: Path, words: list[str], script: str | None, module: str | None
) -> None:
    """Options of Python that have values are known."""
    origin = origin_of_command([sys.executable, *words])

    assert origin.script == (str(tmp_path / script) if script else None)
    assert (origin.module, origin.interpreter, origin.argv) == (
        module,
        sys.executable,
        [sys.executable, *words],
    )


def test_the_interpreter_of_a_script_is_told_from_its_first_line(tmp_path: Path) -> None:
    """An entry point that pip has made is Python; a shell script is not."""
    for name, line in {"a": f"#!{sys.executable} -u", "b": "#!/bin/sh", "c": ""}.items():
        (tmp_path / name).write_text(f"{line}\n")
        (tmp_path / name).chmod(0o755)

    found = [origin_of_command([f"./{name}"]).interpreter for name in "abc"]

    assert found == [sys.executable, "", ""]


# --- packages and locks ------------------------------------------------------------------------------


def test_packages_are_those_that_the_job_sees(tmp_path: Path) -> None:
    """Names and versions are what `importlib.metadata` says, one entry a package."""
    expected = {one.metadata["Name"]: one.version for one in reversed(list(metadata.distributions()))}

    environment = captured(tmp_path / "runs").context["environment"]

    assert environment["packages"] == dict(sorted(expected.items(), key=lambda item: item[0].lower()))
    assert environment["python"] == sys.version.split()[0]
    assert (environment["executable"], environment["prefix"]) == (sys.executable, sys.prefix)
    assert (environment["host"], environment["implementation"]) == (os.uname().nodename, "CPython")


def test_packages_on_the_path_of_the_job_count(tmp_path: Path) -> None:
    """Also those that only this job sees; where a package came from is kept, without credentials."""
    info = tmp_path / "more" / "Odd_Package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: Odd.Package\nVersion: 1.0+x\n\nName: other\n"
    )
    (info / "direct_url.json").write_text(
        json.dumps(
            {
                "url": "https://ada:s3cret@example.com/odd.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc"},
            }
        )
    )
    (tmp_path / "more" / "broken-1.dist-info").mkdir()

    run_job(SCRIPT, tmp_path, EVLOG_LINEAGE="1", PYTHONPATH=str(tmp_path / "more"))

    environment = replay.view(only_run(tmp_path / "experiments")).context["environment"]
    assert environment["packages"]["Odd.Package"] == "1.0+x"  # type: ignore[index]
    assert environment["sources"]["Odd.Package"] == "git+https://example.com/odd.git@abc"  # type: ignore[index]
    assert "other" not in environment["packages"]  # type: ignore[operator]


def test_packages_of_every_shape_are_found(tmp_path: Path) -> None:
    """Old ones with a file or an egg, and those inside of an archive, as `importlib.metadata` finds them."""
    (tmp_path / "file-1.egg-info").write_text("Name: file\nVersion: 1\n")
    for place in ("two-2.egg-info", "three-3.egg/EGG-INFO"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "PKG-INFO").write_text(f"Name: {place[:3]}\r\nVersion: 2\r\n\r\nName: no\r\n")
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("four-4.dist-info/METADATA", "Name: four\nVersion: 4\n")
    (tmp_path / "broken.pyz").write_bytes(b"PK")
    path = [str(tmp_path / name) for name in ("", "three-3.egg", "app.pyz", "broken.pyz", "gone")]

    found, _ = installed(path)

    assert found == {"file": "1", "four": "4", "thr": "2", "two": "2"}
    assert found == {one.metadata["Name"]: one.version for one in metadata.distributions(path=path)}


def test_lock_files_beside_the_code_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the directory of the code, else above it in the repository."""
    code = repository(tmp_path / "code")
    (code / "uv.lock").write_text("version = 1\n")
    (code / "deep").mkdir()
    (code / "deep" / "environment.yml").write_text("name: x\n")
    (tmp_path / "pixi.lock").write_text("not in the repository\n")
    monkeypatch.chdir(code / "deep")

    view = captured(tmp_path / "runs")

    assert view.context["environment"]["locks"] == {
        "environment": "code/environment.yml",
        "uv": "code/uv.lock",
    }
    kept = {one.name: (tmp_path / "runs" / "p" / "a" / one.path).read_text() for one in view.artifacts}
    assert kept == {"code/uv.lock": "version = 1\n", "code/environment.yml": "name: x\n"}


def test_condas_packages_are_kept_as_an_explicit_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be given to `conda create --file`; tokens of channels are left out."""
    meta = tmp_path / "conda" / "conda-meta"
    meta.mkdir(parents=True)
    url = "https://conda.anaconda.org/t/tk-s3cret/main/linux-64/numpy-2.0-0.conda"
    (meta / "numpy-2.0-0.json").write_text(json.dumps({"url": url, "md5": "abc"}))
    (meta / "torn.json").write_text("{")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))

    view = captured(tmp_path / "runs")

    assert view.context["environment"]["locks"] == {"conda": "code/conda-explicit.txt"}
    text = (tmp_path / "runs" / "p" / "a" / view.artifacts[0].path).read_text()
    assert text.endswith("@EXPLICIT\nhttps://conda.anaconda.org/t/…/main/linux-64/numpy-2.0-0.conda#abc\n")


# --- variables -----------------------------------------------------------------------------------------


def test_only_usual_variables_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to fear for what else is in the environment."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("MY_SETTING", "s3cret")
    monkeypatch.setenv("SLURM_JWT", "s3cret")
    monkeypatch.setenv("HF_TOKEN", "s3cret")

    variables = captured(tmp_path / "runs").context["environment"]["variables"]

    assert variables["CUDA_VISIBLE_DEVICES"] == "0,1"  # type: ignore[index]
    assert not {"MY_SETTING", "SLURM_JWT", "HF_TOKEN"} & variables.keys()  # type: ignore[attr-defined]


def test_the_configuration_adds_and_takes_away_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a secret is never written, also when it is asked for."""
    (tmp_path / "evlog.toml").write_text('[lineage]\nvariables = ["MY_*", "MY_API_KEY", "!CUDA_*"]\n')
    monkeypatch.setenv("CUDA_HOME", "/cuda")
    monkeypatch.setenv("MY_SETTING", "https://ada:s3cret@example.com/x")
    monkeypatch.setenv("MY_API_KEY", "s3cret")

    view = captured(tmp_path / "runs")

    variables = view.context["environment"]["variables"]
    assert variables["MY_SETTING"] == "https://example.com/x"  # type: ignore[index]
    assert not {"CUDA_HOME", "MY_API_KEY"} & variables.keys()  # type: ignore[attr-defined]
    assert "MY_API_KEY" in notes(view)
    assert b"s3cret" not in b"".join(path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl"))


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "aws_secret_access_key", "DB_PASSWORD", "X_PASS", "GH_PAT", "SLURM_JWT", "APIKEY"]
)
def test_secrets_are_known_by_their_names(name: str) -> None:
    """Whatever the pattern that would take them."""
    assert is_secret_name(name)
    assert allowed({name: "x"}, ["*"])[0] == {}


@pytest.mark.parametrize("name", ["PATH", "TOKENIZERS_PARALLELISM", "XLA_FLAGS", "COMPASS", "PYTHONPATH"])
def test_plain_names_are_no_secrets(name: str) -> None:
    """What has only some letters in common is written."""
    assert not is_secret_name(name)


def test_long_values_are_cut() -> None:
    """A path of a hundred thousand characters does not fill the log."""
    assert len(allowed({"PYTHONPATH": "x" * 100_000}, [])[0]["PYTHONPATH"]) == 4097


def test_addresses_inside_of_a_text_lose_their_credentials() -> None:
    """Each of several."""
    text = "--a https://u:p@x.org/1 --b=redis://:pw@[::1]:6379/0?db=1 plain@text"

    assert without_credentials(text) == "--a https://x.org/1 --b=redis://[::1]:6379/0?db=1 plain@text"


# --- machine and job -----------------------------------------------------------------------------------


def test_the_machine_is_described(tmp_path: Path) -> None:
    """Processor, cores and memory; the GPUs are a list, here an empty one unless there are some."""
    hardware = captured(tmp_path / "runs").context["hardware"]

    assert hardware["cpu_count"] == os.cpu_count()
    assert hardware["memory_bytes"] > 1 << 28  # type: ignore[operator]
    assert (hardware["host"], hardware["machine"]) == (os.uname().nodename, os.uname().machine)
    assert hardware["os"] == platform.platform()
    assert isinstance(hardware["gpus"], list)


PYNVML = """
from types import SimpleNamespace
class NVMLError(Exception): pass
def nvmlInit(): print("noise", flush=True)
def nvmlSystemGetDriverVersion(): return b"550.54"
def nvmlSystemGetCudaDriverVersion(): return 12040
def nvmlDeviceGetCount(): return 3
def nvmlDeviceGetHandleByIndex(i):
    if i == 1: raise NVMLError("GPU is lost")
    return i
def nvmlDeviceGetName(h): return "Fast %d" % h
def nvmlDeviceGetMemoryInfo(h): return SimpleNamespace(total=80 << 30)
"""


def test_gpus_are_listed(tmp_path: Path) -> None:
    """As the driver tells; one that is lost costs a note, and what the package prints disturbs nobody."""
    run_job(SCRIPT, tmp_path, EVLOG_LINEAGE="1", **with_nvml(tmp_path, PYNVML))

    view = replay.view(only_run(tmp_path / "experiments"))
    gpus = [{"name": f"Fast {i}", "memory_bytes": 80 << 30, "driver": "550.54"} for i in (0, 2)]
    assert (view.context["hardware"]["gpus"], view.context["hardware"]["cuda"]) == (gpus, "12.4")
    assert "hardware: GPU 1: GPU is lost" in notes(view)


def test_a_driver_that_breaks_costs_a_note(tmp_path: Path) -> None:
    """An import that raises anything takes nothing else away, nor the rest of the run."""
    broken = with_nvml(tmp_path, "raise RuntimeError('no driver')")

    code, _, err = run_job(SCRIPT, tmp_path, EVLOG_LINEAGE="1", **broken)

    view = replay.view(only_run(tmp_path / "experiments"))
    assert (code, err, view.status) == (0, "", "finished")
    assert "hardware: NVIDIA's GPUs are not looked at: RuntimeError: no driver" in notes(view)
    assert "packages" in view.context["environment"]


def test_without_the_package_a_note_says_what_to_install(tmp_path: Path) -> None:
    """Only where there is a driver: elsewhere nobody wants it."""
    missing = with_nvml(tmp_path, "raise ImportError('not here')")

    run_job(SCRIPT, tmp_path, EVLOG_LINEAGE="1", **missing)
    run_job(SCRIPT, tmp_path, EVLOG_LINEAGE="1", **{**missing, "LD_LIBRARY_PATH": ""}, EVLOG_DIR="without")

    with_driver, without = (replay.view(only_run(tmp_path / root)) for root in ("experiments", "without"))
    assert "pip install 'evlog[system]'" in notes(with_driver)
    assert "GPU" not in notes(without)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"SLURM_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_PARTITION": "gpu"},
            {"kind": "slurm", "job_id": "17", "array_task_id": "3", "queue": "gpu"},
        ),
        (
            {"LSB_JOBID": "5", "LSB_JOBINDEX": "0", "LSB_QUEUE": "q"},
            {"kind": "lsf", "job_id": "5", "queue": "q"},
        ),
        ({"PBS_JOBID": "9.host", "PBS_JOBNAME": "n"}, {"kind": "pbs", "job_id": "9.host", "job_name": "n"}),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-0", "POD_NAMESPACE": "ml"},
            {"kind": "kubernetes", "job_id": "train-0", "pod": "train-0", "namespace": "ml"},
        ),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "SLURM_JOB_ID": "1"}, {"kind": "slurm", "job_id": "1"}),
        ({"HOSTNAME": "laptop"}, {}),
    ],
)
def test_the_job_of_a_scheduler_is_named(environment: dict[str, str], expected: dict[str, str]) -> None:
    """From the variables that each one sets."""
    assert scheduler(environment) == expected


def test_the_namespace_of_a_pod_is_read_from_its_file(tmp_path: Path) -> None:
    """Where Kubernetes puts it into every container."""
    (tmp_path / "namespace").write_text("ml\n")

    found = scheduler({"KUBERNETES_SERVICE_HOST": "x"}, namespace=tmp_path / "namespace")

    assert found == {"kind": "kubernetes", "namespace": "ml"}


def test_a_job_of_slurm_is_logged_and_none_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a scheduler there is no such context."""
    without = captured(tmp_path / "runs", "a").context
    monkeypatch.setenv("SLURM_JOB_ID", "17")

    assert "scheduler" not in without
    assert captured(tmp_path / "runs", "b").context["scheduler"] == {"kind": "slurm", "job_id": "17"}


# --- on and off ------------------------------------------------------------------------------------------


def test_the_environment_and_the_option_turn_lineage_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option counts before the variable, and that before the file."""
    (tmp_path / "evlog.toml").write_text("[lineage]\nenabled = false\n")

    def kinds(name: str, **options: bool) -> set[str]:
        with create_tracker("local", project="p", output_dir="runs", **options) as tracker:
            tracker.start_run(run_id=name)
        return {event.kind for event in logged(tmp_path / "runs" / "p" / name, Context)}

    off, on = kinds("a"), kinds("b", lineage=True)
    monkeypatch.setenv("EVLOG_LINEAGE", "1")
    by_variable, by_option = kinds("c"), kinds("d", lineage=False)
    monkeypatch.delenv("EVLOG_LINEAGE")
    by_file = kinds("e")

    assert off == by_option == by_file == {"command"}
    assert on == by_variable == {"command", "environment", "hardware", "lineage"}


def test_a_broken_configuration_costs_a_note(tmp_path: Path) -> None:
    """Lineage is captured as without the file."""
    (tmp_path / "evlog.toml").write_text("[lineage]\nvariables = 3\n")

    view = captured(tmp_path / "runs")

    assert "evlog.toml" in notes(view)
    assert "packages" in view.context["environment"]


# --- the page -------------------------------------------------------------------------------------------


def test_the_pages_example_prints_what_it_says(tmp_path: Path) -> None:
    """The script of the how-to runs as it stands, without being told to capture anything."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "lineage.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]

    _, out, err = run_job(code, tmp_path, EVLOG_LINEAGE="")

    kinds, version = out.splitlines()
    assert (err, version) == ("", metadata.version("orjson"))
    assert kinds == "['command', 'environment', 'hardware', 'lineage']"
