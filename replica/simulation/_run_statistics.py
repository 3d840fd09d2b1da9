"""Statistics over the independent runs of a simulation, the same for every engine."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from replica._core.arguments import choice

__all__ = ["RunStatistics"]


class RunStatistics:
    """Means, standard errors and a plot of observables, arrays of shape (n_records, n_runs)."""

    _observables: ClassVar[tuple[str, ...]]
    status: NDArray[np.str_]

    def _abscissa(self) -> tuple[NDArray[Any], str]:
        """The records' times and the label of that axis."""
        raise NotImplementedError

    def _legend(self) -> str:
        """The name of these runs in a legend."""
        raise NotImplementedError

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return self.status.size

    def mean(self, observable: str) -> NDArray[np.float64]:
        """Mean of `observable` over the runs that did not diverge, shape (n_records,)."""
        kept = self._kept(observable)
        return kept.mean(axis=1) if kept.shape[1] else np.full(len(kept), np.nan)

    def standard_error(self, observable: str) -> NDArray[np.float64]:
        """Standard error of that mean; NaN with fewer than two runs."""
        kept = self._kept(observable)
        if kept.shape[1] < 2:
            return np.full(len(kept), np.nan)
        return kept.std(axis=1, ddof=1) / math.sqrt(kept.shape[1])

    def final(self) -> dict[str, Any]:
        """One flat record of the last state: means and standard errors, for tables and sweeps."""
        record: dict[str, Any] = {}
        for name in self._observables:
            record[name] = float(self.mean(name)[-1])
            record[f"{name}_se"] = float(self.standard_error(name)[-1])
        record["n_diverged"] = int(np.sum(self.status == "diverged"))
        record["status"] = "diverged" if record["n_diverged"] == self.n_runs else "done"
        return record

    def _draw(self, observable: str, ax: Any) -> Any:
        mean, error = self.mean(observable), self.standard_error(observable)
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure().add_subplot()
        x, label = self._abscissa()
        (line,) = ax.plot(x, mean, label=self._legend())
        if np.isfinite(error).all():
            ax.fill_between(x, mean - error, mean + error, color=line.get_color(), alpha=0.25, lw=0)
        ax.set_xlabel(label)
        ax.set_ylabel(observable.replace("_", " "))
        return ax

    def _kept(self, observable: str) -> NDArray[np.float64]:
        choice("observable", observable, self._observables)
        return getattr(self, observable)[:, self.status != "diverged"]
