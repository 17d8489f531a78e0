"""The plan of a repetition: what is done, with what, and what stands in the way."""

from __future__ import annotations

from pathlib import Path
from shlex import join, quote

import msgspec

from eventlog.lineage.missing import missing_in_record, record_of
from eventlog.lineage.reproduce.code import CodePlan, plan_code
from eventlog.lineage.reproduce.command import CommandPlan, plan_command
from eventlog.lineage.reproduce.data import DataPlan, plan_data
from eventlog.lineage.reproduce.environment import EnvironmentPlan, Wanted, plan_environment
from eventlog.lineage.reproduce.recorded import Recorded, runs_of_its_process

MAX_ID_BYTES = 100


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may make the repetition another run.

    Attributes:
        blocks: it is not run, unless it is forced; None of the others keeps it from being run.
        is_final: not even then.
    """

    about: str
    reason: str
    mend: str = ""
    blocks: bool = False
    is_final: bool = False

    def __str__(self) -> str:
        return f"{self.about}: {self.reason}{f' ({self.mend})' if self.mend else ''}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is repeated.

    Attributes:
        new_run_id: what the first run of the command is to be called.
        position: which of the runs that the command makes is to be compared, from 0.
        siblings: all runs that the command made then.
    """

    project: str
    run_id: str
    status: str
    new_run_id: str
    position: int
    siblings: list[str]
    code: CodePlan
    environment: EnvironmentPlan
    data: list[DataPlan]
    command: CommandPlan | None
    problems: list[Problem]

    @property
    def label(self) -> str:
        """Return ``PROJECT/RUN_ID`` of the run that is repeated."""
        return f"{self.project}/{self.run_id}"

    @property
    def is_ready(self) -> bool:
        """Tell whether nothing stands in the way."""
        return not any(problem.blocks or problem.is_final for problem in self.problems)

    def to_dict(self) -> dict[str, object]:
        """Return it in terms of JSON."""
        found = msgspec.to_builtins(self)
        assert isinstance(found, dict)
        return found | {"is_ready": self.is_ready, "steps": steps(self)}


def make_plan(
    recorded: Recorded,
    root: Path,
    *,
    environment: Wanted = "auto",
    repository: Path | None = None,
    in_place: bool = False,
) -> Plan:
    """Return how the run is repeated now on this machine. Nothing is changed; data are hashed.

    Args:
        root: directory of all projects, where the other runs of the same process are looked for.
        repository: where the commit is, if not where it was.
        in_place: run in the recorded working directory, with the code as it is now.

    Raises:
        ReproductionError: this interpreter cannot be asked what it has.
    """
    view = recorded.facts.view
    siblings = runs_of_its_process(recorded.facts.path, root)
    code = plan_code(recorded, repository=repository, in_place=in_place)
    command, no_command = plan_command(recorded)
    plan = Plan(
        project=view.project,
        run_id=view.run_id,
        status=view.status,
        new_run_id=_free_id(siblings[0]),
        position=siblings.index(recorded.facts.path),
        siblings=[f"{path.parent.name}/{path.name}" for path in siblings],
        code=code,
        environment=plan_environment(recorded, environment),
        data=plan_data(recorded.facts.datasets, code, recorded.cwd),
        command=command,
        problems=[],
    )
    return msgspec.structs.replace(plan, problems=_problems(recorded, plan, no_command))


def _free_id(first: Path) -> str:
    base = first.name.encode()[:MAX_ID_BYTES].decode(errors="ignore")
    number = 1
    while (first.parent / f"{base}-repro-{number}").exists():
        number += 1
    return f"{base}-repro-{number}"


# --- what stands in the way ----------------------------------------------------------------------


def _problems(recorded: Recorded, plan: Plan, no_command: str) -> list[Problem]:
    found = []
    if plan.command is None:
        found.append(
            Problem(about="command", reason=no_command, mend="run it by hand and compare", is_final=True)
        )
    elif plan.command.cwd is None:
        found.append(
            Problem(
                about="command", reason="its working directory is not known; the repository's top is taken"
            )
        )
    found += _about_code(recorded, plan.code)
    found += _about_environment(plan.environment)
    found += [problem for data in plan.data if (problem := _about_data(data))]
    found += _about_run(recorded, plan)
    known = {problem.about for problem in found}
    gaps = missing_in_record(record_of(recorded.facts))
    wanted = {"seed": "seed", "data.name": "data"}
    found += [
        Problem(about=wanted[gap.field], reason=gap.reason, mend=gap.mend)
        for gap in gaps
        if gap.field in wanted and wanted[gap.field] not in known
    ]
    return found


