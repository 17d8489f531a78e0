"""``evlog publish``: keep a lake of open Parquet up to date, and prove it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from eventlog.cli import render
from eventlog.cli.find import RootNotFoundError
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root

if TYPE_CHECKING:
    from eventlog.lake.publish import Published
    from eventlog.lake.verify import Verified

SHOWN = 50
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def publish(
    url: Annotated[str, typer.Argument(metavar="URL", help="The lake: a directory, or s3://bucket/path.")],
    root: Root = DEFAULT_ROOT,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", metavar="KEY=VALUE", help="For the store; repeatable. AWS_* count too."
        ),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="How long replaced files stay for readers at work: 0, 30s, 10m, 7d."
        ),
    ] = "10m",
    prune: Annotated[
        bool, typer.Option("--prune", help="Take out runs that were published from here and are gone.")
    ] = False,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="PROJECT/RUN_ID", help="Take this run out, and publish it anew if it is here."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Publish nothing; compare every row of the lake with the logs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a lake of open Parquet up to date, for engines that run on many machines.

    Any number of machines may publish to one lake at once, and any of them may be killed: each row is there
    once. Runs that are deleted here stay in the lake.
    """
    if not root.is_dir():
        raise RootNotFoundError(root)
    options = store_options(option or [])
    if verify:
        if prune or remove:
            raise typer.BadParameter("--verify changes nothing: leave --prune and --remove out.")
        _verify(root, url, options, as_json=as_json)
        return
    done = _publish(root, url, options, _keep(keep), prune=prune, remove=remove or [])
    for problem in done.problems:
        render.say(problem)
    if as_json:
        render.write_json(msgspec.to_builtins(done))
    else:
        render.write(_summary(done))


def _publish(
    root: Path, url: str, options: dict[str, str], keep: timedelta, *, prune: bool, remove: list[str]
) -> Published:
    from eventlog.lake.publish import Watcher, publish, run_key

    runs = [run_key(text) for text in remove]
    with render.progress("reading runs", has_rate=True) as bar:

        def on_publishing(done: int, total: int) -> None:
            bar.tell("publishing")
            bar.set(done, total)

        watcher = Watcher(reading=bar.set, publishing=on_publishing)
        return publish(root, url, options=options, keep=keep, prune=prune, remove=runs, watcher=watcher)


def _verify(root: Path, url: str, options: dict[str, str], *, as_json: bool) -> None:
    from eventlog.lake.verify import verify

    with render.progress("reading runs") as bar:

        def on_comparing(done: int, total: int) -> None:
            bar.tell("comparing")
            bar.set(done, total)

        found = verify(root, url, options=options, on_reading=bar.set, on_comparing=on_comparing)
    if found.useless:
        render.say(
            f"{len(found.useless)} files do not count any more. Readers without Delta see their rows until "
            f"`evlog publish {url} --keep 0` has removed them."
        )
    if as_json:
        render.write_json({**msgspec.to_builtins(found), "is_good": found.is_good})
    else:
        _write_verified(found)
    if not found.is_good:
        raise typer.Exit(1)


def _write_verified(found: Verified) -> None:
    rows = [(d.table, f"{d.project}/{d.run_id}", d.key, d.message) for d in found.differences]
    if rows:
        render.write_table(("table", "run", "key", "difference"), rows[:SHOWN])
    if len(rows) > SHOWN:
        render.say(f"{len(rows)} differences; the first {SHOWN} are shown. All of them: --json")
    if found.is_good:
        render.write(
            f"verified: {sum(found.rows.values())} rows in {len(found.rows)} tables are what the logs hold"
        )


def _summary(done: Published) -> str:
    points, others = done.rows.get("metrics", 0), sum(done.rows.values()) - done.rows.get("metrics", 0)
    parts = [f"{points} points and {others} other rows", f"{done.runs} runs renewed"]
    parts += [f"{done.removed} runs taken out"] if done.removed else []
    parts += [f"{done.vacuumed} old files removed"] if done.vacuumed else []
    return "published: " + ", ".join(parts)


def store_options(texts: list[str]) -> dict[str, str]:
    """Return what KEY=VALUE says.

    Raises:
        typer.BadParameter: one is something else.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r}: give KEY=VALUE", param_hint="--option")
        found[key] = value
    return found


def _keep(text: str) -> timedelta:
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{text!r}: give a time such as 0, 30s, 10m, 24h or 7d", param_hint="--keep")
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2] or "s"])
