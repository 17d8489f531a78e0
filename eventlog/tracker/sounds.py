"""Samples of sound as WAV files of 16 bits; numpy makes it fast and is not needed."""

from __future__ import annotations

import io
import wave
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import numpy as np

MAX_CHANNELS = 32


def wav(data: object, sample_rate: float | None) -> bytes:
    """Return a WAV file of samples of shape (n,) or (n, channels), floats in [-1, 1] or int16.

    Raises:
        ValueError: another shape or type, or no *sample_rate* (samples a second).
    """
    if sample_rate is None or not 1 <= sample_rate < 1 << 32:
        raise ValueError(f"samples need a sample_rate, and {sample_rate} is none")
    frames, channels = pcm(data)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(int(sample_rate))
        file.writeframes(frames)
    return buffer.getvalue()


def pcm(data: object) -> tuple[bytes, int]:
    """Return samples as int16, the channels of each moment side by side, and the number of channels."""
    dtype = str(getattr(data, "dtype", "")).rpartition(".")[2]
    # A tensor of torch may lie on a GPU, and numpy has no bfloat16.
    for name in ("detach", "cpu", *(("float",) if dtype == "bfloat16" else ())):
        method = getattr(data, name, None)
        data = method() if callable(method) else data
    if dtype and dtype != "int16" and "float" not in dtype:
        raise ValueError(f"samples are floats in [-1, 1] or int16, not {dtype}")
    try:
        import numpy as np
    except ImportError:
        return pcm_of_lists(data)
    return _pcm_of_array(np.asarray(data))


def _pcm_of_array(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> tuple[bytes, int]:
    import numpy as np

    columns = values[:, None] if values.ndim == 1 else values
    _check_shape(columns.shape)
    if columns.dtype.kind == "f":
        numbers = np.nan_to_num(columns.astype("float64"), nan=0.0)
        return np.rint(np.clip(numbers, -1, 1) * 32767).astype("<i2").tobytes(), columns.shape[1]
    if columns.dtype.kind not in "iu" or columns.min() < -32768 or columns.max() > 32767:
        raise ValueError("samples are floats in [-1, 1] or integers of 16 bits")
    return columns.astype("<i2").tobytes(), columns.shape[1]


def pcm_of_lists(data: object) -> tuple[bytes, int]:
    """Return what `pcm` returns, without numpy."""
    tolist = getattr(data, "tolist", None)
    rows = cast("Sequence[object]", tolist() if callable(tolist) else data)
    table = [list(row) if isinstance(row, Sequence) else [row] for row in rows]
    if len({len(row) for row in table}) > 1:
        raise ValueError("its rows differ in length")
    _check_shape((len(table), len(table[0]) if table else 0))
    flat = [x for row in table for x in row if isinstance(x, (int, float)) and not isinstance(x, bool)]
    if len(flat) < len(table) * len(table[0]):
        raise ValueError("samples are floats in [-1, 1] or integers of 16 bits")
    if any(isinstance(x, float) for x in flat):
        flat = [0 if x != x else round(max(-1.0, min(1.0, x)) * 32767) for x in flat]
    samples = array("h", cast("list[int]", flat))  # refuses what has more than 16 bits
    if array("H", [1]).tobytes() != b"\x01\x00":
        samples.byteswap()
    return samples.tobytes(), len(table[0])


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or not shape[0] or not 1 <= shape[1] <= MAX_CHANNELS:
        raise ValueError(f"samples have the shape (n,) or (n, channels), not {tuple(shape)}")
