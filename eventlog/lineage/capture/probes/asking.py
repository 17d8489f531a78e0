"""Asks another program something, and takes no for an answer, or none."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eventlog.lineage.capture.child import ProbeError

MAX_WORDS_BYTES = 4096
_CHUNK_BYTES = 1 << 16


class Answer(NamedTuple):
    """What a program printed; *is_cut* if there was more."""

    data: bytes
    is_cut: bool


def ask(
    command: Sequence[str], environment: Mapping[str, str], *, max_bytes: int, timeout_s: float
) -> Answer:
    """Run *command* and return what it prints, at most *max_bytes*; then it is killed.

    Does not wait for a program that cannot be killed, nor for what that leaves behind.

    Raises:
        ProbeError: it cannot be started, does not answer in time, or fails.
    """
    name = Path(command[0]).name
    try:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise ProbeError(f"{name} is not installed") from None
    except OSError as error:
        raise ProbeError(f"{name} cannot be started: {error.strerror or error}") from error
    deadline = time.monotonic() + timeout_s
    out, err = bytearray(), bytearray()
    is_over = _read(process, out, err, max_bytes, deadline)
    if len(out) > max_bytes:
        process.kill()
        return Answer(bytes(out[:max_bytes]), is_cut=True)
    try:
        if not is_over:
            raise subprocess.TimeoutExpired(command, timeout_s)
        code = process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        raise ProbeError(f"{name} gave no answer within {timeout_s:g} s") from None
    if code:
        raise ProbeError(_reason(err.decode(errors="replace")) or f"{name} ended with code {code}")
    return Answer(bytes(out), is_cut=False)


def _reason(err: str) -> str:
    """Return what git says last, before its advice; what the loader or a wrapper says stands above."""
    lines = err.strip().split("\n")
    return next((line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")), lines[0])


def _read(
    process: subprocess.Popen[bytes], out: bytearray, err: bytearray, max_bytes: int, deadline: float
) -> bool:
    """Fill *out* and *err*; return whether both came to their end."""
    assert process.stdout is not None
    assert process.stderr is not None
    into = {process.stdout.fileno(): out, process.stderr.fileno(): err}
    poll = select.poll()
    for fd in into:
        poll.register(fd, select.POLLIN)
    open_ones = set(into)
    while open_ones and len(out) <= max_bytes:
        left = deadline - time.monotonic()
        ready = poll.poll(1000 * left) if left > 0 else []
        if not ready:
            return False
        for fd, _ in ready:
            data = os.read(fd, _CHUNK_BYTES)
            if not data:
                poll.unregister(fd)
                open_ones.discard(fd)
            elif fd == process.stdout.fileno() or len(err) < MAX_WORDS_BYTES:
                into[fd] += data
    return not open_ones
