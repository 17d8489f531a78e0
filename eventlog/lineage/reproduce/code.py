"""The code of a run: where its commit is, and a worktree with the uncommitted changes on top."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from eventlog.analysis.facts import RunFacts
from eventlog.lineage.reproduce.errors import ReproductionError
from eventlog.lineage.reproduce.recorded import Recorded

DIFF = "code/uncommitted.diff"


class CodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where the code comes from.

    Attributes:
        commit: full name of the commit; None if the run was not in a repository.
        root: where the repository was when the run was logged.
        repository: where the commit is taken from now: a directory, or an address to clone.
        diff: file with the uncommitted changes; None if there were none or they are not kept.
        in_place: no worktree: the command runs where it ran then, with the code as it is now.
        has_submodules: as far as that is known now.
        why_not: why there is no repository, if there is none.
    """

    commit: str | None
    root: str | None
    repository: str | None
    is_clone: bool = False
    diff: str | None = None
    diff_sha256: str | None = None
    in_place: bool = False
    has_submodules: bool = False
    why_not: str = ""


def plan_code(recorded: Recorded, *, repository: Path | None, in_place: bool) -> CodePlan:
    """Return where the code of a run can be had now; nothing is changed."""
    git = recorded.context("git")
    commit, root, remote = (_text(git.get(key)) for key in ("commit", "root", "remote"))
    if commit is None or in_place:
        return CodePlan(commit=commit, root=root, repository=None, in_place=in_place)
    place = repository or (Path(root) if root else None)
    why_not = "where it was is not known" if place is None else why_no_commit(place, commit)
    remote = None if repository else remote
    diff, diff_sha256 = kept_diff(recorded.facts)
    top = _top(place) if place and not why_not else None
    return CodePlan(
        commit=commit,
        root=root,
        repository=remote if top is None else str(top),
        has_submodules=top is not None and has_file(top, commit, ".gitmodules"),
        is_clone=bool(why_not and remote),
        diff=None if diff is None else str(diff),
        diff_sha256=diff_sha256,
        why_not="" if remote else why_not,
    )


def _top(repository: Path) -> Path:
    """Return the top of the work tree, if *repository* lies in one: data are looked for from there."""
    said = git(repository, "rev-parse", "--show-toplevel", is_needed=False)
    return Path(said.rstrip("\n")) if said.strip() else repository.absolute()


def kept_diff(facts: RunFacts) -> tuple[Path | None, str | None]:
    """Return the artifact with the uncommitted changes and the hash that it must have."""
    git = facts.view.context.get("git", {})
    name = _text(git.get("diff")) or DIFF
    wanted = _text(git.get("diff_sha256"))
    for artifact in reversed(facts.view.artifacts):
        if artifact.name != name or (wanted and artifact.sha256 != wanted) or artifact.stored != "copy":
            continue
        path = facts.path / PurePosixPath(artifact.path)
        if path.resolve().is_relative_to(facts.path.resolve()):  # logs may come from anybody
            return path, wanted or artifact.sha256
    return None, wanted


def why_no_commit(repository: Path, commit: str) -> str:
    """Return why *commit* cannot be had from the directory *repository*; nothing if it can."""
    if not repository.is_dir():
        return f"{repository} is not there"
    try:
        git(repository, "rev-parse", "--git-dir")
    except ReproductionError as error:  # no repository, or one of somebody whom git does not trust
        reason = error.reason.partition(";")[0]
        is_foreign = "dubious ownership" in reason
        return reason + f"; git config --global --add safe.directory {repository}" * is_foreign
    has_it = _try_git(repository, "cat-file", "-e", f"{commit}^{{commit}}")
    return "" if has_it else f"{repository} does not have {commit}"


def has_file(repository: Path, commit: str, relative: str) -> bool:
    """Tell whether *commit* has a file or directory of this name."""
    return _try_git(repository, "cat-file", "-e", f"{commit}:{relative}")


