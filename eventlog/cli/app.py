"""The commands by name, with examples to paste, and what errors become.

Exit codes: 0 done, 1 something is wrong or was not found, 2 the command line is wrong, 130 Ctrl-C,
141 nobody reads the output any more. `evlog run` ends as its command does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from eventlog.cli import (
    audit,
    compare,
    deliver,
    evaluate,
    export,
    follow,
    imports,
    launch,
    leaderboard,
    plot,
    publish,
    query,
    record,
    report,
    reproduce,
    runs,
    schema,
    show,
    significance,
    sweep,
    verify,
)
from eventlog.cli.render import say
from eventlog.errors import EvlogError, EvlogWarning

BROKEN_PIPE, INTERRUPTED = 141, 130


class Commands(TyperGroup):
    """The group of all commands: errors that we know leave it as one line on stderr."""

    def invoke(self, ctx: Any) -> Any:  # Any: of one typer it is a click.Context, of the next its own
        """Run the command."""
        warnings.showwarning = _show_warning
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_output()
            raise typer.Exit(BROKEN_PIPE) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except (EvlogError, OSError) as error:
            say(str(error))
            raise typer.Exit(1) from None
        return result


_show_any_warning = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show our warnings as messages: whoever types commands has no use for a line of our source."""
    if issubclass(category, EvlogWarning):
        say(str(message))
    else:
        _show_any_warning(message, category, filename, lineno, file, line)


def _forget_output() -> None:
    """Let the interpreter's last flush go nowhere, or it would report the broken pipe again."""
    with contextlib.suppress(OSError, ValueError):  # a stdout that is no file has no pipe behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _version(wanted: bool) -> None:
    if wanted:
        from eventlog import __version__

        typer.echo(f"evlog {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="evlog",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=_examples("evlog run -- python train.py", "evlog list", "evlog tail -f RUN"))
def evlog(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Log experiments, look at them, deliver them.

    RUN is a run's directory, its id, PROJECT/ID, or the beginning of an id that no other run has.
    """


app.command(
    "list", epilog=_examples("evlog list --status running", "evlog list --tag model=resnet --limit 10 --json")
)(runs.list_runs)
app.command("show", epilog=_examples("evlog show digits-1", "evlog show demo/digits-1 --json | jq .params"))(
    show.show
)
app.command(
    "tail", epilog=_examples("evlog tail -f digits-1", "evlog tail --all --json digits-1 | jq -c .data")
)(follow.tail)
app.command("verify", epilog=_examples("evlog verify", "evlog verify demo/digits-1 --json"))(verify.verify)
app.command(
    "query",
    epilog=_examples(
        'evlog query "SELECT run_id, status FROM runs ORDER BY started_at DESC LIMIT 5"',
        "evlog query --format parquet --output losses.parquet \"SELECT * FROM metrics WHERE key = 'loss'\"",
        "evlog query --format csv --file question.sql --param key=loss > answer.csv",
        'evlog query --as-of 2026-01-31T12:00:00 "SELECT run_id, status FROM runs"',
        "evlog query --interactive",
    ),
)(query.query)
app.command("schema", epilog=_examples("evlog schema", "evlog schema metrics", "evlog schema runs --json"))(
    schema.schema
)
app.command(
    "publish",
    epilog=_examples(
        "evlog publish /shared/lake",
        "evlog publish s3://bucket/lake --option AWS_ENDPOINT_URL=http://minio:9000",
        "evlog publish s3://bucket/lake --verify",
    ),
)(publish.publish)
app.command("compact", epilog=_examples("evlog compact", "evlog compact --watch --interval 1"))(
    schema.compact
)
app.command(
    "sync",
    epilog=_examples(
        "evlog sync --to tensorboard --option log_dir=./board",
        "evlog sync digits-1 --to mlflow -o tracking_uri=http://localhost:5000",
        "evlog sync --follow --jobs 4 --to wandb --only-finished --tag keep",
        "evlog sync --to tensorboard --include 'train/*' --every 10 --dry-run",
        "evlog sync --to mirror -o to=/backup/experiments --verify",
        "evlog sync --status",
    ),
)(deliver.sync)
app.command("sinks", epilog=_examples("evlog sinks", "evlog sinks --json | jq -r '.[].name'"))(deliver.sinks)
app.command(
    "log",
    epilog=_examples(
        "evlog log nightly accuracy=0.93 --step 12",
        "evlog log nightly --params lr=0.001 optimizer=adam",
        "my-trainer | evlog log nightly -",
        "evlog log nightly --tag owner=ada --note '1e-3 diverged after epoch 8'",
        "evlog log nightly --end failed",
    ),
)(record.log)
app.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    epilog=_examples(
        "evlog run -- python train.py --lr 0.1",
        "evlog run --name resnet --tag gpu --track local -- bash train.sh",
    ),
)(launch.run)
for _module in (
    leaderboard,
    compare,
    significance,
    plot,
    report,
    export,
    audit,
    reproduce,
    evaluate,
    sweep,
    imports,
):
    _module.add_to(app)
