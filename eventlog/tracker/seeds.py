"""The tracker's call that seeds random numbers."""

from __future__ import annotations

from eventlog.tracker.runs import Runs


class SeedCalls(Runs):
    """The tracker's call that seeds random numbers."""

    def seed_everything(self, seed: int, *, deterministic: bool = False, torch: bool | None = None) -> int:
        """Seed Python, NumPy and torch as `eventlog.seed_everything` does, and log it in the active run.

        Raises:
            BadValueError: *seed* is no whole number from 0 to 2**32 - 1.
            ImportError: *torch*, and there is none.
        """
        from eventlog.lineage.seeds import log_seeds, set_seeds

        facts = set_seeds(seed, deterministic=deterministic, torch=torch)
        run = self._active()
        if run is not None:
            log_seeds(run, facts)
        return int(seed)
