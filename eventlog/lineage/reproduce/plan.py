"""The plan of a repetition: what is done, with what, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from eventlog.lineage.missing import missing_in_record, untracked_code
from eventlog.lineage.record import record_of, words_of_command
from eventlog.lineage.reproduce.code import CodePlan, plan_code
from eventlog.lineage.reproduce.command import CommandPlan, plan_command
from eventlog.lineage.reproduce.data import DataPlan, plan_data
from eventlog.lineage.reproduce.environment import EnvironmentPlan, Wanted, plan_environment, requirements
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

    @property
    def is_possible(self) -> bool:
        """Tell whether it can be run, if need be by force."""
        return not any(problem.is_final for problem in self.problems)

    def to_dict(self) -> dict[str, object]:
        """Return it in terms of JSON."""
        found = msgspec.to_builtins(self)
        assert isinstance(found, dict)
        return found | {"is_ready": self.is_ready, "requirements": requirements(self.environment)}


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
    found: list[Problem] = []
    if plan.command is None:
        way = "run it by hand, and: evlog compare"
        found.append(Problem(about="command", reason=no_command, mend=way, is_final=True))
    elif plan.command.cwd is None:
        reason = "its working directory is not known; the repository's top is taken"
        found.append(Problem(about="command", reason=reason))
    found += _about_code(recorded, plan.code)
    found += _about_untracked(recorded, plan.code)
    found += _about_environment(plan.environment)
    found += [problem for data in plan.data if (problem := _about_data(data))]
    found += _about_run(recorded, plan)
    known = {problem.about for problem in found}
    wanted = {"seed": "seed", "data.name": "data"}
    for gap in missing_in_record(record_of(recorded.facts, recorded.contexts)):
        if gap.field in wanted and wanted[gap.field] not in known:
            found.append(Problem(about=wanted[gap.field], reason=gap.reason, mend=gap.mend))
    return found


def _about_code(recorded: Recorded, code: CodePlan) -> Iterator[Problem]:
    git = recorded.context("git")
    if code.in_place:
        yield Problem(about="code", reason="it runs in place, with the code as it is now")
        return
    if code.commit is None:
        way = "--in-place runs its command where it ran, with the code as it is now"
        yield Problem(about="code", reason="the run was in no repository", mend=way, is_final=True)
        return
    if code.repository is None:
        way = f"--repo PATH names one that has {code.commit[:12]}"
        yield Problem(about="code", reason=code.why_not, mend=way, is_final=True)
    is_dirty = bool(git.get("is_dirty", git.get("dirty", False)))
    if is_dirty and code.diff is None and git.get("diff_sha256"):
        yield Problem(about="diff", reason="the uncommitted changes are gone", blocks=True)
    elif is_dirty and code.diff is None:
        yield Problem(about="diff", reason="there were uncommitted changes that are not kept", blocks=True)
    if git.get("diff_is_complete") is False:
        yield Problem(about="diff", reason="the uncommitted changes were too large: cut", blocks=True)
    notes = recorded.context("lineage").get("notes")
    for note in notes if isinstance(notes, list) else []:
        is_code = "submodule" in str(note) and "diff does not hold" in str(note)
        yield Problem(about="lineage", reason=str(note), blocks=is_code and code.commit is not None)


def _about_untracked(recorded: Recorded, code: CodePlan) -> Iterator[Problem]:
    """Say which files were there that neither the commit nor the changes have."""
    git = recorded.context("git")
    names = git.get("untracked")
    if code.in_place or not isinstance(names, list) or not names:
        return
    script = str(recorded.command.get("script") or "")
    if any(str(PurePosixPath(str(code.root), str(name))) == script for name in names):
        reason = f"git did not know {script}, which is what was run"
        yield Problem(about="untracked", reason=reason, mend="put it into --repo by hand", blocks=True)
        return
    source = untracked_code(names)
    count = int(str(git.get("untracked_count") or len(names)))
    shown = ", ".join((source or [str(name) for name in names])[:3]) + (", …" if count > 3 else "")
    files = "a file" if count == 1 else f"{count} files"
    what = "; code among them is missing if it was imported" if source else ""
    yield Problem(about="untracked", reason=f"git did not know {files}: {shown}{what}")


def _about_environment(environment: EnvironmentPlan) -> Iterator[Problem]:
    if not environment.packages:
        yield Problem(about="environment", reason="the packages are not recorded; those of now are used")
        return
    if environment.differences:
        shown = "; ".join(environment.differences[:5]) + ("; …" if len(environment.differences) > 5 else "")
        yield Problem(about="environment", reason=shown, mend="--environment auto rebuilds it")
    local = sorted(environment.local.keys() & environment.packages.keys())
    if local:
        reason = f"installed from directories, of any state: {', '.join(local)}"
        yield Problem(about="packages", reason=reason)


def _about_data(data: DataPlan) -> Problem | None:
    about = f"data {data.label}"
    if data.state in ("changed", "gone"):
        what = "has changed" if data.state == "changed" else "is not there"
        return Problem(about=about, reason=f"{data.path} {what}", mend="bring it back", blocks=True)
    if data.state == "unchecked":
        reason = "it is no file with a hash: it is looked at when the command has read it"
        return Problem(about=about, reason=reason)
    return None


def _about_run(recorded: Recorded, plan: Plan) -> Iterator[Problem]:
    if plan.status == "running":
        yield Problem(about="run", reason="it is still running; what it has so far is compared")
    elif plan.status != "finished":
        yield Problem(about="run", reason=f"it {ended(plan.status)}; only what it came to is compared")
    yield from _about_resumptions(recorded)
    if len(plan.siblings) > 1:
        reason = f"number {plan.position + 1} of the {len(plan.siblings)} runs that its process made"
        yield Problem(about="run", reason=reason)
    if recorded.ranks > 1:
        # Of `evlog run -- torchrun …` the words say how all were started; of a rank, how one was.
        is_whole = "orig_argv" not in recorded.command
        reason = f"{recorded.ranks} ranks logged it" + (
            "" if is_whole else ", and the command is that of one"
        )
        way = "" if is_whole else "start all of them with: evlog run -- torchrun …"
        yield Problem(about="run", reason=reason, mend=way, blocks=not is_whole)


def _about_resumptions(recorded: Recorded) -> Iterator[Problem]:
    if not recorded.later:
        return
    first, _ = words_of_command(recorded.command)
    later = [words_of_command(context.get("command", {}))[0] for context in recorded.later]
    if all(words == first or _is_rest_of_evaluation(words) for words in later):
        reason = "another process finished what it began; here its first command does all of it"
        yield Problem(about="run", reason=reason)
    else:
        reason = "another process went on with it: its first command alone may not make all of it"
        yield Problem(about="run", reason=reason, blocks=True)
    commits = {str(context["git"].get("commit")) for context in recorded.later if "git" in context}
    other = sorted(commits - {str(recorded.context("git").get("commit"))})
    if other:
        yield Problem(about="code", reason=f"it went on with the commit {other[0][:12]}", blocks=True)


def _is_rest_of_evaluation(words: list[str]) -> bool:
    """Tell whether *words* are ``evlog eval --resume RUN``, which asks what was not asked yet."""
    is_evlog = any(PurePosixPath(word).name in ("evlog", "eventlog") for word in words[:4])
    return is_evlog and "eval" in words and any(word.startswith("--resume") for word in words)


def ended(status: str) -> str:
    """Return what to say of a run that ended so."""
    return {"killed": "was killed", "running": "is still running"}.get(status, status)
