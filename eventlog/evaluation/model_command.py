"""A model that is a command: a process for each batch, with JSON lines in and out.

It reads ``{"prompt": …}`` lines from its standard input until the end, and writes as many lines in the same
order: a JSON string, or an object with ``output`` and, if it counts them, ``prompt_tokens`` and
``completion_tokens``. What it prints to standard error is shown if it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence

import msgspec
import orjson

from eventlog.evaluation.engine_errors import BadEvaluationError, ModelCallError
from eventlog.evaluation.model import Answer, CallDefaults, Prompt
from eventlog.values import text


class Command:
    """A model that is asked by running *command*, which is split as a shell does; no shell runs it."""

    is_sync = False

    def __init__(self, command: str) -> None:
        try:
            self.argv = shlex.split(command)
        except ValueError as error:
            raise BadEvaluationError(f"the command {command!r} cannot be split: {error}") from None
        if not self.argv:
            raise BadEvaluationError("cmd: needs a command, as in cmd:'python model.py'")
        self.name = command
        self.parameters: Mapping[str, object] = {}
        self.defaults = CallDefaults(batch_size=16, concurrency=1)

    async def ask(self, prompts: Sequence[Prompt]) -> Sequence[Answer | Exception]:
        """Run the command once for all prompts."""
        sent = b"".join(orjson.dumps({"prompt": prompt}) + b"\n" for prompt in prompts)
        try:
            process = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # its children end with it
            )
        except (OSError, ValueError) as error:
            raise ModelCallError(f"{self.argv[0]} cannot be started: {error}", "fatal") from error
        try:
            out, err = await process.communicate(sent)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    if sys.platform == "win32":
                        process.kill()
                    else:
                        os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            lines = err.decode(errors="backslashreplace").strip().splitlines() or ["it said nothing"]
            raise ModelCallError(f"{self.argv[0]} ended with {process.returncode}: {lines[-1][:300]}")
        lines_out = [line for line in out.split(b"\n") if line.strip()]
        if len(lines_out) != len(prompts):
            raise ModelCallError(
                f"{self.argv[0]} wrote {len(lines_out)} lines for {len(prompts)} prompts, not one for each"
            )
        return [_answer(line) for line in lines_out]

    async def close(self) -> None:
        """Do nothing: each batch has a process of its own."""


class _Line(msgspec.Struct):
    output: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


_decoder: msgspec.json.Decoder[_Line | str] = msgspec.json.Decoder(_Line | str)


def _answer(line: bytes) -> Answer | Exception:
    try:
        found = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        beginning = line[:80].decode(errors="backslashreplace")
        return ModelCallError(f"the command wrote {beginning!r}, which is no answer: {error}")
    if isinstance(found, str):
        return Answer(text=text(found))
    return Answer(
        text=text(found.output),
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
    )
