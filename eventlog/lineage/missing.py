"""What is missing or ambiguous in what is known of a run's origin, and the record as it should be.

One shape serves runs and pasted snippets: see `eventlog.lineage.record`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Literal, cast

import msgspec

from eventlog.lineage.record import SEED_NAMES

MOVING = frozenset(
    {
        "latest",
        "newest",
        "current",
        "main",
        "master",
        "head",
        "new",
        "final",
        "today",
        "dev",
        "stable",
        "prod",
    }
)
"""Versions that mean another thing tomorrow."""

_UNKNOWN = frozenset({"", "?", "-", "tbd", "todo", "unknown", "none", "null", "n/a", "na"})
_CODE = frozenset(
    {".py", ".pyx", ".so", ".ipynb", ".sh", ".r", ".R", ".jl", ".c", ".cc", ".cpp", ".cu", ".h", ".rs"}
)
_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.ASCII)


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a repetition would have to guess.

    Attributes:
        field: what it is about, as in the template: ``git_commit``, ``data.version``, ``env.python``, ….
        kind: ``missing``, or ``ambiguous``: there is something, but it fits more than one thing.
    """

    field: str
    kind: Literal["missing", "ambiguous"]
    reason: str
    mend: str

    def to_dict(self) -> dict[str, object]:
        """Return it in terms of JSON."""
        return msgspec.structs.asdict(self)


def untracked_code(names: Iterable[object]) -> list[str]:
    """Return those of the files that a program may consist of."""
    return [str(name) for name in names if PurePosixPath(str(name)).suffix in _CODE]


def missing_in_record(record: Mapping[str, object]) -> list[Gap]:
    """Return what a repetition of *record* (the template, with more fields if there are) would have to guess.

    Fields of other names are left alone; a field that is empty counts as one that is not there.
    """
    gaps = [*_code_gaps(record), *_command_gaps(record), *_seed_gaps(record)]
    data = record.get("data")
    sets = data if isinstance(data, list) else [data]
    gaps += [gap for i, one in enumerate(sets) for gap in _data_gaps(one, i if len(sets) > 1 else None)]
    if not sets:
        gaps.append(_missing("data.name", "no data set is named", "log_dataset(name, version, path=…)"))
    gaps += _environment_gaps(_mapping(record.get("env") or record.get("environment")))
    if not (record.get("metrics") or record.get("results")):
        gaps.append(_missing("metrics", "no result is named", "log_metrics({'val_f1_macro': …})"))
    return gaps


def corrected_record(record: Mapping[str, object]) -> dict[str, object]:
    """Return *record* with every gap filled by ``<what belongs there>``; what is known stays as it is."""
    fixed = cast("dict[str, object]", msgspec.to_builtins(dict(record)))
    if not fixed.get("data"):
        fixed["data"] = {}
    for gap in missing_in_record(fixed):
        old = _value_at(fixed, gap.field)
        kept = f"{old}: " if gap.kind == "ambiguous" and isinstance(old, (str, int, float)) else ""
        _set(fixed, gap.field, f"<{kept}{gap.mend}>")
    return fixed


# --- gaps ----------------------------------------------------------------------------------------


def _code_gaps(record: Mapping[str, object]) -> list[Gap]:
    commit = _text(record.get("git_commit") or record.get("commit"))
    if not commit:
        return [_missing("git_commit", "the commit is not known", "git rev-parse HEAD")]
    gaps = []
    if not _COMMIT.fullmatch(commit.lower()):
        gaps.append(
            _ambiguous("git_commit", f"{commit!r} is no commit: a branch or tag moves", "git rev-parse HEAD")
        )
    elif len(commit) < 40:
        gaps.append(
            _ambiguous("git_commit", f"{commit!r} is abbreviated", f"git rev-parse {commit} (40 digits)")
        )
    is_dirty = record.get("is_dirty", record.get("dirty"))
    if is_dirty and not (record.get("diff_sha256") or record.get("diff")):
        gaps.append(
            _missing(
                "diff", "there were uncommitted changes, and no diff is kept", "git diff HEAD > code.diff"
            )
        )
    return gaps + _untracked_gaps(record.get("untracked"))


def _untracked_gaps(names: object) -> list[Gap]:
    """Say which files no commit and no diff has: code is missing, other files may have been read."""
    if not isinstance(names, list) or not names:
        return []
    code = untracked_code(names)
    shown = ", ".join(map(str, (code or names)[:3])) + (", …" if len(code or names) > 3 else "")
    if code:
        return [_missing("untracked", f"code that git does not know: {shown}", "git add, and commit")]
    return [_ambiguous("untracked", f"git does not know {shown}", "git add, or .gitignore")]