def check_out(plan: CodePlan, target: Path, *, clone_to: Path) -> None:
    """Make a worktree at *target* with the commit and the uncommitted changes.

    Args:
        clone_to: where a repository is cloned to that is not on this machine, or cannot be written into.

    Raises:
        ReproductionError: git says no, or the changes are not what was logged.
    """
    assert plan.commit is not None
    assert plan.repository is not None
    repository = clone_to if plan.is_clone else Path(plan.repository)
    if plan.is_clone:
        _clone(plan.repository, plan.commit, clone_to)
    try:
        _add_worktree(repository, plan.commit, target)
    except ReproductionError:
        if plan.is_clone:
            raise
        # It may belong to somebody else: a clone of our own borrows what it has.
        shutil.rmtree(target, ignore_errors=True)
        git(None, "clone", "--no-checkout", "--quiet", "--shared", "--", plan.repository, str(clone_to))
        _add_worktree(clone_to, plan.commit, target)
    if plan.diff is not None:
        _apply(target, Path(plan.diff), plan.diff_sha256)
    _bring_submodules(target, repository)


def _clone(address: str, commit: str, target: Path) -> None:
    way = "Name a repository that has it with --repo PATH."
    try:
        git(None, "clone", "--no-checkout", "--quiet", "--", address, str(target))
        if why_no_commit(target, commit):
            git(target, "fetch", "--quiet", "origin", commit)  # of no branch any more
    except ReproductionError as error:
        raise ReproductionError(f"{commit[:12]} of {address}", error.reason, way) from error


def _add_worktree(repository: Path, commit: str, target: Path) -> None:
    git(repository, "worktree", "add", "--force", "--detach", str(target), commit)


def _bring_submodules(tree: Path, source: Path) -> None:
    """Check submodules out: from those of *source*, with what only they may have, or from their remotes."""
    for entry in git(tree, "ls-files", "--stage", "-z").split("\0"):
        mode, _, rest = entry.partition(" ")
        if mode != "160000":
            continue
        commit, path = rest.split(" ")[0], rest.partition("\t")[2]
        ours = source / path
        if (ours / ".git").exists() and not why_no_commit(ours, commit):
            git(None, "clone", "--no-checkout", "--quiet", "--shared", "--", str(ours), str(tree / path))
            git(tree / path, "checkout", "--quiet", "--detach", commit)
            _bring_submodules(tree / path, ours)
        else:
            git(tree, "submodule", "update", "--quiet", "--init", "--recursive", "--", path)


def remove_worktree(plan: CodePlan, target: Path) -> None:
    """Remove the worktree at *target*; what git knows of it goes too."""
    if plan.repository is not None and not plan.is_clone:
        _try_git(Path(plan.repository), "worktree", "remove", "--force", str(target))


def _apply(tree: Path, diff: Path, sha256: str | None) -> None:
    try:
        data = diff.read_bytes()
    except OSError as error:
        raise ReproductionError("diff", f"{diff} cannot be read: {error}") from error
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ReproductionError("diff", f"{diff} is not what was logged: its SHA-256 has changed")
    if data:
        # In the index too: only there it says which commit of a submodule was checked out.
        git(tree, "apply", "--index", "--whitespace=nowarn", str(diff.absolute()))


def git(directory: Path | None, *words: str, is_needed: bool = True) -> str:
    """Return what git prints, nothing if it fails and is not needed.

    Raises:
        ReproductionError: it is not there, or fails.
    """
    # Hooks of a repository are for people who work in it; they could change what is checked out.
    command = [
        "git",
        *(["-C", str(directory)] if directory else []),
        "-c",
        "core.hooksPath=/dev/null",
        *words,
    ]
    if shutil.which("git") is None:
        raise ReproductionError("git", "it is not installed", "Install it, or put it on the PATH.")
    try:
        return run_step(f"git {words[0]}", command, environment=_without_git(os.environ))
    except ReproductionError:
        if is_needed:
            raise
        return ""


def run_step(step: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
    """Return what *command* prints.

    Raises:
        ReproductionError: it cannot be started, or fails; with the end of what it said.
    """
    try:
        done = subprocess.run(
            command,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ReproductionError(step, f"{command[0]} cannot be started: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        said = [line.strip().removeprefix("fatal: ") for line in said if line.strip()]
        raise ReproductionError(step, "; ".join(said).rstrip(".") or f"exit code {done.returncode}")
    return done.stdout


def _try_git(directory: Path, *words: str) -> bool:
    try:
        git(directory, *words)
    except ReproductionError:
        return False
    return True


def _without_git(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would lead git into another repository, as inside of a hook."""
    mine = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    return {name: value for name, value in environment.items() if name not in mine} | {
        "GIT_TERMINAL_PROMPT": "0"
    }


def _text(value: object) -> str | None:
    return str(value) if value else None
