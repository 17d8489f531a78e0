"""What the `wandb` sink leaves to W&B's own SDK: artifacts, and the offline format.

A session is a run of the SDK that is resumed for a moment, logs artifacts and waits until the service has
committed them. It is told not to touch the run's state, and logs no rows.
One session at a time in a process: they share the SDK's service process.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventlog import events as ev
from eventlog.errors import SinkUnavailableError
from eventlog.storage.modes import check_inside
from sinks._wandb.media import TablePart, artifact_name

if TYPE_CHECKING:
    import wandb

INIT_S, COMMIT_S, FINISH_S = 60.0, 600, 20.0
"""The SDK tries again by itself; these are its limits, in seconds."""
ONE_AT_A_TIME = threading.Lock()
_QUIET = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


def require_package() -> None:
    """Fail as an import would if the SDK is not there, without the second that importing it takes.

    Raises:
        ModuleNotFoundError: it is not.
    """
    from importlib.util import find_spec

    if find_spec("wandb") is None:
        raise ModuleNotFoundError("No module named 'wandb'", name="wandb")


def import_sdk() -> Any:
    """Return the package, told to report nothing to anybody."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import wandb

    return wandb


def settings(wandb_: Any, **others: object) -> Any:
    """Return settings under which the SDK looks at nothing but what it is given.

    Those of *others* that this version of the SDK does not know are left out.
    """
    known = wandb_.Settings.model_fields
    return wandb_.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        **{name: value for name, value in others.items() if name in known},
    )


class Session:
    """A run that was resumed to log artifacts."""

    def __init__(self, run: wandb.Run, sdk: Any) -> None:
        self._run, self._sdk = run, sdk

    def log(self, event: ev.Artifact, home: Path, aliases: list[str]) -> None:
        """Log *event* as a version of the artifact of its name; equal content is no new version.

        Raises:
            OSError: its files are gone.
            SinkUnavailableError: the service did not commit it.
        """
        metadata = {"sha256": event.sha256, "size_bytes": event.size_bytes, "source": event.source}
        self._commit(self.artifact(event, home, metadata), aliases)

    def artifact(self, event: ev.Artifact, home: Path, metadata: Mapping[str, object]) -> Any:
        """Return the SDK's object for *event*."""
        return make_artifact(self._sdk, event, home, metadata)

    def log_table(self, part: TablePart) -> str:
        """Log a table and return how a row refers to it."""
        artifact = self._sdk.Artifact(part.name, type="table")
        table = self._sdk.Table(columns=part.columns, data=part.rows, allow_mixed_types=True)
        entry = artifact.add(table, "table")
        self._commit(artifact, ["latest"])
        return f"wandb-artifact://{base64.b64decode(artifact.id).hex()}/{entry.path}"

    def _commit(self, artifact: Any, aliases: list[str]) -> None:
        try:
            self._run.log_artifact(artifact, aliases=aliases).wait(timeout=COMMIT_S)
        except Exception as error:  # whatever the SDK's way of saying so: it is not there
            raise SinkUnavailableError(f"W&B did not commit the artifact {artifact.name}: {error}") from error


def make_artifact(sdk: Any, event: ev.Artifact, home: Path, metadata: Mapping[str, object]) -> Any:
    """Return the SDK's artifact with the files of *event*, or what is known of those that lie elsewhere.

    Raises:
        OSError: the files are gone.
    """
    artifact = sdk.Artifact(
        artifact_name(event.name),
        type=artifact_name(event.artifact_type or "file"),
        metadata={key: value for key, value in metadata.items() if value is not None},
    )
    if event.stored == "copy":
        parts = [f.path for f in event.files] if event.is_directory else []
        if not event.is_directory:
            _add(artifact, check_inside(home, event.path), Path(event.path).name)
        for part in parts:
            _add(artifact, check_inside(home, f"{event.path}/{part}"), part)
        return artifact
    with contextlib.suppress(Exception):  # of a kind that is unknown, or whose package is not installed
        _add_reference(artifact, event)
    if not artifact.manifest.entries:
        with artifact.new_file("reference.txt", mode="w") as file:
            file.write(f"{event.path}\n{event.sha256 or ''}\n")
    return artifact


def _add_reference(artifact: Any, event: ev.Artifact) -> None:
    """Add where the files of *event* lie; of this machine's disks only what the log says of them.

    The SDK would list a directory, of which a log from elsewhere may name any.
    """
    if "://" in event.path and not event.path.lower().startswith("file:"):
        artifact.add_reference(event.path, checksum=False)
        return
    from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry
    from wandb.sdk.lib.paths import LogicalPath

    url = event.path if "://" in event.path else Path(event.path).absolute().as_uri()
    one = [
        ev.FileEntry(
            path=url.rpartition("/")[2], size_bytes=event.size_bytes or 0, sha256=event.sha256 or url
        )
    ]
    for part in event.files if event.is_directory else one:
        ref = f"{url}/{part.path}" if event.is_directory else url
        entry = ArtifactManifestEntry(
            path=LogicalPath(part.path), ref=ref, size=part.size_bytes, digest=part.sha256
        )
        artifact.manifest.add_entry(entry)


def _add(artifact: Any, path: Path, name: str) -> None:
    artifact.add_file(str(path), name=name, policy="immutable", skip_cache=True)


@contextlib.contextmanager
def session(*, url: str, key: str, entity: str, project: str, run_id: str) -> Iterator[Session]:
    """Resume a run of the service with the SDK.

    Raises:
        SinkUnavailableError: the SDK did not reach it.
    """
    with ONE_AT_A_TIME, _scratch() as scratch:
        sdk = import_sdk()
        place = {"entity": entity, "project": project, "id": run_id, "dir": scratch}
        try:
            run = sdk.init(
                **place,
                resume="allow",
                reinit="create_new",
                mode="online",
                settings=_session_settings(sdk, url, key),
            )
        except Exception as error:  # the SDK has a dozen kinds, all of which mean this
            _give_up(sdk)
            raise SinkUnavailableError(
                f"W&B's SDK could not resume run {run_id} at {url}: {error}"
            ) from error
        try:
            yield Session(run, sdk)
        finally:
            try:
                run.finish()
            except Exception:  # what counts was waited for
                _give_up(sdk)


def _session_settings(sdk: Any, url: str, key: str) -> Any:
    # Few tries: the pump tries again, and the service process of a client that was killed has to end
    # before it writes something old.
    return settings(
        sdk,
        api_key=key,
        base_url=url,
        finish_timeout=FINISH_S,
        finish_timeout_raises=True,
        init_timeout=INIT_S,
        x_file_stream_retry_max=3,
        x_file_transfer_retry_max=3,
        x_graphql_retry_max=3,
        x_skip_transaction_log=True,
        x_update_finish_state=False,
    )


def _give_up(sdk: Any) -> None:
    """End the SDK's service process, which else holds the run's id for good."""
    with contextlib.suppress(Exception):
        sdk.teardown(exit_code=0)


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="evlog-wandb-")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
