"""Simulated runs of the validation, all through one resumable store, and finite-size effects.

Imports the simulators and the sweep, no theory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica import Status, TrainingRun, mean_field_training, simulate_training, sweep
from replica.plotting import save_figure
from replica.simulation import make_training_set

from ._claims import Point
from ._exact_ridge import ridge_control

__all__ = ["Fit", "Measurement", "Setup", "fit_limit", "mean_field", "standard_error", "train"]

OBSERVABLES = ("gen_error", "energy", "train_error", "gamma", "R", "L", "dead_fraction")


@dataclass(frozen=True)
class Setup:
    """How thorough a validation is, and where it keeps its results.

    `N` and `n_runs` are the size of the compared simulations and the runs there; `sizes` are the
    smaller ones, with N n_runs / size runs each, which give the finite-size effect c/N and, as N
    times the variance is the same at all sizes, most of the knowledge of the scatter.
    """

    output: Path
    N: int = 512
    n_runs: int = 6
    sizes: tuple[int, ...] = (64, 128)
    seed: int = 1
    option: str = "--quick"

    @classmethod
    def quick(cls, output: Path) -> Setup:
        """Minutes."""
        return cls(output)

    @classmethod
    def full(cls, output: Path) -> Setup:
        """The paper's size."""
        return cls(output, N=4096, n_runs=3, sizes=(256, 512, 1024), option="--full")

    def evidence(self, script: str) -> dict[str, Any]:
        """What all claims of one script share: command, seed and figure."""
        command = f"python -m validation {self.option} --only {script}"
        return {"command": command, "seed": self.seed, "figure": f"{script}.png"}

    def save(self, figure: Any, name: str) -> None:
        """Write the figure of one script as PNG and PDF."""
        for ending in ("png", "pdf"):
            save_figure(figure, self.output / f"{name}.{ending}", dpi=110)

    def run(
        self, function: Callable[..., Any], points: Sequence[Mapping[str, Any]], **fixed: Any
    ) -> list[dict[str, Any]]:
        """Results of `function` on all points, from the store where they are already there."""
        self.output.mkdir(parents=True, exist_ok=True)
        # The longest runs first, so that none of them is left alone at the end.
        order = sorted(range(len(points)), key=lambda i: -effort({**fixed, **points[i]}))
        table = sweep(
            function, [points[i] for i in order], fixed=fixed, store=self.output / "runs.sqlite"
        )
        results: list[dict[str, Any]] = [{} for _ in points]
        for row, i in enumerate(order):
            if table["status"][row] != "done":
                raise RuntimeError(f"run {points[i]} ended {table['status'][row]}")
            results[i] = {name: table[name][row] for name in table}
        return results

    def plan(self) -> list[tuple[int, int, int]]:
        """(size, number of runs, seed) of `measure`, the compared size N last."""
        sizes = (*self.sizes, self.N)
        # Counted from the end: N has the same samples whatever the smaller sizes are.
        return [
            (size, max(2, self.n_runs * self.N // size), self.seed + 1000 * k)
            for k, size in zip(range(len(sizes))[::-1], sizes, strict=True)
        ]

    def measure(
        self,
        points: Sequence[Mapping[str, Any]],
        observable: str = "gen_error",
        *,
        function: Callable[..., dict[str, Any]] | None = None,
    ) -> list[Measurement]:
        """Train at every point and all sizes; `function` is `train` or a variant of it."""
        plan = self.plan()
        sizes = tuple(size for size, _, _ in plan)
        grid = [
            {**point, "N": size, "n_runs": count, "seed": seed}
            for point in points
            for size, count, seed in plan
        ]
        results = self.run(function or train, grid)
        measured = []
        for i in range(len(points)):
            block = results[i * len(sizes) : (i + 1) * len(sizes)]
            values = tuple(np.asarray(r[f"{observable}_runs"], float) for r in block)
            measured.append(Measurement(sizes, np.asarray(block[-1]["epoch"]), values))
        return measured


@dataclass(frozen=True)
class Fit:
    """a + c/N fitted to means at several N, with standard errors."""

    limit: NDArray[np.float64]
    limit_error: NDArray[np.float64]
    slope: NDArray[np.float64]
    slope_error: NDArray[np.float64]


@dataclass(frozen=True)
class Measurement:
    """An observable along training, of every single run at every size; the last size is N.

    Attributes
    ----------
    sizes : tuple of int
    epoch : ndarray, shape (n_records,)
    values : tuple of ndarray
        For each size, shape (n_records, n_runs).
    """

    sizes: tuple[int, ...]
    epoch: NDArray[np.int64]
    values: tuple[NDArray[np.float64], ...]

    @property
    def N(self) -> int:
        """The size compared with the theory."""
        return self.sizes[-1]

    @property
    def n_runs(self) -> int:
        """One more than the degrees of freedom behind `error`."""
        return 1 + sum(v.shape[1] - 1 for v in self.values)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the runs at size N, shape (n_records,)."""
        return self.values[-1].mean(axis=1)

    @cached_property
    def error(self) -> NDArray[np.float64]:
        """Its standard error, from N times the variance pooled over all sizes."""
        squares = sum(
            size * (v.shape[1] - 1) * v.var(axis=1, ddof=1)
            for size, v in zip(self.sizes, self.values, strict=True)
        )
        return np.sqrt(squares / (self.n_runs - 1) / (self.N * self.values[-1].shape[1]))

    @cached_property
    def fit(self) -> Fit:
        """a + c/N fitted to the smaller sizes alone."""
        small = self.values[:-1]
        means = np.array([v.mean(axis=1) for v in small])
        return fit_limit(
            np.array(self.sizes[:-1]), means, np.array(list(map(standard_error, small)))
        )

    def minus(self, other: Measurement) -> Measurement:
        """The difference to `other` after training, run by run: both saw the same samples."""
        pairs = zip(self.values, other.values, strict=True)
        return replace(self, values=tuple(a - b[-1] for a, b in pairs))

    def beside(self, where: str, other: Measurement) -> Point:
        """The comparison after training with `other`, run by run on the same samples."""
        difference = self.minus(other).point(where, 0.0)
        end = float(other.mean[-1])
        return replace(difference, theory=end, simulation=end + difference.simulation)

    def point(
        self,
        where: str,
        theory: float,
        *,
        record: int = -1,
        theory_error: float = 0.0,
    ) -> Point:
        """The comparison with `theory` at one record (by default after training)."""
        return Point(
            where,
            float(theory),
            float(self.mean[record]),
            float(self.error[record]),
            self.n_runs,
            allowance=float(self.fit.slope[record]) / self.N,
            allowance_error=float(self.fit.slope_error[record]) / self.N,
            theory_error=theory_error,
        )


def standard_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean over the last axis, the runs."""
    return values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])


