"""NVIDIA's management library, for those who ask it what GPUs there are and what they do."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
DRIVER = Path("/proc/driver/nvidia/version")


def open_nvml(note: Callable[[str], object]) -> Any | None:
    """Return the module `pynvml`, ready to be asked, or None on a machine without such GPUs.

    Asking makes no context on a device.

    Args:
        note: called with what is in the way, where there are such GPUs.
    """
    try:
        # To load `pynvml` takes thirty milliseconds, on most machines to learn that there is no driver.
        ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        pynvml.nvmlDeviceGetCount()
    except ImportError:
        note("NVIDIA's GPUs are not looked at. Install what asks the driver: pip install 'evlog[system]'")
        return None
    except Exception as error:  # whatever a broken driver comes up with
        is_normal = type(error).__name__.startswith("NVMLError") and not DRIVER.exists()
        if not is_normal:  # as where the libraries are installed, and nobody has GPUs
            note(f"NVIDIA's GPUs are not looked at: {type(error).__name__}: {error}")
        return None
    return pynvml
