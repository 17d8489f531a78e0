"""What is logged of data that a run reads: where they lie, what they hold, and how they were split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from eventlog.errors import BadValueError
from eventlog.events import Dataset
from eventlog.lineage.credentials import without_credentials
from eventlog.lineage.data.hashes import array_hash
from eventlog.storage.artifacts import describe
from eventlog.values import text


class Source(NamedTuple):
    """What is known of data.

    Attributes:
        data: what has no field of its own in the event.
        problem: what could not be found out, and why.
    """

    path: str | None = None
    sha256: str | None = None
    rows: int | None = None
    data: Mapping[str, object] = {}
    problem: str | None = None


def describe_source(path: str | Path | None, frame: object, array: object, *, wants_hash: bool) -> Source:
    """Return what is known of data; of a table or an array that lies at *path*, the file's hash counts.

    Raises:
        BadValueError: both a table and an array.
    """
    if frame is not None and array is not None:
        raise BadValueError("dataset", "arguments", "give frame= or array=, not both")
    held = Source()
    if frame is not None:
        held = _of_frame(frame, wants_hash=wants_hash)
    elif array is not None:
        held = _of_array(array, wants_hash=wants_hash)
    if path is None:
        return held
    found = _of_path(path, wants_hash=wants_hash)
    data = {**found.data, **held.data}
    if held.sha256 is not None and found.sha256 is not None:
        data |= {"hash": found.data.get("hash"), "content_sha256": held.sha256}
    rows = found.rows if held.rows is None else held.rows
    problem = "; ".join(filter(None, (found.problem, held.problem))) or None
    return Source(found.path, found.sha256 or held.sha256, rows, data, problem)


def dataset_event(
    name: str,
    source: Source,
    *,
    version: object = None,
    split: object = None,
    indices: Mapping[str, Any] | None = None,
    artifact: str | None = None,
    facts: Mapping[str, object] | None = None,
) -> Dataset:
    """Return the event.

    Args:
        indices: of each split.
        artifact: where they are stored.
        facts: what else is said; None among it is left out.
    """
    data = dict(source.data)
    sizes = {part: len(numbers) for part, numbers in (indices or {}).items()}
    if not sizes and split is not None and source.rows is not None:
        sizes = {text(str(split)): source.rows}
    said = {"splits": sizes or None, "indices": artifact, **(facts or {})}
    data |= {key: value for key, value in said.items() if value is not None}
    return Dataset(
        name=text(name),
        version=None if version is None else text(str(version)),
        split=None if split is None else text(str(split)),
        path=source.path,
        sha256=source.sha256,
        rows=source.rows,
        data=data,
    )


# --- where the data come from -----------------------------------------------------------------------


def _of_path(path: str | Path, *, wants_hash: bool) -> Source:
    address = str(path)
    if "://" in address and not address.startswith("file://"):
        return Source(path=text(without_credentials(address)))
    place = Path(unquote(urlsplit(address).path) if address.startswith("file://") else path).absolute()
    where = text(str(place))
    try:
        if place.is_dir():
            return _of_directory(place, where, wants_hash=wants_hash)
        from eventlog.lineage.data.files import describe_file

        if not place.is_file():
            return Source(path=where, problem=f"{where} is no file or directory")
        file = describe_file(place, wants_hash=wants_hash)
    except (OSError, BadValueError) as error:
        return Source(path=where, problem=str(error))
    data: dict[str, object] = {"size_bytes": file.size_bytes}
    data |= {"hash": "file"} if wants_hash else {"modified_at": _modified_at(place)}
    data |= {} if file.columns is None else {"columns": file.columns}
    return Source(where, file.sha256, file.rows, data)


def _of_directory(place: Path, where: str, *, wants_hash: bool) -> Source:
    if not wants_hash:
        sizes = [one.stat().st_size for one in place.rglob("*") if one.is_file()]
        data = {"size_bytes": sum(sizes), "files": len(sizes), "modified_at": _modified_at(place)}
        return Source(path=where, data=data)
    tree = describe(place)
    data = {"size_bytes": tree.size_bytes, "files": len(tree.files), "hash": "tree"}
    return Source(path=where, sha256=tree.sha256, data=data)


def _modified_at(path: Path) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()


def _of_frame(frame: object, *, wants_hash: bool) -> Source:
    from eventlog.lineage.data.frames import describe_frame, fingerprint

    try:
        found = describe_frame(frame, wants_hash=wants_hash)
    except TypeError as error:
        return Source(problem=str(error))
    data: dict[str, object] = {"columns": [{k: text(str(v)) for k, v in c.items()} for c in found.columns]}
    data |= {"hash": "table-1"} if found.sha256 else {}
    mark = fingerprint(frame)
    data |= {} if mark is None else {"fingerprint": text(mark)}
    problem = None if found.problem is None else f"it has no hash: {found.problem}"
    return Source(None, found.sha256, found.rows, data, problem)


def _of_array(array: Any, *, wants_hash: bool) -> Source:
    try:
        import numpy

        values, name = _as_numpy(array, numpy)
    except Exception as error:  # no NumPy, or whatever was given as an array
        return Source(problem=f"the array was not read: {error}")
    shape = list(map(int, values.shape))
    data: dict[str, object] = {"shape": shape, "dtype": name}
    rows = shape[0] if shape else None
    if not wants_hash:
        return Source(None, None, rows, data)
    try:
        return Source(None, array_hash(values, name), rows, {**data, "hash": "array-1"})
    except TypeError as error:
        return Source(None, None, rows, data, f"it has no hash: {error}")


def _as_numpy(array: Any, numpy: Any) -> tuple[Any, str]:
    """Return an array, and the name of its type; of torch's types NumPy lacks bfloat16."""
    if type(array).__module__.partition(".")[0] == "torch":
        tensor = array.detach().cpu()
        name = str(tensor.dtype).removeprefix("torch.")
        if name == "bfloat16":
            import torch

            return tensor.contiguous().view(torch.int16).numpy(), name
        return tensor.numpy(), name
    values = array if isinstance(array, numpy.ndarray) else numpy.asarray(array)
    return values, values.dtype.name