def effort(options: Mapping[str, Any]) -> float:
    """Size of a simulation in arbitrary units: it sets the order of the runs only."""
    runs, epochs = options.get("n_runs", 1), options.get("epochs", 1)
    return options.get("N", 1) ** 2 * options.get("alpha", 1.0) * runs * epochs


def fit_limit(sizes: NDArray[Any], means: NDArray[np.float64], errors: NDArray[np.float64]) -> Fit:
    """Weighted least squares of a + c/size down the first axis.

    No theory enters, so that the effect c/N cannot hide a theory that is wrong.

    Examples
    --------
    >>> fit = fit_limit(np.array([10, 20, 40]), 2 + 3 / np.array([10, 20, 40]), np.full(3, 0.1))
    >>> print(f"{fit.limit:.6f} {fit.slope:.6f}")
    2.000000 3.000000
    """
    x = 1.0 / np.reshape(sizes, (-1,) + (1,) * (means.ndim - 1))
    weight = 1.0 / np.maximum(errors, 1e-12) ** 2
    s0, s1, s2 = (np.sum(weight * x**k, axis=0) for k in range(3))
    t0, t1 = (np.sum(weight * x**k * means, axis=0) for k in range(2))
    determinant = s0 * s2 - s1**2
    return Fit(
        (s2 * t0 - s1 * t1) / determinant,
        np.sqrt(s2 / determinant),
        (s0 * t1 - s1 * t0) / determinant,
        np.sqrt(s0 / determinant),
    )


def train(**options: Any) -> dict[str, Any]:
    """One call of `simulate_training`: its observables, of every run at every record.

    `batch_size` may be negative: -16 means N/16, which keeps the stability of mini-batch descent
    the same at all N; 0 means the whole training set. `controls` names one zeta for each record
    after the first: "controlled_error" is "gen_error" minus the `ridge_control` of that zeta. Its
    mean is the same, its scatter smaller by as much as ridge regression resembles the student.
    """
    controls = options.pop("controls", None)
    N, size = options["N"], options["batch_size"]
    P = round(options["alpha"] * N)
    options["batch_size"] = P if size == 0 else min(P, max(1, N // -size) if size < 0 else size)
    run = simulate_training(**options, n_threads=1, progress=False)
    record: dict[str, Any] = {"epoch": run.epoch}
    for name in OBSERVABLES:
        record[f"{name}_runs"] = getattr(run, name)
    if controls is not None:
        values = run.gen_error - np.array([np.zeros(run.n_runs), *_controls(run, controls)])
        record["controlled_error_runs"] = values
    diverged = np.any(run.status == Status.DIVERGENT)
    return record | {"status": "divergent" if diverged else "done"}


def _controls(run: TrainingRun, zetas: Sequence[float]) -> list[list[float]]:
    """`ridge_control` for each zeta and run, on the samples the run was trained on."""
    P = round(run.alpha * run.N)
    columns = []
    for seed in run.data_seeds:
        data = make_training_set(P, run.N, run.S, seed)
        noise = data.y - data.X.sum(axis=1)
        columns.append([ridge_control(data.X, noise, run.S, zeta) for zeta in zetas])
    return [list(row) for row in zip(*columns, strict=True)]


def mean_field(**options: Any) -> dict[str, Any]:
    """One call of `mean_field_training`: the error along training, with its standard error."""
    run = mean_field_training(**options, n_threads=1, progress=False)
    return {
        "epoch": run.epoch,
        "gen_error": run.mean("gen_error"),
        "gen_error_se": run.standard_error("gen_error"),
    }
