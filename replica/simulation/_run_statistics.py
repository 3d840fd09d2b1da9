"""Statistics over the independent runs of a simulation, the same for every engine."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from replica._core.arguments import choice
from replica._core.results import Result
from replica._core.status import Status, warn

__all__ = ["RunStatistics", "warn_of_failures"]

# What a run ends with whose records all hold.
_ENDS = (Status.CONVERGED, Status.DONE)


class RunStatistics(Result):
    """Means and standard errors of observables, arrays of shape (n_records, n_runs)."""

    _observables: ClassVar[tuple[str, ...]]
    #: Of these, the ones that only some labels have.
    _nan_where_meaningless: ClassVar[tuple[str, ...]] = ("error_rate", "train_error_rate")

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return self.status.size

    def mean(self, observable: str) -> NDArray[np.float64]:
        """Mean of `observable` over the runs that came to an end, shape (n_records,)."""
        kept = self._kept(observable)
        return kept.mean(axis=1) if kept.shape[1] else np.full(len(kept), np.nan)

    def standard_error(self, observable: str) -> NDArray[np.float64]:
        """Standard error of that mean; NaN with fewer than two runs."""
        kept = self._kept(observable)
        if kept.shape[1] < 2:
            return np.full(len(kept), np.nan)
        return kept.std(axis=1, ddof=1) / math.sqrt(kept.shape[1])

    def final(self) -> dict[str, float | str]:
        """One flat record of the last state: means and standard errors, for tables and sweeps.

        Its ``"status"`` is "done" if any run came to an end and else that of the first;
        ``"n_divergent"`` counts the divergent ones.
        """
        record: dict[str, float | str] = {}
        for name in self._observables:
            record[name] = float(self.mean(name)[-1])
            record[f"{name}_se"] = float(self.standard_error(name)[-1])
        record["n_divergent"] = int(np.sum(self.status == Status.DIVERGENT))
        ended = bool(np.isin(self.status, _ENDS).any())
        end = Status.DONE if ended else Status(int(self.status[0]))
        record["status"] = end.name.lower()
        return record

    def __repr__(self) -> str:
        ends = []
        for name in self._observables:
            value, error = self.mean(name)[-1], self.standard_error(name)[-1]
            if name in self._nan_where_meaningless and value != value:
                continue
            ends.append(f"  {name} = {value:.6g}" + (f" +- {error:.2g}" if error == error else ""))
        return "\n".join([super().__repr__(), "at the end, averaged over the runs", *ends])

    def _kept(self, observable: str) -> NDArray[np.float64]:
        choice("observable", observable, self._observables)
        return getattr(self, observable)[:, np.isin(self.status, _ENDS)]


def warn_of_failures(status: NDArray[np.int8]) -> None:
    """One `ConvergenceWarning` for all runs without an end, at the line that called the package."""
    told = []
    if diverged := int(np.sum(status == Status.DIVERGENT)):
        told.append(f"{diverged} of {status.size} runs diverged; their records from there on")
    if stuck := int(np.sum(~np.isin(status, (*_ENDS, Status.DIVERGENT)))):
        told.append(f"{stuck} of {status.size} runs found no minimum; their last records")
    if told:
        warn(" and ".join(told) + " are NaN")
