"""The exact rows of a split: read as they are given, and written to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventlog.errors import BadValueError
from eventlog.values import key_text


def read_indices(indices: object, split: str | None) -> dict[str, Any]:
    """Return the row numbers of each split, as arrays of 64 bits, or as lists where there is no NumPy.

    Args:
        indices: row numbers, or a truth value for each row; or a mapping of those by split.

    Raises:
        BadValueError: something else.
    """
    named = indices if isinstance(indices, Mapping) else {split or "all": indices}
    return {key_text(name): _numbers(key_text(name), given) for name, given in named.items()}


def _numbers(name: str, given: Any) -> Any:
    refused = BadValueError(
        f"indices of {name}", type(given).__name__, "they are whole numbers, or one bool per row"
    )
    try:
        import numpy
    except ImportError:
        listed = list(given.tolist() if hasattr(given, "tolist") else given)
        if listed and all(isinstance(one, bool) for one in listed):
            return [row for row, is_in in enumerate(listed) if is_in]
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in listed):
            raise refused from None
        return listed
    try:
        is_lazy = not hasattr(given, "__len__") and not hasattr(given, "__array__")
        values = numpy.asarray(list(given) if is_lazy else given)
    except Exception as error:  # whatever was given as indices
        raise refused from error
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iub"):
        raise refused
    return numpy.flatnonzero(values) if values.dtype.kind == "b" else values.astype("int64")


def write_indices(indices: Mapping[str, Any], directory: Path, stem: str) -> Path:
    """Write row numbers to a file below *directory*: npy, of several splits npz, without NumPy JSON."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        import numpy
    except ImportError:
        path = directory / f"{stem}.json"
        only = next(iter(indices.values()))
        path.write_text(json.dumps(only if len(indices) == 1 else dict(indices)))
        return path
    if len(indices) == 1:
        path = directory / f"{stem}.npy"
        numpy.save(path, next(iter(indices.values())), allow_pickle=False)
        return path
    path = directory / f"{stem}.npz"
    numpy.savez(path, **indices)
    return path
