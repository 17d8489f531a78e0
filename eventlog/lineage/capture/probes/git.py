"""Asks git which code runs: commit, branch, remote, and what of the work tree is not committed.

Never runs hooks, pagers, external diff drivers, text conversion or the file system monitor, never fetches,
and never takes the lock of the index, so that a `git commit` of the user's at this moment does not notice.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from typing import NamedTuple

from eventlog.lineage.capture.child import Order, ProbeError, Say
from eventlog.lineage.capture.probes.asking import Answer, ask
from eventlog.lineage.credentials import without_credentials

DIFF = "code/uncommitted.diff"
MAX_DIFF_BYTES = 5 << 20
MAX_LISTING_BYTES = 8 << 20
MAX_PATH_BYTES = 1 << 16
MAX_UNTRACKED = 1000
TIMEOUT_S = 10.0
SAY_AFTER_S = 0.3

# Settings of the user's and the repository's that would change what is printed, or run something.
_SETTINGS = (
    *("core.fsmonitor=false", "core.untrackedCache=keep", "core.hooksPath=/dev/null", "core.quotePath=true"),
    *("diff.autoRefreshIndex=false", "color.ui=false", "core.pager=cat", "diff.suppressBlankEmpty=false"),
    *("diff.interHunkContext=0", "diff.orderFile=/dev/null", "diff.relative=false"),
)
_DIFF = (
    *("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--no-relative"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=dirty", "--unified=3"),
)
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}
# They would lead to another repository than the one that the code lies in, or print among the answers.
_LEFT_OUT = re.compile(
    r"GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|COMMON_DIR|PREFIX|NAMESPACE|EXTERNAL_DIFF|DIFF_OPTS|TRACE.*"
    r"|ALTERNATE_OBJECT_DIRECTORIES|GRAFT_FILE|SHALLOW_FILE|INTERNAL_SUPER_PREFIX|GLOB_PATHSPECS"
    r"|NOGLOB_PATHSPECS|ICASE_PATHSPECS|LITERAL_PATHSPECS)"
)


class Status(NamedTuple):
    """What ``git status`` says.

    Attributes:
        commit: None before the first one.
        branch: None if HEAD is detached.
        is_dirty: None if that is not known.
    """

    commit: str | None
    branch: str | None
    is_dirty: bool | None
    submodules: list[str]
    is_unmerged: bool


def probe(order: Order, say: Say) -> None:
    """Find out all of the ``git`` context, and the diff."""
    root = _root(order)
    git = Git(root)
    try:
        status = _status(git)
    except ProbeError as error:  # a work tree so large, or a file system so slow
        say.note(f"changes are not known: {error}")
        status = _head(git)
    facts: dict[str, object] = {
        "commit": status.commit,
        "branch": status.branch,
        **_names(git, status.branch),
        "root": os.fsdecode(root),
        "is_dirty": status.is_dirty,
        "dirty": status.is_dirty,
    }
    for name in status.submodules[:20]:
        say.note(f"submodule {name!r} has changes of its own, which the diff does not hold")
    if status.is_unmerged:
        say.note("there are unmerged files; the diff shows them with their conflict markers")
    # The rest takes long in a large work tree, and the job may be killed meanwhile.
    in_time = threading.Timer(SAY_AFTER_S, say.context, ("git", dict(facts)), {"is_part": True})
    in_time.daemon = True
    in_time.start()
    facts |= _diff(git, status, say) if status.is_dirty and order.has_diff else {}
    if status.is_dirty is not None:
        facts |= _untracked(git, os.path.relpath(os.path.realpath(order.root), os.fsdecode(root)), say)
    in_time.cancel()
    say.context("git", facts)


class Git:
    """The git of one work tree."""

    def __init__(self, directory: bytes) -> None:
        self._directory = directory
        kept = {name: value for name, value in os.environ.items() if not _LEFT_OUT.fullmatch(name)}
        self._environment = {**kept, **_ENVIRONMENT}

    def ask(self, *words: str, max_bytes: int = MAX_LISTING_BYTES) -> Answer:
        """Return what git prints, cut at *max_bytes*.

        Raises:
            ProbeError: there is no git, it does not answer, or it says no.
        """
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        command = ["git", "--no-pager", "-C", os.fsdecode(self._directory), *settings, *words]
        return ask(command, self._environment, max_bytes=max_bytes, timeout_s=TIMEOUT_S)


def _root(order: Order) -> bytes:
    """Return the work tree that the job's code lies in, or that of the working directory."""
    code = order.code_directory()
    directories = [order.cwd] if code is None else [code, order.cwd]
    problem: ProbeError | None = None
    for directory in dict.fromkeys(directories):
        try:
            answer = Git(os.fsencode(directory)).ask("rev-parse", "--show-toplevel", max_bytes=MAX_PATH_BYTES)
            if answer.is_cut:
                raise ProbeError("git does not say where the repository is")
            return answer.data.removesuffix(b"\n")
        except ProbeError as error:
            problem = problem or error
    raise problem or ProbeError("there is no directory to ask for")


