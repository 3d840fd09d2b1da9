"""Inputs: how they vary from direction to direction, and how the teacher's field shares in that.

All that the theory of a trained student needs of its inputs is a list of modes, the eigenvectors of
their covariance: in each the variance of the inputs and their covariance with the teacher's field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arguments import ArgumentError, ArgumentTypeError, integer, real_array, real_scalar
from ._core.student_values import quick_values
from ._core.suggest import suggestion
from ._sample_spectrum import as_samples, sample_spectrum, source_modes
from .students import LeakyReLU, Student, StudentLike, as_student

__all__ = ["Clusters", "Inputs", "InputsLike", "Isotropic", "Modes", "PowerLaw", "RandomFeatures"]
__all__ += ["SampledInputs", "Spectrum", "as_inputs", "hermite_coefficients"]

# Largest number of nodes of the law of random features: more are as slow as a matrix.
_MOST_NODES = 1024
_LEAST_NODES = 64


class Modes(NamedTuple):
    """The modes of N inputs x, of which the student sees W.x with |W|^2 of order N.

    In mode k the input has variance s_k/N, the teacher's field z = sum_k w*_k x_k + (the part that
    the inputs do not carry). Means over the modes, written <.>, take their `weights`.

    Attributes
    ----------
    variances : ndarray
        s_k.
    powers : ndarray
        s_k w*_k^2, the share of mode k in the variance of the teacher's field, on the scale on
        which their mean is the explained variance; cross-powers are c_k = s_k powers_k.
    weights : ndarray
        Fraction of the modes of this kind; they sum to 1.
    unexplained : float
        Variance of the part of the teacher's field that is independent of the inputs.
    """

    variances: NDArray[np.float64]
    powers: NDArray[np.float64]
    weights: NDArray[np.float64]
    unexplained: float

    @property
    def cross_powers(self) -> NDArray[np.float64]:
        """c_k = (s_k w*_k)^2."""
        return self.variances * self.powers

    @property
    def explained(self) -> float:
        """Variance of the teacher's field that is linear in the inputs, <c/s>."""
        return float(self.weights @ self.powers)

    @property
    def rho(self) -> float:
        """Variance of the teacher's field."""
        return self.explained + self.unexplained

    @property
    def rank(self) -> float:
        """Fraction of the modes that vary."""
        return float(min(self.weights[self.variances > 0.0].sum(), 1.0))


class Inputs:
    """What all inputs have: a `name` and their `modes`; see the classes of this module."""

    @property
    def name(self) -> str:
        """The name in labels and tables."""
        return repr(self)

    @cached_property
    def modes(self) -> Modes:
        """The modes, as the theory takes them."""
        raise NotImplementedError

    @staticmethod
    def from_samples(X: Any, y: Any, *, standardize: bool = False) -> SampledInputs:
        """Return inputs with the spectrum of the source of samples, and their linear teacher.

        Parameters
        ----------
        X : array_like, pandas.DataFrame or sparse matrix, shape (n_samples, n_columns)
            Numbers. More rows than columns, or signal and noise cannot be told apart.
        y : array_like, shape (n_samples,)
            Numbers, or two labels, which become -1 and 1.
        standardize : bool
            Whether the columns are divided by their standard deviations.

        Returns
        -------
        SampledInputs
            With the variance `S` of the noise; X and y are centered.

        Raises
        ------
        TypeError, ValueError
            If the samples are not numbers, have missing values, or are too few.

        Examples
        --------
        >>> X = np.random.default_rng(1).standard_normal((2000, 50))
        >>> inputs = Inputs.from_samples(X, X[:, 0])
        >>> inputs
        SampledInputs(size=50, n_samples=2000, S=0, rho=0.977)
        """
        samples = as_samples(X, y, standardize=standardize)
        source = source_modes(sample_spectrum(samples))
        size = float(source.counts.sum())
        powers = source.powers * (size / source.counts)
        modes = Modes(source.variances * size, powers, source.counts / size, 0.0)
        return SampledInputs(modes, source.S, round(size), samples.shape[0])


