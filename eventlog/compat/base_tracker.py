"""The interface of trackers of evaluations: a result, its dataset and what was evaluated, one call each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

# Any: a subclass may take what it likes in the place of each, as those of the original interface do.


class BaseExperimentTracker(ABC):
    """What every tracker of evaluations offers.

    Attributes:
        project_name: name of the project.
    """

    def __init__(self, project_name: str, **kwargs: Any) -> None:  # noqa: ARG002 - for subclasses
        self.project_name = project_name

    @abstractmethod
    def log(
        self,
        evaluation_result: Any,
        dataset_name: str,
        data: Any,
        run_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log one result.

        Args:
            evaluation_result: a mapping, dataclass, struct, pydantic model, object or number.
            dataset_name: what was evaluated on.
            data: what was evaluated, of the same kinds.
            run_id: of the run; None for one that the tracker chooses.
            metadata: what else is to be kept with this result.
        """

    @abstractmethod
    async def alog(
        self,
        evaluation_result: Any,
        dataset_name: str,
        data: Any,
        run_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log one result without holding up the event loop; see `log`."""

    @abstractmethod
    async def log_batch(
        self,
        evaluation_results: Sequence[Any],
        dataset_name: str,
        data: Sequence[Any],
        run_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log several results, each with its data; see `log`."""

    async def log_context(self, **kwargs: Any) -> None:  # noqa: B027 - not every tracker has a place for it
        """Log what surrounds the evaluation; here nothing is done with it."""

    def get_experiment_history(self, **kwargs: Any) -> list[dict[str, Any]]:
        """Return all runs.

        Raises:
            NotImplementedError: this tracker cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot list its runs")

    def get_run_results(self, run_id: str, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the results of one run.

        Raises:
            NotImplementedError: this tracker cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot return the results of {run_id!r}")
