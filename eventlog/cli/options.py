"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventlog.cli.find import complete_run

DEFAULT_ROOT = Path("./experiments")

Root = Annotated[
    Path, typer.Option("--dir", envvar="EVLOG_DIR", metavar="ROOT", help="Directory of all projects.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
OneRun = Annotated[str, typer.Argument(metavar="RUN", autocompletion=complete_run, help="The run.")]
Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]...", autocompletion=complete_run, help="The runs; default all below ROOT."),
]