@dataclass(frozen=True)
class Isotropic(Inputs):
    """Independent inputs of equal variance, and a teacher of unit length: what is taken by default.

    Examples
    --------
    >>> Isotropic().modes.rho
    1.0
    """

    @cached_property
    def modes(self) -> Modes:
        """One mode of unit variance."""
        one = np.ones(1)
        return Modes(one, one, one, 0.0)


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Inputs):
    """Inputs whose covariance has these eigenvalues.

    Parameters
    ----------
    variances : array_like
        Eigenvalues s_k >= 0 of N times the covariance, not all 0; 1 is that of isotropic inputs.
    teacher : array_like, optional
        The teacher's weights w*_k in the eigenvectors, of which the field is z = sum_k w*_k x_k; by
        default all are equal and the field has unit variance.
    weights : array_like, optional
        How many modes are of each kind, in any unit; by default the same number.
    unexplained : float
        Variance of a part of the teacher's field that is independent of the inputs, >= 0. For a
        linear teacher it acts as label noise does, but counts in `gen_error`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes differ.

    Examples
    --------
    >>> inputs = Spectrum([4.0, 1.0, 0.0], teacher=[1.0, 1.0, 0.0], weights=[1, 2, 1])
    >>> inputs
    Spectrum(3 variances, rho=1.5)
    >>> inputs.modes.rank
    0.75
    """

    variances: ArrayLike
    teacher: ArrayLike | None = None
    weights: ArrayLike | None = None
    unexplained: float = 0.0

    def __post_init__(self) -> None:
        variances = _column("variances", self.variances, None, low=0.0)
        if not variances.any():
            raise ArgumentError("variances must not all be 0")
        teacher = self.teacher
        if teacher is not None:
            teacher = _column("teacher", teacher, variances.size)
        weights = self.weights
        if weights is not None:
            weights = _column("weights", weights, variances.size, low=0.0)
            if not weights @ variances > 0.0:
                raise ArgumentError("weights must not all be 0 where the inputs vary")
        unexplained = real_scalar("unexplained", self.unexplained, low=0.0)
        for name, value in (
            ("variances", variances),
            ("teacher", teacher),
            ("weights", weights),
            ("unexplained", unexplained),
        ):
            object.__setattr__(self, name, value)
        if not self.modes.explained > 0.0:
            raise ArgumentError("teacher must not be 0 in every mode that varies")

    def __repr__(self) -> str:
        return f"Spectrum({np.size(self.variances)} variances, rho={self.modes.rho:.6g})"

    @cached_property
    def modes(self) -> Modes:
        """The modes, with the teacher's power in each."""
        s = np.asarray(self.variances)
        weights = np.ones(s.size) if self.weights is None else np.asarray(self.weights)
        weights = weights / weights.sum()
        powers = s / (weights @ s) if self.teacher is None else s * np.asarray(self.teacher) ** 2
        return Modes(s, powers, weights, self.unexplained)


