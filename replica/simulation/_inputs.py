"""Samples of inputs that are not isotropic, and what a student of given weights has in common with
its teacher on fresh ones.

A population is drawn once for each training set: the variances of the columns, the matrix of the
random features, or the direction between the clusters. It draws the inputs x (rows X with
u = X @ w, the factor 1/sqrt(N) included) and the teacher's field z of each, and knows the variance
q of the field u on fresh inputs and its covariance m with z. Random features are what their name
says, not Gaussian inputs of the same covariance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from replica._core.arguments import ArgumentError
from replica._core.student_values import quick_values
from replica.inputs import Clusters, Inputs, RandomFeatures, hermite_coefficients
from replica.labels import Flip, NoiseWord
from replica.students import LeakyReLU, Student

from ._data import FieldOverlaps, Population, TrainingSet, draw_labels, streams

__all__ = ["ClusterPopulation", "FeaturePopulation", "SpectrumPopulation", "field_variance"]
__all__ += ["population_memory", "population_of", "structured_training_set"]

# Powers of the overlaps of rows in the covariance of features: what is left out has 1e-12 of it.
_NEGLIGIBLE = 1e-12
_MOST_POWERS = 40
# Rows that are drawn at a time: features of more would need more memory than they fill.
_BLOCK = 256

Array = NDArray[np.float64]


class SpectrumPopulation(Population):
    """Gaussian inputs, independent in the eigenbasis of their covariance: one scale per column.

    Modes that stand for a fraction of all take that share of the columns, rounded so that each
    prefix of the modes has its own.
    """

    def __init__(self, inputs: Inputs, N: int) -> None:
        modes = inputs.modes
        share = np.cumsum(modes.weights)
        counts = np.diff(np.round(N * share / share[-1]).astype(np.int64), prepend=0)
        self.N = N
        self.variances = np.repeat(modes.variances, counts)
        powers = np.repeat(modes.powers, counts)
        varies = self.variances > 0.0
        self.teacher = np.sqrt(np.divide(powers, self.variances, out=np.zeros(N), where=varies))
        self.unexplained = modes.unexplained
        self.rho = float(self.variances @ self.teacher**2) / N + self.unexplained
        if not self.rho > self.unexplained:
            raise ArgumentError(f"N must be large enough for {inputs!r}, got {N}")
        self._scale = np.sqrt(self.variances / N)

    def draw(self, rng: np.random.Generator, X: NDArray[Any]) -> Array:
        """Fill the rows of X with inputs and return the teacher's field of each."""
        z = np.empty(len(X))
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(X)))
            x = rng.standard_normal((rows.stop - start, self.N)) * self._scale
            X[rows] = x
            z[rows] = x @ self.teacher
        return z + math.sqrt(self.unexplained) * rng.standard_normal(len(X))

    def overlaps(self, w: NDArray[Any]) -> FieldOverlaps:
        """Return m = sum s w* w/N and q = sum s w^2/N."""
        sw = self.variances * np.asarray(w, float)
        return FieldOverlaps(float(sw @ self.teacher) / self.N, float(sw @ w) / self.N)


class FeaturePopulation(Population):
    """Features phi(F x) - E[phi] of Gaussian x, with a linear teacher of x.

    Their covariance is exact: sum_k c_k^2 (F F^T)^k, element by element, with the Hermite
    coefficients c_k of phi.
    """

    def __init__(self, inputs: RandomFeatures, N: int, rng: np.random.Generator) -> None:
        self.N = N
        d = max(round(N / inputs.ratio), 1)
        self.features = inputs
        self.F = rng.standard_normal((N, d))
        self.F /= np.linalg.norm(self.F, axis=1, keepdims=True)
        theta = rng.standard_normal(d)
        self.teacher = theta / np.linalg.norm(theta)
        self.cross = inputs.kappa1 * (self.F @ self.teacher) / math.sqrt(N)
        self._covariance: Array | None = None

    def draw(self, rng: np.random.Generator, X: NDArray[Any]) -> Array:
        """Fill the rows of X with features and return the teacher's field of each."""
        z = np.empty(len(X))
        phi = self.features.student
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(X)))
            x = rng.standard_normal((rows.stop - start, self.F.shape[1]))
            values = quick_values(phi, x @ self.F.T) - self.features.mean
            X[rows] = values / math.sqrt(self.N)
            z[rows] = x @ self.teacher
        return z

    @property
    def covariance(self) -> Array:
        """Of the features, shape (N, N); made when it is first asked for."""
        found = self._covariance
        if found is None:
            gram = self.F @ self.F.T
            off = gram - np.diag(np.diag(gram))
            coefficients = hermite_coefficients(self.features.student, _MOST_POWERS)
            largest = float(np.abs(off).max(initial=0.0))
            total = np.zeros_like(off)
            power = np.ones_like(off)
            for k, c in enumerate(coefficients[1:], start=1):
                power *= off
                total += c * c * power
                if largest ** (k + 1) < _NEGLIGIBLE:
                    break
            np.fill_diagonal(total, self.features.kappa1**2 + self.features.kappa_star**2)
            self._covariance = found = total
        return found

    def overlaps(self, w: NDArray[Any]) -> FieldOverlaps:
        """Return m, which is exact, and q = w.C w/N."""
        w = np.asarray(w, float)
        return FieldOverlaps(float(self.cross @ w), float(w @ self.covariance @ w) / self.N)


