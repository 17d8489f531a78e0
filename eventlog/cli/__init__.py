"""The command line. Importing it loads nothing; `main` loads what the command needs.

`app` names the commands and turns errors into messages and exit codes, `options` holds what commands
share, `render` is the only room that prints, `find` finds runs. The rest is one room per command.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that ``sys.argv`` names and leave the process with its exit code."""
    try:
        from eventlog.cli.app import app

        app(prog_name="evlog")
    except KeyboardInterrupt:
        sys.exit(130)