@dataclass(frozen=True)
class PowerLaw(Inputs):
    """Variances s_k ~ k^-exponent, and a teacher with power s_k w*_k^2 ~ k^-teacher_exponent.

    Both are scaled to mean 1 over the modes, so that the inputs have the power of isotropic ones
    and the teacher's field unit variance. Without noise and decay the error falls, between n = 1
    and n = size, with the exponent min(teacher_exponent - 1, 2 exponent) of the number of samples.

    Parameters
    ----------
    exponent : float
        Decay of the variances, >= 0.
    teacher_exponent : float, optional
        Decay of the teacher's power; by default the same, for a teacher with equal weights.
    size : int
        Number of modes.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> PowerLaw(1.0, size=2).modes.variances
    array([1.33333333, 0.66666667])
    """

    exponent: float
    teacher_exponent: float | None = None
    size: int = 1000

    def __post_init__(self) -> None:
        exponent = real_scalar("exponent", self.exponent, low=0.0)
        other = exponent
        if self.teacher_exponent is not None:
            other = real_scalar("teacher_exponent", self.teacher_exponent)
        object.__setattr__(self, "exponent", exponent)
        object.__setattr__(self, "teacher_exponent", other)
        object.__setattr__(self, "size", integer("size", self.size, low=1))

    @property
    def name(self) -> str:
        """The name in labels and tables."""
        return f"power({self.exponent:g}, {self.teacher_exponent:g}, {self.size})"

    @cached_property
    def modes(self) -> Modes:
        """The modes, largest variance first."""
        k = np.arange(1.0, self.size + 1.0)
        s = k**-self.exponent
        assert self.teacher_exponent is not None  # set by __post_init__
        powers = k**-self.teacher_exponent
        return Modes(s / s.mean(), powers / powers.mean(), np.full(k.size, 1.0 / k.size), 0.0)


@dataclass(frozen=True)
class RandomFeatures(Inputs):
    """Features v = phi(F x) - E[phi] of d isotropic inputs, p of them, in the limit of many.

    The rows of F have unit length and F x unit variance; the student sees W.v/sqrt(p), its load is
    alpha = n/p, and the teacher stays a field of the *inputs*. The features act like Gaussian ones
    of covariance kappa1^2 F F^T + kappa*^2, with kappa1 = E[z phi(z)] and kappa*^2 the variance of
    phi that is left: what the teacher has outside of them is unexplained.

    Parameters
    ----------
    activation : str, LeakyReLU, Student or callable
        phi, anything that `as_student` takes, not even: kappa1 must not be 0.
    ratio : float
        Number of features over that of inputs, p/d > 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or kappa1 = 0.

    Examples
    --------
    >>> features = RandomFeatures("relu", 2.0)
    >>> round(features.kappa1, 12), round(features.kappa_star**2, 12)  # 1/2, 1/4 - 1/(2 pi)
    (0.5, 0.090845056908)
    """

    activation: StudentLike
    ratio: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", as_student(self.activation, "activation"))
        ratio = real_scalar("ratio", self.ratio, low=0.0, low_open=True, high=1e6)
        object.__setattr__(self, "ratio", ratio)
        if self.kappa1**2 < 1e-12 * (self.kappa1**2 + self.kappa_star**2) or self.kappa1 == 0.0:
            raise ArgumentError(
                "activation must have a linear part, kappa1 = E[z phi(z)] != 0: features of "
                f"{self.student.name!r} know nothing of a teacher"
            )

    @property
    def student(self) -> LeakyReLU | Student:
        """The activation phi as a `Student`."""
        return as_student(self.activation, "activation")

    @property
    def name(self) -> str:
        """The name in labels and tables."""
        return f"features({self.student.name}, {self.ratio:g})"

    @cached_property
    def _moments(self) -> tuple[float, float, float]:
        """E[phi], E[z phi] and the standard deviation of what is left."""
        z, w = _normal_rule(self.student.kinks)
        phi = quick_values(self.student, z)
        mean = float(w @ phi)
        kappa1 = float(w @ (z * (phi - mean)))
        # A mean of squares: a difference would cancel for an almost linear activation.
        rest = float(w @ (phi - mean - kappa1 * z) ** 2)
        return mean, kappa1, math.sqrt(rest)

    @property
    def mean(self) -> float:
        """E[phi(z)], subtracted from the features."""
        return self._moments[0]

    @property
    def kappa1(self) -> float:
        """E[z phi(z)], the linear part of the activation."""
        return self._moments[1]

    @property
    def kappa_star(self) -> float:
        """Standard deviation of what is not linear in the activation."""
        return self._moments[2]

    @cached_property
    def modes(self) -> Modes:
        """The nodes of a Gauss rule of the Marchenko-Pastur law of F F^T."""
        from scipy.linalg import eigh_tridiagonal

        noise = (self.kappa_star / self.kappa1) ** 2
        # The poles of the integrands lie at least so far below the law, as a fraction of its width;
        # n nodes are accurate to about exp(-4 n sqrt(gap)).
        root = math.sqrt(self.ratio)
        gap = (noise + (1.0 - root) ** 2) / (4.0 * root)
        count = int(min(max(10.0 / math.sqrt(gap + 1e-12), _LEAST_NODES), _MOST_NODES))
        # Of the law's orthogonal polynomials (its mean is 1, its variance the ratio); an atom at 0
        # is one of the nodes.
        diagonal = np.full(count, 1.0 + self.ratio)
        diagonal[0] = 1.0
        lam, vectors = eigh_tridiagonal(diagonal, np.full(count - 1, root))
        weights = vectors[0] ** 2
        lam = np.where(lam < 1e-13 * (1.0 + self.ratio), 0.0, lam)
        linear = self.kappa1**2 * lam
        s = linear + self.kappa_star**2
        with np.errstate(invalid="ignore"):
            powers = np.where(lam > 0.0, self.ratio * linear / s, 0.0)
        explained = float(weights @ powers)
        return Modes(s, powers, weights / weights.sum(), max(1.0 - explained, 0.0))