def _command_gaps(record: Mapping[str, object]) -> list[Gap]:
    if record.get("command"):
        return []
    script = _text(record.get("script"))
    if not script:
        return [
            _missing("script", "neither script nor command is known", "python train.py --with --all=args")
        ]
    return [
        _ambiguous(
            "command", f"the arguments of {script} are not known", f"python {script} --with --all=args"
        )
    ]


def _seed_gaps(record: Mapping[str, object]) -> list[Gap]:
    params = _mapping(record.get("params"))
    if any(_text(place.get(name)) for place in (record, params) for name in SEED_NAMES):
        return []
    return [_missing("seed", "no seed is recorded", "seed_everything(…) or log_params({'seed': …})")]


def _data_gaps(data: object, place: int | None) -> list[Gap]:
    at = "data" if place is None else f"data[{place}]"
    if isinstance(data, str):
        data = {"name": data}
    known = _mapping(data)
    gaps = []
    name = _text(known.get("name"))
    if not name:
        gaps.append(_missing(f"{at}.name", "the data set has no name", "log_dataset(name, …)"))
    version = _text(known.get("version"))
    digest = _text(known.get("sha256") or known.get("hash"))
    if not version and not digest:
        gaps.append(
            _missing(f"{at}.version", f"neither version nor hash of {name or 'the data'}", "v2025-05-01")
        )
    elif version.lower() in MOVING:
        gaps.append(
            _ambiguous(f"{at}.version", f"{version!r} means other data tomorrow", "v2025-05-01, or a hash")
        )
    elif not digest:
        gaps.append(
            _ambiguous(f"{at}.sha256", f"{version!r} says not that the content is the same", "sha256 of it")
        )
    if not any(
        known.get(key) is not None for key in ("split", "splits", "split_seed", "strategy", "indices")
    ):
        gaps.append(
            _missing(
                f"{at}.split", "how the data were split is not known", "strategy and split_seed, or indices"
            )
        )
    return gaps


def _environment_gaps(known: Mapping[str, object]) -> list[Gap]:
    gaps = []
    python = _text(known.get("python") or known.get("python_version"))
    if not python:
        gaps.append(_missing("env.python", "the version of Python is not known", "platform.python_version()"))
    elif python.count(".") < 2:
        gaps.append(_ambiguous("env.python", f"{python!r} fits several releases", "3.11.9"))
    packages = _mapping(known.get("packages"))
    framework = _text(known.get("framework"))
    if not packages and not framework:
        gaps.append(_missing("env.packages", "the packages are not known", "pip freeze"))
    elif not packages:
        if "==" not in framework:
            gaps.append(
                _ambiguous(
                    "env.framework", f"{framework!r} is not pinned", f"{framework.split('>')[0]}==1.2.3"
                )
            )
        gaps.append(
            _ambiguous("env.packages", "only the framework is named, not what it stands on", "pip freeze")
        )
    uses_gpu = any(
        name in f"{framework} {' '.join(packages)}".lower() for name in ("torch", "tensorflow", "jax")
    )
    if uses_gpu and "cuda" not in known and "gpus" not in known:
        gaps.append(
            _missing("env.cuda", "CUDA and GPU are not known, nor that there was none", "12.1 or none")
        )
    return gaps


# --- small things ----------------------------------------------------------------------------------


def _missing(field: str, reason: str, mend: str) -> Gap:
    return Gap(field=field, kind="missing", reason=reason, mend=mend)


def _ambiguous(field: str, reason: str, mend: str) -> Gap:
    return Gap(field=field, kind="ambiguous", reason=reason, mend=mend)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    """Return *value* as text, nothing for what only says that nobody knows."""
    text = "" if value is None or isinstance(value, (dict, list)) else str(value).strip()
    return "" if text.lower() in _UNKNOWN or re.fullmatch(r"<.*>", text) else text


def _steps(field: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", field)]


def _value_at(record: object, field: str) -> object:
    for step in _steps(field):
        if isinstance(record, dict):
            record = record.get(cast("str", step))
        elif isinstance(record, list) and isinstance(step, int) and step < len(record):
            record = record[step]
        else:
            return None
    return record


def _set(record: dict[str, object], field: str, value: str) -> None:
    place: object = record
    *inner, last = _steps(field)
    for step in inner:
        if isinstance(place, dict):
            old = place.get(cast("str", step))
            if not isinstance(old, (dict, list)):
                # A name alone, as in {"data": "mnist"}, becomes the name inside of a mapping.
                old = {"name": old} if isinstance(old, str) and _text(old) else {}
                place[cast("str", step)] = old
            place = old
        elif isinstance(place, list) and isinstance(step, int):
            if not isinstance(place[step], dict):
                place[step] = {"name": place[step]} if isinstance(place[step], str) else {}
            place = place[step]
    cast("dict[str, object]", place)[cast("str", last)] = value
