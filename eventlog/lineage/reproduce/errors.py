"""Why a run cannot be repeated."""

from __future__ import annotations

from eventlog.errors import EvlogError


class ReproductionError(EvlogError):
    """A step of the repetition failed, so that there is nothing to compare."""

    def __init__(self, step: str, reason: str, mend: str = "") -> None:
        super().__init__(step, reason, mend)
        self.step, self.reason, self.mend = step, reason, mend

    def __str__(self) -> str:
        return f"{self.step}: {self.reason}.{' ' + self.mend if self.mend else ''}"
