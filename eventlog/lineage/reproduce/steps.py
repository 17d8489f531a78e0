"""A plan in words: what is taken from where, and what to type to do it by hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shlex import join, quote

from eventlog.lineage.reproduce.carry import Places, move_of, places_below, working_directory
from eventlog.lineage.reproduce.command import argv_for, variables_of
from eventlog.lineage.reproduce.data import DataPlan
from eventlog.lineage.reproduce.plan import Plan


def summary(plan: Plan) -> list[tuple[str, str]]:
    """Return what is taken from where, as pairs of a word and what it stands for."""
    code, environment = plan.code, plan.environment
    if code.in_place or code.commit is None:
        rows = [("code", "as it is now, where it ran")]
    else:
        source = f" of {code.repository}" if code.repository else ""
        changes = ", with its uncommitted changes" if code.diff else ""
        rows = [("code", f"commit {code.commit[:12]}{source}{changes}")]
    if environment.kind in ("uv", "venv"):
        what = f"{len(environment.packages)} packages as recorded, installed by {environment.kind}"
        rows.append(("environment", what))
    else:
        same = " with just what was recorded" if environment.packages and not environment.differences else ""
        rows.append(("environment", f"{environment.interpreter}{same}"))
    rows += [("data", _of_data(data)) for data in plan.data]
    if plan.command is not None:
        rows.append(("command", join(plan.command.argv)))
    if len(plan.siblings) > 1:
        rows.append(("compared", f"number {plan.position + 1} of {len(plan.siblings)} runs that it makes"))
    return [*rows, ("becomes", f"{plan.siblings[0].partition('/')[0]}/{plan.new_run_id}")]


def _of_data(data: DataPlan) -> str:
    where = "" if data.path is None else f" {data.relative or data.path}"
    return f"{data.label}:{where} ({data.state})"


def steps(plan: Plan) -> list[str]:
    """Return what a shell is told to do the same by hand, without the comparison."""
    places = places_below(Path(tempfile.gettempdir()) / plan.new_run_id)
    lines = [*_code_steps(plan, places), *_environment_steps(plan, places)]
    if plan.command is None:
        return lines
    move = move_of(plan, places)
    is_built = plan.environment.kind in ("uv", "venv")
    interpreter = str(places.environment / "bin" / "python") if is_built else plan.environment.interpreter
    variables = variables_of(plan.command, move)
    names = " ".join(f"{name}={quote(value)}" for name, value in variables.items())
    lines.append(f"cd {quote(str(working_directory(plan, places, move)))}")
    lines.append(f"{names} {join(argv_for(plan.command, interpreter, move))}".strip())
    return lines


def _code_steps(plan: Plan, places: Places) -> list[str]:
    code, tree = plan.code, quote(str(places.code))
    if not code.commit or code.in_place or not code.repository:
        return []
    lines = []
    repository = quote(code.repository)
    if code.is_clone:
        lines.append(f"git clone --no-checkout {repository} {quote(str(places.clone))}")
        repository = quote(str(places.clone))
    lines.append(f"git -C {repository} worktree add --detach {tree} {code.commit}")
    if code.diff:
        lines.append(f"git -C {tree} apply --index {quote(code.diff)}")
    if code.has_submodules:
        lines.append(f"git -C {tree} submodule update --init --recursive")
    lines += [
        f"ln -s {quote(data.path)} {quote(str(places.code / data.relative))}"
        for data in plan.data
        if data.relative and data.path and data.state == "same"
    ]
    return lines


def _environment_steps(plan: Plan, places: Places) -> list[str]:
    environment = plan.environment
    if environment.kind not in ("uv", "venv"):
        return []
    directory, listing = quote(str(places.environment)), quote(f"{places.environment}.txt")
    lines = [f"evlog reproduce {quote(plan.label)} --json | jq -r '.requirements[]' > {listing}"]
    if environment.kind == "uv":
        lines.append(f"uv venv --python {quote(environment.python or environment.interpreter)} {directory}")
        lines.append(f"uv pip install --python {directory} --no-deps -r {listing}")
    else:
        lines.append(f"{quote(environment.interpreter)} -m venv {directory}")
        lines.append(f"{directory}/bin/pip install --no-deps -r {listing}")
    local = sorted(environment.local.keys() & environment.packages.keys())
    return lines + [f"# and from its directory: {name}" for name in local]