def _about_code(recorded: Recorded, code: CodePlan) -> list[Problem]:
    git = recorded.context("git")
    if code.in_place:
        return [Problem(about="code", reason="it runs in place, with the code as it is now")]
    if code.commit is None:
        return [
            Problem(
                about="code",
                reason="the run was in no repository",
                mend="--in-place runs its command where it ran, with the code as it is now",
                is_final=True,
            )
        ]
    found = []
    if code.repository is None:
        where = f"{code.root} does not have {code.commit}" if code.root else f"where {code.commit} is"
        found.append(Problem(about="code", reason=where, mend="name a repository with --repo", is_final=True))
    is_dirty = bool(git.get("is_dirty", git.get("dirty", False)))
    if is_dirty and code.diff is None and int(str(git.get("untracked_count") or 0)) == 0:
        found.append(
            Problem(about="diff", reason="there were uncommitted changes that are not kept", blocks=True)
        )
    elif is_dirty and code.diff is None and git.get("diff_sha256"):
        found.append(Problem(about="diff", reason="the uncommitted changes are gone", blocks=True))
    if git.get("diff_is_complete") is False:
        found.append(Problem(about="diff", reason="the uncommitted changes were too large: cut", blocks=True))
    untracked = git.get("untracked")
    if isinstance(untracked, list) and untracked:
        count = git.get("untracked_count") or len(untracked)
        shown = ", ".join(map(str, untracked[:3])) + (", …" if int(str(count)) > 3 else "")
        found.append(Problem(about="untracked", reason=f"git did not know {count} files: {shown}"))
    return found


def _about_environment(environment: EnvironmentPlan) -> list[Problem]:
    if not environment.packages:
        return [Problem(about="environment", reason="the packages are not recorded; those of now are used")]
    found = []
    if environment.differences:
        shown = "; ".join(environment.differences[:5]) + ("; …" if len(environment.differences) > 5 else "")
        found.append(Problem(about="environment", reason=shown, mend="--environment auto rebuilds it"))
    local = sorted(environment.local.keys() & environment.packages.keys())
    if local:
        found.append(
            Problem(about="packages", reason=f"installed from directories, of any state: {', '.join(local)}")
        )
    return found


def _about_data(data: DataPlan) -> Problem | None:
    if data.state in ("changed", "gone"):
        what = "has changed" if data.state == "changed" else "is not there"
        return Problem(
            about=f"data {data.label}", reason=f"{data.path} {what}", mend="bring it back", blocks=True
        )
    if data.state == "unchecked":
        reason = "it is no file with a hash: it is looked at when the command has read it"
        return Problem(about=f"data {data.label}", reason=reason)
    return None


def _about_run(recorded: Recorded, plan: Plan) -> list[Problem]:
    found = []
    if plan.status == "running":
        found.append(Problem(about="run", reason="it is still running; what it has so far is compared"))
    elif plan.status != "finished":
        found.append(Problem(about="run", reason=f"it {plan.status}; only what it came to is compared"))
    if recorded.resumptions:
        found.append(
            Problem(
                about="run",
                reason="another process went on with it: one command alone may not make all of it",
                blocks=True,
            )
        )
    if len(plan.siblings) > 1:
        found.append(
            Problem(
                about="run",
                reason=f"number {plan.position + 1} of the {len(plan.siblings)} runs that its process made",
            )
        )
    if any(name.startswith("rank") and name[4:5].isdigit() for name in recorded.points):
        found.append(Problem(about="run", reason="several ranks logged it: start them as they were started"))
    return found


# --- for people ----------------------------------------------------------------------------------


def steps(plan: Plan) -> list[str]:
    """Return what is done, in words of a shell."""
    code, environment = plan.code, plan.environment
    lines = []
    if code.commit and not code.in_place and code.repository:
        repository = code.repository
        if code.is_clone:
            lines.append(f"git clone --no-checkout {quote(repository)} CLONE")
            repository = "CLONE"
        lines.append(f"git -C {quote(repository)} worktree add --detach CODE {code.commit}")
        if code.diff:
            lines.append(f"git -C CODE apply {quote(code.diff)}")
    if environment.kind == "uv":
        lines.append(f"uv venv --python {environment.python or 'python3'} ENV")
        lines.append(f"uv pip install --no-deps  # {len(environment.packages)} packages as recorded")
    elif environment.kind == "venv":
        lines.append(f"{quote(environment.interpreter)} -m venv ENV")
        lines.append(f"ENV/bin/pip install --no-deps  # {len(environment.packages)} packages as recorded")
    else:
        lines.append(f"# {environment.interpreter} is used as it is")
    lines += [f"# data {one.label}: {one.state}{f', {one.path}' if one.path else ''}" for one in plan.data]
    if plan.command is not None:
        where = plan.command.cwd or "CODE"
        if code.root and not code.in_place and Path(where).is_relative_to(code.root):
            where = str(Path("CODE") / Path(where).relative_to(code.root))
        names = " ".join(f"{name}={quote(value)}" for name, value in plan.command.variables.items())
        lines.append(f"cd {quote(where)}")
        lines.append(f"{names} {join(plan.command.argv)}".strip())
    lines.append(f"# compare {plan.label} with what it logs as {plan.new_run_id}")
    return lines
