"""The tracker's call for data that a run reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventlog import events as ev
from eventlog.errors import BadValueError
from eventlog.ids import safe_name
from eventlog.tracker.recording import RunRecorder
from eventlog.tracker.runs import Runs

if TYPE_CHECKING:
    from eventlog.lineage.data.source import Source


class DatasetCalls(Runs):
    """The tracker's call for data that a run reads."""

    def log_dataset(
        self,
        name: str,
        version: str | None = None,
        path: str | Path | None = None,
        frame: object = None,
        array: object = None,
        split: str | None = None,
        indices: Sequence[int] | Mapping[str, Sequence[int]] | object = None,
        *,
        strategy: str | None = None,
        split_seed: int | None = None,
        hash: bool = True,
    ) -> ev.Dataset | None:
        """Log which data the run reads: a hash of the content, rows, columns, and the split.

        Args:
            version: as the data are called where they come from.
            path: a file, a directory, or an address such as ``s3://…``, which is recorded and not read.
            frame: a table of pandas, polars, pyarrow or Hugging Face's datasets.
            array: of NumPy or torch, of any shape; rows are its first axis.
            split: which part this is: ``train``, ``val``, ….
            indices: the exact rows of the split, as numbers or as one bool per row, or of several splits by
                their names; stored as an artifact.
            strategy: how the data were split: ``random``, ``stratified by label``, ….
            split_seed: the seed of the split.
            hash: False reads no content: of files size and time of change are recorded instead.

        Returns:
            What was logged, or None if logging is disabled.
        """
        run = self._active()
        if run is None:
            return None
        from eventlog.lineage.data import source as datasets  # few runs need it

        name = str(name)
        try:
            source = datasets.describe_source(path, frame, array, wants_hash=hash)
        except BadValueError as error:
            source = datasets.Source(problem=str(error))
        _complain(run, name, source)
        parts, artifact = self._indices(run, name, split, indices)
        event = datasets.dataset_event(
            name,
            source,
            version=version,
            split=split,
            indices=parts,
            artifact=artifact,
            facts={"strategy": strategy, "split_seed": split_seed},
        )
        run.add(event)
        return event

    def _indices(
        self, run: RunRecorder, name: str, split: str | None, indices: object
    ) -> tuple[dict[str, Any], str | None]:
        """Store row numbers; return them by split, and the name of the artifact."""
        if indices is None:
            return {}, None
        from eventlog.lineage.data.indices import read_indices, write_indices

        try:
            parts = read_indices(indices, split)
        except BadValueError as error:
            run.complain(f"{name} indices", f"the indices of {name!r} were not logged: {error}")
            return {}, None
        if not parts:
            return {}, None
        stem = f"{name}-{split}-indices" if split else f"{name}-indices"
        import tempfile  # milliseconds, and few runs need it

        with tempfile.TemporaryDirectory() as directory:
            try:
                file = write_indices(parts, Path(directory), safe_name(stem))
            except OSError as error:
                run.complain(f"{name} indices", f"the indices of {name!r} were not logged: {error}")
                return parts, None
            stored = run.artifact(file, f"data/{file.name}", "indices", copy=True)
        return parts, None if stored is None else stored.path.removeprefix("artifacts/")


def _complain(run: RunRecorder, name: str, source: Source) -> None:
    if source.problem is not None:
        run.complain(f"dataset {name}", f"data set {name!r}: {source.problem}")