class ClusterPopulation(Population):
    """Two clusters around +-v/sqrt(N), v = (1, ..., 1); z is the label, and q leaves it out."""

    def __init__(self, inputs: Clusters, N: int) -> None:
        self.N = N
        self.inputs = inputs

    def draw(self, rng: np.random.Generator, X: NDArray[Any]) -> Array:
        """Fill the rows of X with inputs and return the label of each."""
        y = np.where(rng.random(len(X)) < self.inputs.fraction, 1.0, -1.0)
        scale = math.sqrt(self.inputs.variance / self.N)
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(X)))
            x = scale * rng.standard_normal((rows.stop - start, self.N))
            X[rows] = x + y[rows, None] / self.N
        return y

    def overlaps(self, w: NDArray[Any]) -> FieldOverlaps:
        """Return the mean of y u, and the variance of u within a cluster."""
        w = np.asarray(w, float)
        return FieldOverlaps(float(w.mean()), self.inputs.variance * float(w @ w) / self.N)

    def error_rate(self, w: NDArray[Any], bias: float = 0.0) -> float:
        """Return the fraction of fresh inputs on the wrong side of u + bias = 0."""
        m, q = self.overlaps(w)
        share, sd = self.inputs.fraction, math.sqrt(q)
        return float(share * ndtr(-(m + bias) / sd) + (1.0 - share) * ndtr(-(m - bias) / sd))


def population_of(inputs: Inputs, N: int, rng: np.random.Generator) -> Population:
    """Return where N inputs of this kind come from; `rng` draws what is random in it.

    Examples
    --------
    >>> from replica.inputs import PowerLaw
    >>> rng = np.random.default_rng(1)
    >>> population = population_of(PowerLaw(1.0, size=100), 100, rng)
    >>> X = np.empty((2000, 100))
    >>> z = population.draw(rng, X)
    >>> bool(abs(z.var() - population.rho) < 0.1)
    True
    """
    if isinstance(inputs, RandomFeatures):
        return FeaturePopulation(inputs, N, rng)
    if isinstance(inputs, Clusters):
        return ClusterPopulation(inputs, N)
    return SpectrumPopulation(inputs, N)


def structured_training_set(
    inputs: Inputs,
    P: int,
    N: int,
    S: float,
    seed: np.random.SeedSequence,
    dtype: Any,
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
) -> TrainingSet:
    """Draw a population, P inputs of it and their labels: see `make_training_set`."""
    of_inputs, of_labels = streams(seed, 2)
    rng = np.random.default_rng(of_inputs)
    population = population_of(inputs, N, rng)
    X = np.empty((P, N), dtype)
    z = population.draw(rng, X)
    X.setflags(write=False)
    if isinstance(inputs, Clusters):
        return TrainingSet(X, z)  # rotation invariant: measured as isotropic inputs are
    y = draw_labels(teacher, noise, S, z, np.random.default_rng(of_labels))
    return TrainingSet(X, y, population)


def field_variance(inputs: Inputs, N: int) -> float:
    """Return the variance of the teacher's field on N inputs of this kind."""
    if isinstance(inputs, RandomFeatures | Clusters):
        return 1.0
    return SpectrumPopulation(inputs, N).rho


def population_memory(inputs: Inputs, N: int) -> int:
    """Bytes that a population takes beside the training set."""
    if isinstance(inputs, RandomFeatures):
        return 8 * N * (4 * N + round(N / inputs.ratio) + 2 * _BLOCK)
    return 8 * N * (_BLOCK + 4)
