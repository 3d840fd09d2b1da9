"""The learning curve of ridge regression on your own data: theory, and fits that check it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arguments import ArgumentError, ArgumentTypeError, choice, integer, real_array
from ._core.results import Result, over
from ._core.status import Status
from ._core.style import (
    LABELS,
    MARK_HEIGHT,
    check_line,
    draw_curve,
    finish_axes,
    line_style,
    new_axes,
)
from ._sample_spectrum import (
    Samples,
    SampleSpectrum,
    Scales,
    as_samples,
    blind_scores,
    center,
    cutoff,
    dense,
    products,
    sample_spectrum,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LearningCurve", "predict_learning_curve"]

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating] | NDArray[np.integer]

_SIZES = 40  # of the default grid; every third is checked
_HELD_OUT = 0.2  # of the rows, on which the fits are judged
_BEYOND = 10  # times the samples there are: how far the default grid goes
_FLAT = 1.1  # times the asymptote: there the curve is called flat
_MOST_CHUNKS = 4  # disjoint subsets of one size in one split
_SMALL = 2**20  # numbers in so few rows that subsets are fitted each on its own
_GRID = 400  # decays among which the best is looked for before it is refined
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_FEW = 20  # degrees of freedom: a variance that rests on fewer is known to a third at best
_FARTHEST = 1e12  # samples: where a curve that is not flat yet is said never to be
_REFINEMENTS = 30  # of the bracket, by the golden ratio: to 1e-6 of a step of the grid


@dataclass(frozen=True, repr=False)
class LearningCurve(Result):
    """Learning curve of ridge regression on given samples; see `predict_learning_curve`.

    The axes of all arrays are the decays, the best first and then those that were asked for, and
    the numbers of samples.

    Attributes
    ----------
    n : ndarray of int64, shape (sizes,)
        Number of training samples.
    decay : ndarray of str, shape (decays,)
        "best", then the decays that were asked for.
    zeta : ndarray, shape (decays, sizes)
        Strength of the decay; inf where the best student is constant.
    test_error : ndarray, shape (decays, sizes)
        Mean squared error on fresh samples, their noise included; NaN where the samples do not
        tell. Labels are -1 and 1.
    error_rate : ndarray, shape (decays, sizes)
        Fraction of fresh labels that the sign of the student misses; NaN if `y` are numbers.
    measured_error, measured_error_se, measured_rate, measured_rate_se : ndarray
        The same from ridge fits of subsets of the samples on held-out rows, mean and standard
        error; NaN where nothing was measured. Shape (decays, sizes).
    deviation : ndarray, shape (decays, sizes)
        measured_error/test_error - 1.
    status : ndarray of int8, shape (decays, sizes)
        CONVERGED, or DIVERGENT where the predicted error is infinite.
    noise, noise_se : float
        The asymptote: variance of what no linear function of the columns explains, and its standard
        error; NaN if there are no more samples than dimensions.
    n_flat : float
        Number of samples from which the error at the best decay is within 10 % of `noise`; NaN
        if that is not known.
    n_samples, n_columns, rank : int
        Rows; columns that vary; directions in which the rows vary.
    classes : tuple of str
        What the labels -1 and 1 stand for; empty for numbers.
    notes : tuple of str
        What was done to the data, and what cannot be said.
    loss : str
        "square".
    seed : int
        Seed of the subsets.
    """

    noise: float
    noise_se: float
    n_flat: float
    n_samples: int
    n_columns: int
    rank: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    loss: str
    seed: int
    n: NDArray[np.int64] = over("n")
    decay: NDArray[np.str_] = over("decay")
    zeta: Floats = over("decay", "n")
    test_error: Floats = over("decay", "n")
    error_rate: Floats = over("decay", "n")
    measured_error: Floats = over("decay", "n")
    measured_error_se: Floats = over("decay", "n")
    measured_rate: Floats = over("decay", "n")
    measured_rate_se: Floats = over("decay", "n")
    deviation: Floats = over("decay", "n")
    status: NDArray[np.int8] = over("decay", "n")

    _problem = ("n", "decay", "loss")
    _shown_first = "test_error"

    def report(self) -> str:
        """Return the prediction in words, with a table of the sizes that were checked.

        Returns
        -------
        str
            Lines for people; `to_pandas` has all numbers.
        """
        lines = [
            f"{self.n_samples} samples, {self.n_columns} columns that vary, rank {self.rank}",
            *self.notes,
        ]
        if self.classes:
            lines.append(f"labels: -1 is {self.classes[0]!r}, 1 is {self.classes[1]!r}")
        if math.isfinite(self.noise):
            lines.append(f"the error flattens at {self.noise:.4g} +- {self.noise_se:.2g}")
            if math.isfinite(self.n_flat):
                lines.append(f"within 10 % of that from {self.n_flat:.0f} samples on")
        checked = np.isfinite(self.measured_error)
        if checked.any():
            head = "decay", "n", "zeta", "predicted", "measured", "+-", "deviation"
            rows: list[tuple[str, ...]] = [head]
            for i, k in np.argwhere(checked):
                rows.append(
                    (
                        str(self.decay[i]),
                        str(self.n[k]),
                        f"{self.zeta[i, k]:.3g}",
                        f"{self.test_error[i, k]:.4g}",
                        f"{self.measured_error[i, k]:.4g}",
                        f"{self.measured_error_se[i, k]:.2g}",
                        _percent(float(self.deviation[i, k])),
                    )
                )
            if self.classes:
                extra = [("rate", "measured", "+-")]
                extra += [
                    (
                        f"{self.error_rate[i, k]:.4f}",
                        f"{self.measured_rate[i, k]:.4f}",
                        f"{self.measured_rate_se[i, k]:.4f}",
                    )
                    for i, k in np.argwhere(checked)
                ]
                rows = [row + more for row, more in zip(rows, extra, strict=True)]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            lines.append("")
            for row in rows:
                cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
                lines.append("  ".join(cells))
        return "\n".join(lines)

    def plot(self, quantity: str | None = None, *, ax: Axes | None = None, **line: Any) -> Axes:
        """Draw the curves, and the fits that check them as points with error bars.

        Parameters
        ----------
        quantity : {"test_error", "error_rate", "zeta", "deviation"}
            "test_error" by default.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default on a new figure.
        **line
            Properties of the lines in place of the house style.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ArgumentError
            If there is no such quantity.
        """
        line = check_line("plot", line, ("quantity", "ax"))
        drawable = ("test_error", "error_rate", "zeta", "deviation")
        quantity = choice("quantity", quantity or "test_error", drawable)
        if quantity == "error_rate" and not self.classes:
            raise ArgumentError("quantity 'error_rate' needs labels, but y are numbers here")
        if ax is None:
            _, ax = new_axes()
        assert ax is not None
        measured, error = {
            "test_error": (self.measured_error, self.measured_error_se),
            "error_rate": (self.measured_rate, self.measured_rate_se),
        }.get(quantity, (None, None))
        values = getattr(self, quantity)
        ax.set_xscale("log")
        for i, name in enumerate(self.decay):
            label = "best decay" if name == "best" else f"ζ = {name}"
            style = {"marker": "", "label": label, **line}
            shown = ~np.isnan(values[i])
            draw_curve(ax, self.n[shown].astype(float), values[i][shown], index=i, **style)
        if measured is not None and error is not None:
            _draw_measured(ax, self.n, measured, error, line)
        if quantity == "test_error" and math.isfinite(self.noise):
            ax.axhline(self.noise, color="0.5", linewidth=0.9, linestyle=":")
        if self.n.min() < self.n_samples < self.n.max():
            ax.axvspan(self.n_samples, self.n.max(), color="0.93", zorder=0)
        labels = {
            "test_error": "test error  E$(y - u)^2$",
            "error_rate": "error rate",
            "zeta": LABELS["zeta"],
            "deviation": "measured/predicted − 1",
        }
        if quantity == "zeta" and (np.isfinite(values) & (values > 0.0)).any():
            ax.set_yscale("log")
        return finish_axes(ax, xlabel="number of samples  $n$", ylabel=labels[quantity])

    def _curve_name(self) -> str:
        return "ridge regression"


def _percent(deviation: float) -> str:
    """A deviation for people: in per cent, or as a factor; nothing where there is none."""
    if math.isnan(deviation):
        return "-"
    return f"{100.0 * deviation:+.1f} %" if deviation < 9.0 else f"x {1.0 + deviation:.3g}"


def _draw_measured(
    ax: Axes, n: NDArray[np.int64], measured: Floats, error: Floats, line: dict[str, Any]
) -> None:
    """Points with error bars; a triangle at the upper edge is a point above it."""
    low, top = ax.get_ylim()
    highest = np.nanmax(measured, initial=low)
    if ax.get_autoscaley_on():  # else the user has chosen the limits
        top = max(top, min(highest * 1.05, low + 1.3 * (top - low)))
    label = "ridge fits of the data"
    for i in range(len(measured)):
        style = line_style(i, **line)
        inside = measured[i] <= top
        above = measured[i] > top
        point = {"linestyle": "none", "color": style["color"], "markerfacecolor": "white"}
        if inside.any():
            ax.errorbar(
                n[inside],
                measured[i][inside],
                error[i][inside],
                **point,
                marker=style["marker"],
                markersize=4.5,
                elinewidth=1.0,
                label=label if i == 0 else None,
            )
        if above.any():
            edge = np.full(int(above.sum()), MARK_HEIGHT)
            place = ax.get_xaxis_transform()
            ax.plot(n[above], edge, **point, marker="^", markersize=5.0, transform=place)
    ax.set_ylim(low, top, auto=ax.get_autoscaley_on())


def predict_learning_curve(
    X: Any,
    y: Any,
    *,
    n: ArrayLike | None = None,
    zeta: ArrayLike | None = None,
    loss: Literal["square"] = "square",
    standardize: bool = False,
    n_splits: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> LearningCurve:
    """Predict the test error of ridge regression on your data, for any number of samples.

    The theory takes the data for Gaussian ones with the same covariance. How far that holds for
    yours is measured: ridge fits of random subsets of the samples are judged on held-out rows.

    Parameters
    ----------
    X : array_like, pandas.DataFrame or sparse matrix, shape (n_samples, n_columns)
        Numbers; columns that do not vary are left out, with a note.
    y : array_like, shape (n_samples,)
        Numbers, or two labels of any kind, which become -1 and 1 in the order of sorting.
    n : array_like of int, optional
        Numbers of training samples, >= 2; by default from a few to ten times the samples there
        are. With no more samples than dimensions, `n` goes up to ``n_samples``.
    zeta : array_like, optional
        Decays for curves beside that of the best decay, >= 0.
    loss : {"square"}
        The square loss.
    standardize : bool
        Whether the columns are divided by their standard deviations.
    n_splits : int
        Splits into training and held-out rows for the check; 0 leaves it out.
    seed : int
        Seed of the subsets.
    progress : bool
        Whether a terminal shows a progress bar.

    Returns
    -------
    LearningCurve
        With the predicted and measured errors, the best decay and the asymptote.

    Raises
    ------
    TypeError, ValueError
        If the data are not numbers, have missing values, differ in length, or all columns are
        constant; if `n` or `zeta` are out of range.

    Notes
    -----
    The student minimizes 1/2 sum_j (y_j - b - w.x_j)^2 + zeta/2 |w|^2 over w and b, on the
    columns as they are. That is the sum convention without a factor 1/sqrt(N), as scikit-learn's
    ``Ridge(alpha=zeta)``; for N inputs of unit variance it is N times the zeta of
    `solve_equilibrium`. With modes of variance s and power p of the teacher's field, and n - 1 for
    n since the mean is fitted too, n - zeta/kappa = sum s/(s + kappa), and the error is
    (sum p kappa^2/(s + kappa)^2 + S)/(1 - sum s^2/(s + kappa)^2/n), times 1 + 1/n. The sums
    are estimated from ridge fits of all samples, whose degrees of freedom and residuals give
    them without the bias that the eigenvalues of a sample covariance and a fitted teacher have. For
    the error rate the outputs at that kappa are those of a fit of all other samples, one for each
    sample. What fewer training samples add to their scatter is taken for Gaussian; more of them
    than there are draw the outputs of each class together.
    Exact for Gaussian data and many dimensions; heavy tails spoil it at small decay near as many
    samples as dimensions.

    Theory: :eq:`eq-spectrum-ridge` in :doc:`/predict`.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> X = rng.standard_normal((400, 20))
    >>> y = X @ np.ones(20) + rng.standard_normal(400)
    >>> curve = predict_learning_curve(X, y, n=[25, 100, 400], zeta=0.0, progress=False)
    >>> curve.test_error.round(1)
    array([[3.4, 1.1, 0.9],
           [5.4, 1.1, 0.9]])
    >>> curve.measured_error.shape
    (2, 3)
    """
    choice("loss", loss, ("square",))
    integer("n_splits", n_splits, low=0)
    integer("seed", seed, low=0)
    decays = np.zeros(0) if zeta is None else _column("zeta", zeta)
    samples = as_samples(X, y, standardize=standardize)
    rows = samples.shape[0]
    asked = None if n is None else _sizes(n)
    with _Bar(rows * (1 + n_splits), progress) as tick:
        spectrum = sample_spectrum(samples, tick)
        sizes, checked = _grid(asked, spectrum, rows, bool((decays == 0.0).any()))
        if not spectrum.full and sizes.max() > rows:
            raise ArgumentError(
                f"n must be at most {rows}, the number of samples, where these are no more than "
                f"the dimensions ({spectrum.n_columns}): what noise there is below cannot be told "
                f"from them; got {sizes.max()}"
            )
        curves = [_best(spectrum, sizes)]
        curves += [_at(spectrum, sizes, np.full(sizes.size, value)) for value in decays]
        found = [np.stack(columns) for columns in zip(*curves, strict=True)]
        strengths, own_decays, test_error = found
        labels = bool(samples.classes)
        rate = np.full(test_error.shape, np.nan)
        if labels:
            rate = _rates(samples, spectrum, own_decays, test_error)
        measured = np.full((4, *test_error.shape), np.nan)
        if n_splits:
            checked &= sizes <= _pool(rows)
            measured[:, :, checked] = _fits(
                samples, sizes[checked], strengths[:, checked], n_splits, seed, tick
            )
    if not labels:
        measured[2:] = np.nan
    infinite = np.isposinf(test_error)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.where(infinite, np.nan, measured[0] / test_error - 1.0)
    return LearningCurve(
        n=sizes,
        decay=np.array(["best", *(f"{value:.12g}" for value in decays)]),
        zeta=strengths,
        test_error=test_error,
        error_rate=rate,
        measured_error=measured[0],
        measured_error_se=measured[1],
        measured_rate=measured[2],
        measured_rate_se=measured[3],
        deviation=deviation,
        status=np.where(infinite, Status.DIVERGENT, Status.CONVERGED).astype(np.int8),
        noise=spectrum.noise,
        noise_se=_noise_error(spectrum),
        n_flat=_flat(spectrum),
        n_samples=rows,
        n_columns=spectrum.n_columns,
        rank=spectrum.rank,
        classes=samples.classes,
        notes=_notes(samples, spectrum),
        loss=loss,
        seed=seed,
    )


# --- arguments --------------------------------------------------------------------------------


def _column(name: str, value: ArrayLike) -> Floats:
    array = np.atleast_1d(real_array(name, value, low=0.0, high=1e100))
    if array.ndim != 1:
        raise ArgumentError(f"{name} must be a number or one-dimensional, got shape {array.shape}")
    return array


def _sizes(n: ArrayLike) -> NDArray[np.int64]:
    array = np.atleast_1d(real_array("n", n, low=2.0, high=1e15))
    if array.ndim != 1 or array.size == 0:
        raise ArgumentError(f"n must be numbers in one dimension, got shape {array.shape}")
    if (array != np.round(array)).any():
        raise ArgumentTypeError("n must be whole numbers of samples")
    return np.unique(array.astype(np.int64))


def _grid(
    asked: NDArray[np.int64] | None, spectrum: SampleSpectrum, rows: int, peak: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Numbers of samples, and which of them are to be checked."""
    if asked is not None:
        return asked, np.ones(asked.size, dtype=bool)
    first = max(4, min(spectrum.rank // 40, rows // 8))
    last = _BEYOND * rows if spectrum.full else rows
    sizes = np.geomspace(first, last, _SIZES).round().astype(np.int64)
    few = sizes[::3]
    if peak:  # without decay there is one, where the samples are as many as the directions
        around = (spectrum.rank * np.array([0.8, 0.9, 1.1, 1.25])).round().astype(np.int64)
        around = around[(around >= first) & (around <= last)]
        few = np.concatenate([few, around])
        sizes = np.concatenate([sizes, around, [spectrum.rank + 1]])
        sizes = sizes[sizes <= last]
    largest = _pool(rows)
    few = np.append(few[few < 0.9 * largest], largest)
    sizes = np.unique(np.append(sizes, largest))
    return sizes, np.isin(sizes, few)


def _pool(rows: int) -> int:
    """The rows that are not held out."""
    return rows - max(round(_HELD_OUT * rows), 1)


def _notes(samples: Samples, spectrum: SampleSpectrum) -> tuple[str, ...]:
    notes = []
    if samples.constant:
        some = ", ".join(samples.constant[:5]) + (", ..." if len(samples.constant) > 5 else "")
        notes.append(f"left out since they do not vary: {len(samples.constant)} columns ({some})")
    if not spectrum.full:
        notes.append(
            f"no more samples ({spectrum.distinct} that differ) than dimensions "
            f"({spectrum.n_columns}): "
            "what comes with more samples, and where the curve flattens, cannot be told"
        )
    elif spectrum.rank < spectrum.n_columns:
        notes.append(
            f"columns that follow from others: {spectrum.n_columns - spectrum.rank} of "
            f"{spectrum.n_columns}"
        )
    if spectrum.full and spectrum.N - spectrum.rank < _FEW:
        notes.append(
            f"only {spectrum.N - spectrum.rank:.0f} samples more than directions: the asymptote is "
            "uncertain, and so is all that lies beyond these samples"
        )
    return tuple(notes)


class _Bar:
    """A progress bar of rows, on terminals only."""

    def __init__(self, total: int, progress: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=total, unit="row", unit_scale=True, disable=None if progress else True, delay=1.0
        )

    def __enter__(self) -> Any:
        return self._bar.update

    def __exit__(self, *_: object) -> None:
        self._bar.close()


# --- theory -----------------------------------------------------------------------------------


def _error(spectrum: SampleSpectrum, n: Numbers, decay: Floats) -> Floats:
    """Test error of n samples at the scale where all samples have `decay`."""
    at = spectrum.at(decay)
    own = n - 1.0
    stable = (own - at.df1) + at.between
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(stable > _ROUNDED * own, at.G * own / stable, np.inf)
    return np.asarray(error * (1.0 + 1.0 / n), dtype=np.float64)


_ROUNDED = 1e-13  # of n: less is no distance from the number of directions


def _at(spectrum: SampleSpectrum, n: NDArray[np.int64], zeta: Floats) -> tuple[Any, ...]:
    decay = spectrum.decay(n - 1.0, zeta)
    return zeta, decay, _error(spectrum, n, decay)


def _decays(spectrum: SampleSpectrum) -> Floats:
    """Decays of all samples among which the best is looked for, from none to one that rules."""
    largest, smallest = spectrum.values.max(), spectrum.values.min()
    none = 0.0 if spectrum.full else 1e-6 * smallest
    return np.append(none, np.geomspace(1e-3 * smallest, 1e4 * largest, _GRID))


def _error_on(at: Scales, own: Any) -> Floats:
    """Error of n = `own` + 1 samples, but for 1 + 1/n; inf at scales that need a decay < 0."""
    stable = (own - at.df1) + at.between
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((own >= at.df1) & (stable > 0.0), at.G * own / stable, np.inf)


def _best(spectrum: SampleSpectrum, n: NDArray[np.int64]) -> tuple[Any, ...]:
    """Decay of least error for each n, the decay of all samples at its scale, and that error."""
    own = n - 1.0
    least = spectrum.decay(own, np.zeros(n.size))  # at zeta = 0
    grid = _decays(spectrum)
    error = _error_on(spectrum.at(grid), own[:, None])
    place = error.argmin(axis=1)
    none = place == grid.size - 1  # no signal: the best student is constant
    low = np.maximum(grid[np.maximum(place - 1, 0)], least)
    high = np.maximum(grid[np.minimum(place + 1, grid.size - 1)], least)
    scale = np.maximum(high - low, 0.0)
    left, right = low, low + scale
    for _ in range(_REFINEMENTS):
        width = right - left
        a, b = right - _GOLDEN * width, left + _GOLDEN * width
        less = _error(spectrum, n, a) <= _error(spectrum, n, b)
        left, right = np.where(less, left, a), np.where(less, b, right)
    decay = 0.5 * (left + right)
    error, edge = _error(spectrum, n, decay), _error(spectrum, n, least)
    bare = edge <= error  # no decay at all is best
    decay = np.where(bare, least, decay)
    at = spectrum.at(decay)
    zeta = np.where(bare, 0.0, np.maximum(at.kappa * (own - at.df1), 0.0))
    return np.where(none, np.inf, zeta), decay, np.where(bare, edge, error)


def _rates(samples: Samples, spectrum: SampleSpectrum, decay: Floats, error: Floats) -> Floats:
    """Fraction of wrong signs: scores of all samples, and the scatter of fewer or more samples."""
    from scipy.special import ndtr

    flat, error = decay.reshape(-1), error.reshape(-1)
    own = _error(spectrum, np.array([samples.shape[0]]), flat)
    spread = np.sqrt(np.maximum(error - own, 0.0))
    # without scatter the sign decides, with infinite scatter a coin
    spread = np.maximum(spread, 1e-300)
    # mean scores of the classes, and of the scatter about them what more samples leave
    mean = float(samples.y.mean())
    missing = spectrum.at(flat).unlearned / spectrum.variance
    between = missing**2 * spectrum.variance
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt((error - between) / (own - between))
    left = np.where(left < 1.0, left, 1.0)  # also NaN, where nothing is left
    missed = np.zeros(flat.size)
    for part, scores in blind_scores(samples, spectrum, flat):
        y = samples.y[part, None]
        middle = mean + (y - mean) * (1.0 - missing)
        missed += ndtr(-y * (middle + left * (scores - middle)) / spread).sum(axis=0)
    return (missed / samples.shape[0]).reshape(decay.shape)


def _noise_error(spectrum: SampleSpectrum) -> float:
    return (
        spectrum.noise * math.sqrt(2.0 / (spectrum.N - spectrum.rank))
        if spectrum.full
        else math.nan
    )


def _flat(spectrum: SampleSpectrum) -> float:
    """Number of samples from which the best error is within 10 % of the asymptote."""
    if not spectrum.full or spectrum.noise <= 0.0:
        return math.nan
    at = spectrum.at(_decays(spectrum))

    def flat(log_n: float) -> bool:
        n = math.exp(log_n)
        return _error_on(at, n - 1.0).min() * (1.0 + 1.0 / n) <= _FLAT * spectrum.noise

    low, high = math.log(2.0), math.log(_FARTHEST)
    if not flat(high):
        return math.inf
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if flat(middle) else (middle, high)
    return float(math.ceil(math.exp(high)))


# --- ridge fits -------------------------------------------------------------------------------


def _fits(
    samples: Samples,
    sizes: NDArray[np.int64],
    zeta: Floats,
    n_splits: int,
    seed: int,
    tick: Any,
) -> Floats:
    """Mean and standard error of error and error rate, shape (4, decays, sizes)."""
    rows = samples.shape[0]
    found = np.empty((n_splits, 2, *zeta.shape))
    for split, child in enumerate(np.random.SeedSequence(seed).spawn(n_splits)):
        order = np.random.default_rng(child).permutation(rows)
        pool, held = order[: _pool(rows)], np.sort(order[_pool(rows) :])
        found[split] = _fit_split(samples, pool, held, sizes, zeta, tick)
    mean = found.mean(axis=0)
    error = np.full(mean.shape, np.nan)
    if n_splits > 1:
        error = found.std(axis=0, ddof=1) / math.sqrt(n_splits)
    return np.stack([mean[0], error[0], mean[1], error[1]])


def _fit_split(
    samples: Samples,
    pool: NDArray[np.intp],
    held: NDArray[np.intp],
    sizes: NDArray[np.int64],
    zeta: Floats,
    tick: Any,
) -> Floats:
    """Error and error rate on the held-out rows, shape (2, decays, sizes)."""
    columns = samples.shape[1]
    weights: list[Floats] = []
    owners: list[tuple[int, int]] = []
    offsets: list[float] = []
    apart = (sizes <= columns) | (sizes * columns <= _SMALL)
    for k in np.flatnonzero(apart):
        size = int(sizes[k])
        for start in range(0, min(pool.size // size, _MOST_CHUNKS) * size, size):
            which = pool[start : start + size]
            for i, (w, b) in enumerate(_fit_rows(samples, which, zeta[:, k])):
                weights.append(w)
                offsets.append(b)
                owners.append((i, int(k)))
    gram, cross = np.zeros((0 if apart.all() else columns,) * 2), np.zeros(columns)
    total, total_y, done = np.zeros(columns), 0.0, 0
    step = samples.block_rows
    for k in np.flatnonzero(~apart):  # each takes the products of the one before
        size = int(sizes[k])
        for start in range(done, size, step):
            which = pool[start : min(start + step, size)]
            block, y = samples.rows(which), samples.y[which]
            gram += dense(block.T @ block)
            cross += block.T @ y
            tick(which.size)
            total += np.asarray(block.sum(axis=0)).reshape(-1)
            total_y += float(y.sum())
        done = size
        mean, mean_y = total / size, total_y / size
        inner = gram - size * np.outer(mean, mean)
        for i, w in enumerate(_solve(inner, cross - size * mean_y * mean, zeta[:, k], size)):
            weights.append(w)
            offsets.append(mean_y - float(mean @ w))
            owners.append((i, int(k)))
    W, b = np.stack(weights, axis=1), np.array(offsets)
    square, missed = np.zeros(b.size), np.zeros(b.size)
    for start in range(0, held.size, step):
        which = held[start : start + step]
        u = samples.rows(which) @ W + b
        y = samples.y[which, None]
        square += np.square(y - u).sum(axis=0)
        missed += (np.where(u >= 0.0, 1.0, -1.0) != y).sum(axis=0)
    tick(pool.size + held.size - done)
    sums, counts = np.zeros((2, *zeta.shape)), np.zeros(zeta.shape)
    for j, place in enumerate(owners):
        sums[(slice(None), *place)] += [square[j], missed[j]]
        counts[place] += 1.0
    return sums / counts / held.size


def _fit_rows(
    samples: Samples, which: NDArray[np.intp], zeta: Floats
) -> Sequence[tuple[Floats, float]]:
    """Weights and offset of the fits of some rows, by products of rows or of columns."""
    y = samples.y[which]
    mean_y = float(y.mean())
    size, columns = which.size, samples.shape[1]
    if size > columns:
        block = samples.rows(which)
        mean = np.asarray(block.mean(axis=0)).reshape(-1)
        gram = dense(block.T @ block) - size * np.outer(mean, mean)
        fits = _solve(gram, block.T @ (y - mean_y), zeta, size)
    else:
        duals = _solve(center(products(samples, which)), y - mean_y, zeta, columns)
        a = np.stack(duals, axis=1)
        a -= a.mean(axis=0)
        mean, weights = np.empty(columns), np.empty((columns, a.shape[1]))
        for part in samples.column_blocks(size):
            block = samples.rows(which, part)
            mean[part] = np.asarray(block.mean(axis=0)).reshape(-1)
            weights[part] = block.T @ a
        fits = list(weights.T)
    return [(w, mean_y - float(mean @ w)) for w in fits]


def _solve(gram: Floats, right: Floats, zeta: Floats, size: int) -> list[Floats]:
    """(gram + zeta)^-1 right for each decay; the pseudo-inverse where it is 0."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

    found: list[Floats] = []
    spectral = None
    for value in zeta:
        if math.isinf(value):
            found.append(np.zeros(right.size))
            continue
        if value > 0.0:
            inner = gram.copy()
            inner.flat[:: right.size + 1] += value
            try:
                found.append(cho_solve(cho_factor(inner, overwrite_a=True), right))
                continue
            except LinAlgError:  # a decay below the rounding of the products
                pass
        if spectral is None:
            spectral = eigh(gram, driver="evd")
        values, vectors = spectral
        keep = values > cutoff(values, max(size, right.size))
        along = (vectors[:, keep].T @ right) / (values[keep] + value)
        found.append(vectors[:, keep] @ along)
    return found
