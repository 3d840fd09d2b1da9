"""What a table of samples tells about its source: checked data, and functions of the spectrum.

The eigenvalues of a sample covariance are not those of the source, and a teacher fitted to the
samples takes their noise for signal; both errors are of the order of dimensions/samples. What ridge
regression needs of the source are functions of one scale kappa,

    df1 = sum s/(s + kappa),   df2 = sum s^2/(s + kappa)^2,   G = sum p kappa^2/(s + kappa)^2 + S,

over its true modes (variance s, power p of the teacher's field), and these can be had without
bias from the samples: a ridge fit of all N of them at decay lambda stands at
kappa = lambda/(N - d), with d its degrees of freedom, and df1(kappa) = d. The sum of its squared
residuals, over the trace of (1 - hat matrix)^2, is G.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arguments import ArgumentError, ArgumentTypeError

__all__ = ["SampleSpectrum", "Samples", "Scales", "SourceModes", "as_samples", "sample_spectrum"]
__all__ += ["blind_scores", "center", "cutoff", "dense", "products", "source_modes"]

Floats = NDArray[np.float64]

_BLOCK = 2**25  # bytes of one block of rows as float64
_LARGEST_GRAM = 8_000  # rows and columns of a dense matrix of products: 0.5 GB, four at once
_LARGEST = 1e100  # standard deviation, and its inverse: the sums of fourth powers are numbers
_ROUNDED = 1e-13  # of |y|^2: less is no noise
_MOST_NAMED = 5  # columns in one message


# --- checked data -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Samples:
    """Checked samples: an array, or a sparse matrix by rows, without its constant columns.

    Attributes
    ----------
    X : ndarray or scipy.sparse.csr_array, shape (n_samples, n_columns)
        As given, whatever its type of numbers; `rows` has them centered and scaled.
    y : ndarray
        Targets; labels are -1 and 1.
    classes : tuple of str
        The two labels that -1 and 1 stand for; empty for numbers.
    mean, scale : ndarray
        Of the columns: what `rows` subtracts (a sparse matrix is left as it is) and multiplies by.
    constant : tuple of str
        Names of the columns that were left out since they do not vary.
    """

    X: Any
    y: Floats
    classes: tuple[str, ...]
    columns: NDArray[np.intp]
    mean: Floats
    scale: Floats
    constant: tuple[str, ...]

    @property
    def sparse(self) -> bool:
        """Whether X is sparse."""
        return not isinstance(self.X, np.ndarray)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of columns that vary."""
        return self.y.size, self.mean.size

    def rows(self, which: Any, columns: slice = slice(None)) -> Any:
        """Rows as float64, scaled, and centered where they are dense."""
        scale = self.scale[columns]
        if self.sparse:
            return self.X[which][:, columns].astype(np.float64) * scale[None, :]
        block = self.X[which]
        if self.columns.size < block.shape[1]:
            block = block[:, self.columns[columns]]
        else:
            block = block[:, columns]
        block = block - self.mean[columns]  # float64
        if (scale != 1.0).any():
            block *= scale
        return block

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return max(_BLOCK // (8 * self.mean.size), 1)

    def blocks(self) -> Iterator[slice]:
        """Slices of rows that fit into a block."""
        for start in range(0, self.y.size, self.block_rows):
            yield slice(start, min(start + self.block_rows, self.y.size))

    def column_blocks(self, rows: int) -> Iterator[slice]:
        """Slices of columns of which so many rows fit into a block; sparse rows always do."""
        columns = self.mean.size
        step = columns if self.sparse else max(_BLOCK // (8 * rows), 1)
        for start in range(0, columns, step):
            yield slice(start, min(start + step, columns))


def as_samples(X: Any, y: Any, *, standardize: bool = False) -> Samples:
    """Check samples and targets; every complaint names the column."""
    names: list[str] | None = None
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        X, names = _from_frame(X)
    elif _is_sparse(X):
        from scipy.sparse import csr_array

        X = csr_array(X)  # of the older matrices * is the product of matrices
        if X.dtype.kind not in "biuf":
            raise ArgumentTypeError(f"X must be numbers, got a sparse matrix of type {X.dtype}")
    else:
        X = np.asarray(X)
        if X.dtype.kind == "O":
            X = _from_objects(X)
        if X.dtype.kind not in "biuf":
            raise ArgumentTypeError(f"X must be numbers, got an array of type {X.dtype}")
    if X.ndim != 2 or 0 in X.shape:
        raise ArgumentError(f"X must have rows and columns, got shape {X.shape}")
    name = (lambda k: f"column {names[k]!r}") if names else (lambda k: f"column {k}")
    y, classes = _targets(y)
    if y.size != X.shape[0]:
        raise ArgumentError(f"X has {X.shape[0]} rows and y {y.size} values: they must be as many")
    if y.size < 4:
        raise ArgumentError(f"X must have at least 4 rows, got {y.size}")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation, varies = _column_moments(X, name)
        widths = {"the columns of X": float(deviation.max()), "y": float(y.std())}
    if not varies.any():
        raise ArgumentError("every column of X is constant: there is nothing to learn from")
    for what, width in widths.items():
        if not 1.0 / _LARGEST <= width <= _LARGEST:
            raise ArgumentError(
                f"the standard deviation of {what} must lie in [{1.0 / _LARGEST:g}, {_LARGEST:g}], "
                f"got {width:g}: choose other units"
            )
    columns = np.flatnonzero(varies)
    constant = tuple((names[k] if names else str(k)) for k in np.flatnonzero(~varies))
    scale = 1.0 / deviation[columns] if standardize else np.ones(columns.size)
    if not isinstance(X, np.ndarray):
        X = X[:, columns]
    return Samples(X, y, classes, columns, mean[columns], scale, constant)


def _is_sparse(X: Any) -> bool:
    return hasattr(X, "tocsr") and hasattr(X, "nnz")


def _from_frame(frame: Any) -> tuple[NDArray[Any], list[str]]:
    """The numbers of a table, and the names of its columns."""
    names = [str(name) for name in frame.columns]
    text = [
        f"{name!r} ({dtype})"
        for name, dtype in zip(names, frame.dtypes, strict=True)
        if getattr(dtype, "kind", "O") not in "biuf"
    ]
    if text:
        raise ArgumentTypeError(
            f"X must have columns of numbers, but these are not: {_some(text)}; leave them out or "
            "turn them into numbers"
        )
    missing = frame.isna()
    count = missing.to_numpy().sum(axis=0)
    if count.any():
        raise ArgumentError(_missing([f"{names[k]!r}: {count[k]}" for k in np.flatnonzero(count)]))
    kinds = {dtype.kind for dtype in frame.dtypes}
    array = frame.to_numpy(dtype=None if len(kinds) == 1 and kinds <= set("uif") else np.float64)
    return array if array.dtype.kind in "uif" else array.astype(np.float64), names


def _from_objects(X: NDArray[Any]) -> Floats:
    try:
        return X.astype(np.float64)
    except (TypeError, ValueError):
        pass
    if X.ndim == 2:
        for k in range(X.shape[1]):
            for value in X[:, k]:
                try:
                    float(value)
                except (TypeError, ValueError):
                    raise ArgumentTypeError(
                        f"X must be numbers, got {value!r} in column {k}"
                    ) from None
    raise ArgumentTypeError(f"X must be an array of numbers, got objects of shape {X.shape}")


def _some(items: list[str]) -> str:
    more = len(items) - _MOST_NAMED
    return ", ".join(items[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _missing(items: list[str]) -> str:
    return (
        f"X must have no missing or infinite values, got some in column {_some(items)}; drop those "
        "rows or fill them"
    )


def _targets(y: Any) -> tuple[Floats, tuple[str, ...]]:
    """Targets as numbers; two distinct values are labels, -1 and 1."""
    if hasattr(y, "isna") and y.isna().to_numpy().any():
        raise ArgumentError(f"y must have no missing values, got {int(y.isna().to_numpy().sum())}")
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ArgumentError(f"y must be one column, got shape {values.shape}")
    if values.dtype.kind == "O":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError):
            values = np.array([str(value) for value in values])
    if values.dtype.kind in "iuf" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ArgumentError(f"y must have no missing or infinite values, got {count}")
    if values.dtype.kind not in "biufUS":
        raise ArgumentTypeError(f"y must be numbers or two labels, got type {values.dtype}")
    distinct = np.unique(values)
    if distinct.size == 1:
        raise ArgumentError(f"y must vary, but every value is {distinct[0]}")
    if distinct.size == 2:
        return np.where(values == distinct[1], 1.0, -1.0), tuple(str(label) for label in distinct)
    if values.dtype.kind in "US":
        raise ArgumentError(
            f"y must be numbers or two labels, got {distinct.size} labels: "
            f"{_some([str(label) for label in distinct])}; choose one against the rest, for "
            f"example y == {str(distinct[0])!r}"
        )
    return values.astype(np.float64), ()


def _column_moments(X: Any, name: Callable[[int], str]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Mean and standard deviation of each column, and whether it varies."""
    rows, columns = X.shape
    if not isinstance(X, np.ndarray):
        if X.dtype.kind == "f" and not np.isfinite(X.data).all():
            bad = np.unique(X.indices[~np.isfinite(X.data)])
            raise ArgumentError(_missing([str(k) for k in bad]))
        mean = np.asarray(X.mean(axis=0, dtype=np.float64)).reshape(-1)
        second = np.asarray(X.astype(np.float64).power(2).mean(axis=0)).reshape(-1)
        variance = np.maximum(second - mean * mean, 0.0)
        low = X.min(axis=0).toarray().reshape(-1)
        high = X.max(axis=0).toarray().reshape(-1)
        return mean, np.sqrt(variance), low < high
    step = max(_BLOCK // (8 * columns), 1)
    low, high, total = X[0].astype(np.float64), X[0].astype(np.float64), np.zeros(columns)
    for start in range(0, rows, step):
        block = X[start : start + step]
        total += block.sum(axis=0, dtype=np.float64)
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    if not np.isfinite(total).all() or not np.isfinite(high - low).all():
        count = (~np.isfinite(X)).sum(axis=0) if X.dtype.kind == "f" else np.zeros(columns, int)
        bad = np.flatnonzero(count).tolist()
        if not bad:
            raise ArgumentError("X has values too large for their sum to be a number")
        raise ArgumentError(
            _missing([f"{name(k).removeprefix('column ')}: {count[k]}" for k in bad])
        )
    mean = total / rows
    square = np.zeros(columns)
    for start in range(0, rows, step):
        block = X[start : start + step] - mean
        square += np.einsum("ij,ij->j", block, block)
    return mean, np.sqrt(square / rows), low < high


# --- the spectrum -----------------------------------------------------------------------------


class Scales(NamedTuple):
    """Functions of the source at kappa, one for each decay of the fit of all samples."""

    kappa: Floats
    df1: Floats
    between: Floats  # df1 - df2 = sum s kappa/(s + kappa)^2
    G: Floats
    unlearned: Floats  # var(y) - cov(y, student)


@dataclass(frozen=True, eq=False)
class SampleSpectrum:
    """Eigenvalues of the centered matrix of products, and how the targets lie along them.

    Attributes
    ----------
    N : float
        Degrees of freedom of the samples: one less than their number, the mean being known.
    values, along : ndarray
        Eigenvalues of X^T X that are not 0, and the components of y along the left singular
        vectors.
    vectors : ndarray
        Eigenvectors, as columns: right singular vectors where there are more rows than columns,
        else left ones.
    rest : float
        What is left of |y|^2.
    n_columns : int
        Columns that vary.
    distinct : int
        Rows that differ; counted only where there may be fewer directions than rows and columns.
    """

    N: float
    values: Floats
    along: Floats
    vectors: Floats
    rest: float
    n_columns: int
    distinct: int

    @cached_property
    def squares(self) -> Floats:
        """Shares of the directions in |y|^2."""
        return np.square(self.along)

    @property
    def rank(self) -> int:
        """Number of directions in which the samples vary."""
        return self.values.size

    @property
    def full(self) -> bool:
        """Whether the samples are more than the directions, so that the noise can be told.

        Rows that are repeated do not count: without them the directions might be as many as rows.
        """
        return self.rank < min(self.N, self.distinct - 1.0)

    @property
    def variance(self) -> float:
        """Variance of y."""
        return (float(self.squares.sum()) + self.rest) / self.N

    @property
    def noise(self) -> float:
        """Variance of what no linear function of the inputs explains; NaN if it cannot be told."""
        return self.rest / (self.N - self.rank) if self.full else np.nan

    def at(self, decay: Floats) -> Scales:
        """Functions of the source at the scales of the fits of all samples with these decays."""
        decay = np.asarray(decay, dtype=np.float64)
        free = self.N - self.rank
        inverse = 1.0 / (self.values + decay[..., None])
        if free > 0:
            left = decay[..., None] * inverse
            spare = free + left.sum(axis=-1)
            squared = free + np.square(left).sum(axis=-1)
            kappa = decay / spare
            between = ((1.0 - left) * left).sum(axis=-1) * (spare / squared)
            G = (self.rest + np.square(left) @ self.squares) / squared
            unlearned = (self.rest + left @ self.squares) / spare
        else:  # all divided by the decay, which may be 0
            trace, squared = inverse.sum(axis=-1), np.square(inverse).sum(axis=-1)
            spare = decay * trace
            kappa = 1.0 / trace
            between = (self.values * np.square(inverse)).sum(axis=-1) * (trace / squared)
            G = np.square(inverse) @ self.squares / squared
            unlearned = inverse @ self.squares / trace
        return Scales(kappa, self.N - spare, between, G, unlearned)

    def decay(self, n: ArrayLike, zeta: ArrayLike) -> Floats:
        """The decay of all samples at the kappa of `n` of them with decay `zeta`."""
        n, zeta = np.broadcast_arrays(np.asarray(n, float), np.asarray(zeta, float))
        high = (self.N * zeta + self.values.sum()) / n * 2.0
        with np.errstate(divide="ignore", invalid="ignore"):
            more = (n - self.rank) * self.N > n * (self.N - self.rank)  # n > N
            ratio = np.where(more, (self.N - self.rank) / (n - self.rank), self.N / n)
        low = np.maximum(zeta * ratio, self.values.min() * (self.rank - n) / n) * 0.5
        none = low <= 0.0  # zeta = 0 and as many samples as directions: no decay at all
        low, high = np.log(np.where(none, 1.0, low)), np.log(high)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            scales = self.at(np.exp(middle))
            above = scales.kappa * (n - scales.df1) > zeta
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.where(none, 0.0, np.exp(0.5 * (low + high)))


_HALVINGS = 64  # of at most 700 in the logarithm: down to the last bit


def sample_spectrum(
    samples: Samples, tick: Callable[[int], object] | None = None
) -> SampleSpectrum:
    """Eigenvalues and components of the samples; `tick` is told how many rows are done."""
    from scipy.linalg import eigh

    rows, columns = samples.shape
    size = min(rows, columns)
    if size > _LARGEST_GRAM:
        raise ArgumentError(
            f"X must have at most {_LARGEST_GRAM} rows or columns, whichever are fewer, got shape "
            f"{samples.shape}; give fewer rows, or a projection of the columns"
        )
    y = samples.y - samples.y.mean()
    if rows > columns:
        gram, cross = np.zeros((columns, columns)), np.zeros(columns)
        for part in samples.blocks():
            block = samples.rows(part)
            gram += dense(block.T @ block)
            cross += block.T @ y[part]
            if tick:
                tick(part.stop - part.start)
        if samples.sparse:
            mean = samples.mean * samples.scale
            gram -= rows * np.outer(mean, mean)
        values, vectors = eigh(gram, overwrite_a=True, driver="evd")
        along = vectors.T @ cross
    else:
        gram = products(samples, np.arange(rows))
        if tick:
            tick(rows)
        gram = center(gram)
        values, vectors = eigh(gram, overwrite_a=True, driver="evd")
        along = vectors.T @ y
    keep = values > cutoff(values, max(rows, columns))
    values, along = values[keep], along[keep]
    if rows > columns:
        along = along / np.sqrt(values)
    rest = float(y @ y - along @ along)
    if rest < _ROUNDED * float(y @ y) or rows - 1 == values.size:
        rest = 0.0
    distinct = rows if values.size == columns < rows - 1 else _distinct_rows(samples)
    return SampleSpectrum(float(rows - 1), values, along, vectors[:, keep], rest, columns, distinct)


def _distinct_rows(samples: Samples) -> int:
    """How many rows differ from each other."""
    found: set[bytes] = set()
    if samples.sparse:
        X = samples.X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
        edges = X.indptr.tolist()
        for start, stop in pairwise(edges):
            found.add(X.indices[start:stop].tobytes() + b" " + X.data[start:stop].tobytes())
        return len(found)
    for part in samples.blocks():
        found.update(row.tobytes() for row in np.ascontiguousarray(samples.rows(part)))
    return len(found)


def blind_scores(
    samples: Samples, spectrum: SampleSpectrum, decay: Floats
) -> Iterator[tuple[slice, Floats]]:
    """What a fit of all other samples says of each: blocks of rows, one column for each decay.

    The residual of a fit of all samples is that of the fit without the sample times its share
    1 - h in itself, for which the mean over all samples stands.
    """
    mean, centered = samples.y.mean(), samples.y - samples.y.mean()
    inverse = 1.0 / (spectrum.values[:, None] + decay)
    residual = spectrum.along[:, None] * inverse  # times 1/decay, which may be infinite
    if spectrum.rank < spectrum.N:
        residual = np.column_stack([residual * decay, spectrum.along])
        share = (spectrum.N - spectrum.at(decay).df1) / spectrum.N
    else:
        share = inverse.sum(axis=0) / spectrum.N
    for part, left in _along_left_vectors(samples, spectrum, residual):
        if spectrum.rank < spectrum.N:
            left = left[:, :-1] + (centered[part] - left[:, -1])[:, None]
        yield part, mean + centered[part, None] - left / share


def _along_left_vectors(
    samples: Samples, spectrum: SampleSpectrum, components: Floats
) -> Iterator[tuple[slice, Floats]]:
    """Blocks of the rows of ``U @ components``, with the left singular vectors U."""
    if samples.shape[0] <= samples.shape[1]:
        yield slice(0, samples.shape[0]), spectrum.vectors @ components
        return
    weights = spectrum.vectors @ (components / np.sqrt(spectrum.values)[:, None])
    shift = samples.mean * samples.scale @ weights if samples.sparse else 0.0
    for part in samples.blocks():
        yield part, samples.rows(part) @ weights - shift


def products(samples: Samples, which: NDArray[np.intp]) -> Floats:
    """Products of rows with each other, by blocks of columns."""
    gram = np.zeros((which.size, which.size))
    for columns in samples.column_blocks(which.size):
        block = samples.rows(which, columns)
        gram += dense(block @ block.T)
    return gram


def dense(product: Any) -> Floats:
    """Return a product as an array: those of sparse rows are sparse."""
    return product if isinstance(product, np.ndarray) else product.toarray()


def center(gram: Floats) -> Floats:
    """Products of rows less their mean, from those of the rows."""
    means = gram.mean(axis=0)
    return gram - means - means[:, None] + means.mean()


def cutoff(values: Floats, size: int) -> float:
    """Below this an eigenvalue of a matrix of products is rounding."""
    return float(values[-1]) * size * float(np.finfo(np.float64).eps)


# --- modes of the source ----------------------------------------------------------------------


class SourceModes(NamedTuple):
    """Modes that agree with the functions of the source: variance, how many, power, and noise."""

    variances: Floats
    counts: Floats
    powers: Floats
    S: float


_SCALES, _ATOMS = 120, 160  # points of the fit: a dozen a decade, where one mode is as wide as one
_MOST_CHANGES = 20 * _ATOMS  # of the set of modes that are not 0; a few dozen are enough
_HEAVY = 1e3  # weight of what is known exactly
_BELOW, _DEEPEST = 0.03, 1e-9  # how far beyond the eigenvalues the scales go; no deeper than this


def source_modes(spectrum: SampleSpectrum) -> SourceModes:
    """Return the modes of the source, as few as agree with its functions at all scales.

    Non-negative least squares on a grid of variances: counts from df1, df2 and the trace, powers
    from G, the unlearned part and the variance of y. All theory of a trained student asks the
    spectrum for sums of such functions only, so that modes near each other may stand as one.
    """
    from scipy.optimize import nnls

    if not spectrum.full:
        raise ArgumentError(
            f"X must have more rows than directions in which they vary, or signal and noise cannot "
            f"be told apart; got {spectrum.N + 1:.0f} rows and {spectrum.n_columns} columns"
        )
    largest, smallest = float(spectrum.values.max()), float(spectrum.values.min())
    decay = np.geomspace(max(_BELOW * smallest, _DEEPEST * largest), largest / _BELOW, _SCALES)
    at = spectrum.at(decay)
    variances = np.geomspace(0.3 * at.kappa.min(), 3.0 * largest / spectrum.N, _ATOMS)
    left = at.kappa[:, None] / (variances + at.kappa[:, None])
    size = 1.0 / np.sqrt(at.df1 + 1.0)  # the scatter of a number of modes is of order 1
    trace = float(spectrum.values.sum()) / spectrum.N
    rows = [
        (1.0 - left) * size[:, None],
        (1.0 - left) * left * size[:, None],
        _HEAVY * variances[None, :] / trace,
        np.full((1, _ATOMS), _HEAVY / spectrum.rank),
    ]
    known = [at.df1 * size, at.between * size, [_HEAVY], [_HEAVY]]
    counts, _ = nnls(np.concatenate(rows), np.concatenate(known), maxiter=_MOST_CHANGES)
    kept = counts > 1e-9 * counts.sum()
    variances, counts, left = variances[kept], counts[kept], left[:, kept]
    total, S = spectrum.variance, min(spectrum.noise, spectrum.variance)
    rows = [np.square(left), left, np.full((1, variances.size), _HEAVY)]
    known = [at.G - S, at.unlearned - S, [_HEAVY * (total - S)]]
    powers, _ = nnls(np.concatenate(rows), np.concatenate(known), maxiter=_MOST_CHANGES)
    return SourceModes(variances, counts * (spectrum.rank / counts.sum()), powers, S)
