"""Finds out what the machine is: processor, memory, GPUs."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from eventlog.lineage.capture.child import Order, Say
from eventlog.lineage.nvidia import open_nvml

PROCESSORS = Path("/proc/cpuinfo")


def probe(order: Order, say: Say) -> None:  # noqa: ARG001 - the shape of a probe
    """Find out all of the ``hardware`` context."""
    facts: dict[str, object] = {
        "host": os.uname().nodename,
        "os": system_name(),
        "machine": os.uname().machine,
        "cpu": _processor(),
        "cpu_count": os.cpu_count(),
        "cpu_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
    say.context("hardware", {**facts, **_gpus(say)})


def system_name() -> str:
    """Return what `platform.platform` says, on most machines without the program that it starts."""
    kernel = os.uname()
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else None
    except (ValueError, OSError):
        library = None  # a C library that is not GNU's
    if library is None:
        import platform

        return platform.platform()
    return f"{kernel.sysname}-{kernel.release}-{kernel.machine}-with-{library.replace(' ', '')}"


def _processor() -> str:
    with contextlib.suppress(OSError), PROCESSORS.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:  # not all of them: a machine with 200 processors has 10,000
            name = line.partition(":")[2].strip() if line.startswith(("model name", "Processor")) else ""
            if name:
                return name
    import platform

    return platform.processor() or platform.machine()


def _gpus(say: Say) -> dict[str, object]:
    pynvml = open_nvml(say.note)
    if pynvml is None:
        return {"gpus": [], "cuda": None}
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
