"""What the `wandb` sink says of a run as a whole: config, origin, end, and that it is still alive."""

from __future__ import annotations

import contextlib
import json
import sys
import threading

from eventlog.errors import EvlogError
from eventlog.sink import RunInfo, RunStatus
from sinks._wandb.api import Api
from sinks._wandb.rows import STEP, Progress
from sinks._wandb.stream import Remote

_EXIT_CODES = {"finished": 0, "failed": 1, "crashed": 1, "killed": 255}


def config_of(progress: Progress, run: RunInfo) -> str:
    """Return the config as W&B keeps it, with `step` as the x axis of every metric."""
    python = sys.version.split()[0]
    own = {
        "t": {"4": python, "5": "evlog"},
        "python_version": python,
        "m": [{"2": "*", "5": 2, "6": [1], "7": []}, {"1": STEP, "6": [], "7": []}],
    }
    ours = {"run_id": run.run_id, "project": run.project, "generation": run.generation}
    parent = progress.parent or (run.started.parent_run_id if run.started else None)
    ours |= {"parent_run_id": parent} if parent else {}
    whole = {**progress.config, "_wandb": own, "_evlog": ours | ({"context": progress.context})}
    return json.dumps({key: {"value": value} for key, value in whole.items()}, ensure_ascii=False)


def exit_code(status: RunStatus) -> int:
    """Return the exit code that W&B is told: 0 only for a run that finished."""
    default = _EXIT_CODES.get(status.status, 1)
    return (status.exit_code or default) if status.status != "finished" else 0


def origin(context: dict[str, object]) -> dict[str, str | None]:
    """Return where the run comes from, as far as its log says."""
    git, command = context.get("git"), context.get("command")
    git = git if isinstance(git, dict) else {}
    command = command if isinstance(command, dict) else {}
    argv = command.get("argv")
    hardware = context.get("hardware")
    host = hardware.get("host") if isinstance(hardware, dict) else None
    return {
        "commit": _text(git.get("commit")),
        "repo": _text(git.get("remote")),
        "program": _text(argv[0]) if isinstance(argv, list) and argv else None,
        "host": _text(host),
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class Heart:
    """Says "still alive" now and then, for W&B takes a silent run for a crashed one."""

    def __init__(self, api: Api, remote: Remote, every_s: float) -> None:
        self._api = Api(api.url, api.key, timeout_s=10.0)
        self._remote, self._every_s = remote, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="evlog-wandb-heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Be silent."""
        self._stop.set()
        self._thread.join()
        self._api.close()

    def _beat(self) -> None:
        remote = self._remote
        while not self._stop.wait(self._every_s):
            # Whatever is wrong, the next batch says it.
            with contextlib.suppress(EvlogError):
                self._api.post_stream(remote.entity, remote.project, remote.run, b"{}")
