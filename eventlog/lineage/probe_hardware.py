"""Finds out what the machine is: processor, memory, GPUs."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from eventlog.lineage.child import Order, Say


def probe(order: Order, say: Say) -> None:  # noqa: ARG001 - the shape of a probe
    """Find out all of the ``hardware`` context."""
    facts: dict[str, object] = {
        "host": platform.node(),
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu": _processor(),
        "cpu_count": os.cpu_count(),
        "cpu_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
    say.context("hardware", {**facts, **_gpus(say)})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Processor")))
    return next(names, "") or platform.processor() or platform.machine()


def _gpus(say: Say) -> dict[str, object]:
    """Ask NVIDIA's driver, which makes no context on a device by that."""
    nothing: dict[str, object] = {"gpus": [], "cuda": None}
    try:
        import pynvml
    except ImportError:
        if Path("/proc/driver/nvidia/version").exists():
            say.note("GPUs are not listed. Install what asks the driver: pip install 'evlog[system]'")
        return nothing
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if Path("/proc/driver/nvidia/version").exists():
            say.note(f"GPUs are not listed: {error}")
        return nothing
    driver = _text(pynvml.nvmlSystemGetDriverVersion())
    gpus: list[dict[str, object]] = []
    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            name, memory = _text(pynvml.nvmlDeviceGetName(handle)), pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError as error:  # one that has fallen off the bus
            say.note(f"GPU {number}: {error}")
            continue
        gpus.append({"name": name, "memory_bytes": int(memory.total), "driver": driver})
    return {"gpus": gpus, "cuda": _cuda(pynvml.nvmlSystemGetCudaDriverVersion())}


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _cuda(version: int) -> str:
    """Return the newest CUDA that the driver can do: 12040 is 12.4."""
    return f"{version // 1000}.{version % 1000 // 10}"