@dataclass(frozen=True)
class Clusters(Inputs):
    """Two Gaussian clusters, one for each label: x = y v/sqrt(N) + sqrt(variance) xi, |v|^2 = N.

    The inputs are scaled as always, so that the student sees W.x/sqrt(N). There is no teacher: the
    labels are the names of the clusters.

    Parameters
    ----------
    variance : float
        Variance Delta of a cluster in every direction, positive.
    fraction : float
        Share of the cluster y = +1, in (0, 1).
    bias : bool
        Whether the student has a bias, which is not decayed: u = W.x/sqrt(N) + b.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> Clusters(0.3)
    Clusters(variance=0.3, fraction=0.5, bias=False)
    """

    variance: float
    fraction: float = 0.5
    bias: bool = False

    def __post_init__(self) -> None:
        variance = real_scalar("variance", self.variance, low=0.0, low_open=True)
        fraction = real_scalar(
            "fraction", self.fraction, low=0.0, low_open=True, high=1.0, high_open=True
        )
        if not isinstance(self.bias, bool | np.bool_):
            raise ArgumentTypeError(f"bias must be True or False, got {self.bias!r}")
        object.__setattr__(self, "variance", variance)
        object.__setattr__(self, "fraction", fraction)
        object.__setattr__(self, "bias", bool(self.bias))

    @cached_property
    def modes(self) -> Modes:
        """There are none: refused."""
        raise ArgumentError("Clusters have labels of their own and no teacher: see solve_clusters")


#: What `as_inputs` takes.
InputsLike: TypeAlias = Inputs | str | None


class SampledInputs(Inputs):
    """Inputs with the spectrum of the source of given samples; see `Inputs.from_samples`.

    ``gen_error(n / inputs.size, inputs.S, zeta, inputs=inputs)`` is the error of n samples, with
    the decay of inputs as they are, without a factor 1/sqrt(N).

    Attributes
    ----------
    modes : Modes
        Few, of many modes each: what the theory needs is their sums.
    S : float
        Variance of what no linear function of the inputs explains.
    size : int
        Number N of directions in which the samples vary.
    n_samples : int
        Number of samples.
    """

    def __init__(self, modes: Modes, S: float, size: int, n_samples: int) -> None:
        self.modes, self.S, self.size, self.n_samples = modes, S, size, n_samples

    def __repr__(self) -> str:
        return (
            f"SampledInputs(size={self.size}, n_samples={self.n_samples}, S={self.S:.3g}, "
            f"rho={self.modes.rho:.3g})"
        )


