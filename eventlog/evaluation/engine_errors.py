"""What can stop an evaluation, or cost it a sample."""

from __future__ import annotations

from typing import Literal

from eventlog.errors import EvlogError

Kind = Literal["transient", "final", "fatal"]
"""Worth another try; of no use for these prompts; of no use for any prompt."""


class BadEvaluationError(EvlogError, ValueError):
    """An evaluation was asked for that cannot be made."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class ModelCallError(EvlogError):
    """A model did not answer.

    Attributes:
        kind: whether the same call, or any call, may go well later.
        retry_after_s: how long the model asks to be left alone.
    """

    def __init__(self, message: str, kind: Kind = "final", retry_after_s: float | None = None) -> None:
        super().__init__(message, kind, retry_after_s)
        self.message, self.kind, self.retry_after_s = message, kind, retry_after_s

    def __str__(self) -> str:
        return self.message


class DataChangedError(EvlogError):
    """An evaluation was to go on, but its data are not what they were."""

    def __init__(self, benchmark: str, index: int, run_id: str) -> None:
        super().__init__(benchmark, index, run_id)
        self.benchmark, self.index, self.run_id = benchmark, index, run_id

    def __str__(self) -> str:
        return (
            f"{self.benchmark}: item {self.index} is not the one that run {self.run_id!r} has evaluated "
            "(other data, another prompt or another order). Give the data and options of that run, or "
            "start a new evaluation without --resume."
        )


class TooManyErrorsError(EvlogError):
    """So many samples failed that an evaluation was stopped."""

    def __init__(self, benchmark: str, errors: int, answered: int, last: str) -> None:
        super().__init__(benchmark, errors, answered, last)
        self.benchmark, self.errors, self.answered, self.last = benchmark, errors, answered, last

    def __str__(self) -> str:
        return (
            f"{self.benchmark} was stopped: {self.errors} samples failed and {self.answered} were answered. "
            f"The last error: {self.last}"
        )