def _status(git: Git) -> Status:
    words = (
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=no",
        "--no-renames",
        "--no-ahead-behind",
    )
    answer = git.ask(*words, "--ignore-submodules=none")
    commit = branch = None
    submodules: list[str] = []
    is_dirty = is_unmerged = False
    for line in map(os.fsdecode, answer.data.split(b"\0")):
        match line.split(" ", 2):
            case ["#", "branch.oid", value]:
                commit = None if value == "(initial)" else value
            case ["#", "branch.head", value]:
                branch = None if value == "(detached)" else value
            case ["1" | "u" as sign, _, rest]:
                sub, fields = rest[:4], 6 if sign == "1" else 8
                is_dirty, is_unmerged = True, is_unmerged or sign == "u"
                if sub[0] == "S" and ("M" in sub or "U" in sub):
                    submodules.append(rest.split(" ", fields)[-1])
    return Status(commit, branch, is_dirty, submodules, is_unmerged)


def _head(git: Git) -> Status:
    """Return commit and branch without looking at the work tree."""

    def said(*words: str) -> str | None:
        try:
            return os.fsdecode(git.ask(*words).data).strip()
        except ProbeError:
            return None  # no commit yet; no branch

    commit = said("rev-parse", "--verify", "-q", "HEAD")
    return Status(commit, said("symbolic-ref", "--short", "-q", "HEAD"), None, [], is_unmerged=False)


def _names(git: Git, branch: str | None) -> dict[str, object]:
    """Return the remote of the branch, else ``origin``, else the first; and the user."""
    pattern = r"^(remote\..*\.url|branch\..*\.remote|user\.name)$"
    try:
        data = git.ask("config", "-z", "--get-regexp", pattern).data
    except ProbeError:
        data = b""  # nothing is configured
    pairs = (os.fsdecode(entry).partition("\n") for entry in data.split(b"\0") if entry)
    settings: dict[str, str] = {}
    for key, _, value in pairs:
        # Of a remote with several addresses the first is fetched from; of other settings the last counts.
        if not (key.startswith("remote.") and key in settings):
            settings[key] = value
    remotes = {
        key[len("remote.") : -len(".url")]: url for key, url in settings.items() if key.startswith("remote.")
    }
    url = remotes.get(settings.get(f"branch.{branch}.remote", "")) or remotes.get("origin")
    url = url or next(iter(remotes.values()), None)
    return {
        "remote": None if url is None else without_credentials(url),
        "user": settings.get("user.name") or _login(),
    }


def _login() -> str | None:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        return None


def _diff(git: Git, status: Status, say: Say) -> dict[str, object]:
    """Store what is not committed, binary files too, so that it can be applied; return what is said of it."""
    try:
        # Before the first commit: against the empty tree, whose name depends on the kind of hash.
        base = (
            "HEAD"
            if status.commit
            else git.ask("hash-object", "-t", "tree", os.devnull).data.decode().strip()
        )
        answer = git.ask(*_DIFF, base, "--", max_bytes=MAX_DIFF_BYTES)
    except ProbeError as error:
        say.note(f"no diff: {error}")
        return {}
    data = answer.data
    if answer.is_cut:
        # Whole files only, so that what is there can be applied.
        data = data[: data.rfind(b"\ndiff --git ") + 1] or data
        say.note(f"the diff is larger than {MAX_DIFF_BYTES >> 20} MiB; its beginning is kept")
    if not data:
        return {}
    sha256 = hashlib.sha256(data).hexdigest()
    say.artifact(DIFF, sha256, content=data)
    return {"diff": DIFF, "diff_sha256": sha256, "diff_is_complete": not answer.is_cut}


def _untracked(git: Git, runs: str, say: Say) -> dict[str, object]:
    """Return the files that git neither knows nor ignores, without the *runs* themselves."""
    pattern = "/" + re.sub(r"([\\*?\[ ])", r"\\\1", runs) + "/"
    try:
        answer = git.ask("ls-files", "--others", "--exclude-standard", f"--exclude={pattern}", "-z")
    except ProbeError as error:
        say.note(f"no untracked files: {error}")
        return {}
    names = answer.data.split(b"\0")[:-1]
    if answer.is_cut:
        say.note(f"there are more untracked files than {len(names)}")
    return {"untracked": [os.fsdecode(name) for name in names[:MAX_UNTRACKED]], "untracked_count": len(names)}