def as_inputs(value: Any, name: str = "inputs") -> Inputs:
    """Return the inputs meant by `value`.

    Parameters
    ----------
    value : Inputs, str or None
        Inputs themselves; None or "isotropic"; or a kind and its numbers with colons between:
        "power:exponent", "power:exponent:teacher_exponent:size", "features:activation:ratio",
        "clusters:variance", "clusters:variance:fraction".
    name : str
        What error messages call `value`.

    Returns
    -------
    Inputs

    Raises
    ------
    TypeError, ValueError
        If `value` is none of these, or a number is out of range.

    Examples
    --------
    >>> as_inputs(None)
    Isotropic()
    >>> as_inputs("power:1.2").name, as_inputs("features:relu:2").name
    ('power(1.2, 1.2, 1000)', 'features(relu, 2)')
    """
    if value is None:
        return Isotropic()
    if isinstance(value, Inputs):
        return value
    allowed = (
        f"{name} must be Isotropic(), Spectrum(variances), PowerLaw(exponent), "
        f"RandomFeatures(activation, ratio), Clusters(variance), Inputs.from_samples(X, y), None, "
        f"or a name as 'isotropic', 'power:1.2', 'features:relu:2' or 'clusters:0.3', got {value!r}"
    )
    if not isinstance(value, str):
        raise ArgumentTypeError(allowed)
    kind, *rest = value.split(":")
    try:
        if kind == "features" and len(rest) == 2:
            return RandomFeatures(rest[0], float(rest[1]))
        numbers = [float(number) for number in rest]
        if kind == "isotropic" and not numbers:
            return Isotropic()
        if kind == "power" and len(numbers) in (1, 2):
            return PowerLaw(numbers[0], numbers[-1])
        if kind == "power" and len(numbers) == 3 and numbers[2].is_integer():
            return PowerLaw(numbers[0], numbers[1], int(numbers[2]))
        if kind == "clusters" and len(numbers) in (1, 2):
            return Clusters(numbers[0], numbers[1] if len(numbers) == 2 else 0.5)
    except ArgumentError:
        raise
    except ValueError:
        pass
    raise ArgumentError(allowed + suggestion(kind, ("isotropic", "power", "features", "clusters")))


def hermite_coefficients(activation: LeakyReLU | Student, count: int) -> NDArray[np.float64]:
    """Return the Hermite coefficients E[phi(z) He_k(z)]/sqrt(k!), k = 0 .. count.

    Parameters
    ----------
    activation : LeakyReLU or Student
        The function phi.
    count : int
        The highest of them.

    Returns
    -------
    ndarray
        Of shape (count + 1,).

    Examples
    --------
    >>> hermite_coefficients(as_student("quadratic"), 3).round(12) + 0.0  # 1 + sqrt(2) h_2(u)
    array([1.        , 0.        , 1.41421356, 0.        ])
    """
    z, w = _normal_rule(activation.kinks)
    phi = w * quick_values(activation, z)
    before, here = np.zeros(z.size), np.ones(z.size)
    found = np.empty(count + 1)
    for k in range(count + 1):
        found[k] = phi @ here
        before, here = here, (z * here - math.sqrt(k) * before) / math.sqrt(k + 1)
    return found


def _column(name: str, value: Any, size: int | None, **limits: Any) -> NDArray[np.float64]:
    array = real_array(name, value, **limits)
    if array.ndim != 1 or array.size == 0:
        raise ArgumentError(f"{name} must be a list of numbers, got shape {array.shape}")
    if size is not None and array.size != size:
        raise ArgumentError(
            f"{name} must have one element for each of the {size} variances, got {array.size}"
        )
    array.setflags(write=False)
    return array


def _normal_rule(kinks: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre pieces of the standard normal law that end at the kinks."""
    inner = [k for k in kinks if abs(k) < 13.0]
    edges = np.unique(np.concatenate([np.arange(-13.0, 13.5), inner]))
    x, w = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, None] / 2.0
    z = (edges[:-1, None] + half + half * x).ravel()
    return z, (half * w).ravel() * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
