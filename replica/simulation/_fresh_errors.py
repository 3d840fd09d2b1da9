"""Errors and losses on fresh inputs, from the order parameters: no test set is involved.

Closed forms for piecewise-linear activations and the square, quadrature for all others.
"""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtr, owens_t

from replica._core.activation_table import activation_value
from replica._core.arguments import ArgumentError
from replica._core.jit import jit
from replica._core.student_values import quick_values
from replica.labels import Flip, NoiseWord, labels_are_signs
from replica.losses import EXPONENTIAL, SQUARE, Loss
from replica.students import LINEAR, LeakyReLU, Student

from ._tables import Tables, table_reaching

__all__ = ["fresh_loss", "generalization_error", "linear_teacher_error", "piecewise_teacher_error"]
__all__ += ["normal_margin_loss", "sign_error", "student_error"]

# The standard normal density beyond this is below 1e-17.
_EDGE = 8.8
# Smooth integrands take the trapezoidal rule, whose error is exp(-2 pi d / h) with d the distance
# of a pole from the real axis, exp(-2 pi^2 / h^2) of the density. A piece of a table is so short
# that d is twice its width or more: 0.4 of the width makes the error 1e-13.
_STEP_IN_PIECES, _LARGEST_STEP = 0.4, 0.7
# Others are cut at their kinks and have this rule in between. Its error over a gap of two widths,
# which are five steps, is 1e-12; of the density over a gap of 2 it is less.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_GAP_IN_STEPS, _LARGEST_GAP = 5.0, 2.0
# Where finer steps than this were needed, cuts between all pieces of the table are cheaper.
_SMALLEST_STEP = 0.05
# Nodes of an average over the logistic law in units of its scale: its poles are pi away from the
# real axis, so that this step is exact to rounding; beyond 40 its density is 1e-17.
_LOGISTIC_NODES = np.arange(-40.0, 40.25, 0.5)
_LOGISTIC_WEIGHTS = 0.5 * expit(_LOGISTIC_NODES) * expit(-_LOGISTIC_NODES)
# Intervals in which zeros of a function of one standard normal number are looked for.
_GRID = np.linspace(-_EDGE, _EDGE, 2001)
# Smoothing of a kink over less than this many widths of the normal law is cut out.
_NARROW = 0.5
# A kink of the teacher at R v + sqrt(1 - R^2) w, averaged over w: cuts for v, in widths.
_KINK_CUTS = np.array([-8.0, -4.0, -1.5, 0.0, 1.5, 4.0, 8.0])


def linear_teacher_error(
    gamma: ArrayLike, R: ArrayLike, bias: ArrayLike, slope: float
) -> NDArray[np.float64]:
    """E[(z - g(u))^2] for the field u = gamma v + bias, (z, v) normal with correlation R.

    The teacher's output is its noise-free field z; no test set is involved. For bias = 0 this is
    1 + (1 + a^2) gamma^2 / 2 - (1 + a) gamma R, with a the slope of the negative side.

    Examples
    --------
    >>> float(linear_teacher_error(1.0, 1.0, 0.0, 0.0))
    0.5
    """
    gamma, R, bias = np.broadcast_arrays(
        np.asarray(gamma, float), np.asarray(R, float), np.asarray(bias, float)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bias == 0.0, 0.0, bias / np.abs(gamma))
    positive = ndtr(ratio)  # P(u > 0)
    density = np.exp(-0.5 * ratio**2) / math.sqrt(2.0 * math.pi)
    square = gamma**2 + bias**2
    above = square * positive + bias * np.abs(gamma) * density  # E[u^2; u > 0]
    mean_square = slope**2 * square + (1.0 - slope**2) * above
    correlation = gamma * R * (slope + (1.0 - slope) * positive)  # E[z g(u)], by Stein's lemma
    return 1.0 + mean_square - 2.0 * correlation


def piecewise_teacher_error(
    gamma: ArrayLike, R: ArrayLike, slope: float, teacher_slope: float
) -> NDArray[np.float64]:
    """E[(g_t(z) - g(gamma v))^2] for piecewise-linear teacher and student.

    Examples
    --------
    >>> float(piecewise_teacher_error(1.0, 1.0, 0.0, 0.0))
    0.0
    """
    gamma, R = np.asarray(gamma, float), np.asarray(R, float)
    R = np.clip(R, -1.0, 1.0)
    a, b = slope, teacher_slope
    # g_a(u) = (1 + a) u / 2 + (1 - a) |u| / 2, and E|u||z| is the arc-sine law.
    folded = np.abs(gamma) * (2.0 / math.pi) * (np.sqrt(1.0 - R**2) + R * np.arcsin(R))
    cross = ((1 + a) * (1 + b) * gamma * R + (1 - a) * (1 - b) * folded) / 4.0
    return (1 + b**2) / 2.0 + (1 + a**2) * gamma**2 / 2.0 - 2.0 * cross


def sign_error(gamma: ArrayLike, R: ArrayLike, bias: ArrayLike = 0.0) -> NDArray[np.float64]:
    """P(sign u != sign z) for the field u = gamma v + bias; arccos(R)/pi without bias.

    Examples
    --------
    >>> float(sign_error(0.3, 0.5).round(12)), float(sign_error(1.0, 0.0, 5.0).round(12))
    (0.333333333333, 0.5)
    """
    gamma, R, bias = np.broadcast_arrays(
        np.asarray(gamma, float), np.asarray(R, float), np.asarray(bias, float)
    )
    R = np.clip(R, -1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shifted = 0.5 - 2.0 * owens_t(bias / np.abs(gamma), R / np.sqrt((1.0 - R) * (1.0 + R)))
    return np.where((bias == 0.0) | ~np.isfinite(shifted), np.arccos(R) / math.pi, shifted)


def generalization_error(
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    loss: Loss,
    gamma: NDArray[np.float64],
    R: NDArray[np.float64],
    bias: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """What `gen_error` means: the error rate for a loss of margins, else the mean square."""
    if loss.of == "margin":
        return sign_error(gamma, R, 0.0 if bias is None else bias)
    return student_error(student, teacher, gamma, R, bias)


def student_error(
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    gamma: NDArray[np.float64],
    R: NDArray[np.float64],
    bias: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """E[(g_t(z) - g(gamma v + bias))^2] of any student and teacher, elementwise.

    Examples
    --------
    >>> from replica.students import ERF
    >>> student_error(ERF, ERF, np.array([0.0]), np.array([0.0])).round(6)  # E erf(z/sqrt 2)^2
    array([0.333333])
    """
    if isinstance(student, LeakyReLU) and teacher == LINEAR and bias is not None:
        return linear_teacher_error(gamma, R, bias, student.slope)
    centered = bias is None or not np.any(bias)
    if centered and isinstance(student, LeakyReLU) and isinstance(teacher, LeakyReLU):
        return piecewise_teacher_error(gamma, R, student.slope, teacher.slope)
    errors = np.full(gamma.shape, np.nan)
    target = teacher.table(16.0)
    shift = np.zeros(gamma.shape) if bias is None else bias
    for i in zip(*np.nonzero(np.isfinite(gamma)), strict=True):
        try:
            with np.errstate(over="ignore"):
                table = table_reaching(student, float(_EDGE * abs(gamma[i]) + abs(shift[i])))
        except (ArgumentError, OverflowError):
            continue
        errors[i] = _averaged_square(table, target, gamma[i], R[i], shift[i])
    return errors


@jit
def _narrowest(table):
    """Width of the narrowest piece where fields of a normal student are."""
    width = 16.0
    for i in range(table.breaks.size - 1):
        if abs(table.breaks[i]) < 16.0:
            width = min(width, table.breaks[i + 1] - table.breaks[i])
    return width


@jit
def _rule(cuts, step):
    """Nodes and weights of an average over N(0, 1): trapezoidal without cuts, else between them."""
    if not cuts.size:
        n = math.ceil(_EDGE / step)
        nodes = step * np.arange(-n, n + 1)
        return nodes, step / math.sqrt(2.0 * math.pi) * np.exp(-0.5 * nodes**2)
    largest = min(_LARGEST_GAP, _GAP_IN_STEPS * step)
    edges = np.concatenate((np.array([-_EDGE]), cuts[np.abs(cuts) < _EDGE], np.array([_EDGE])))
    edges.sort()
    pieces = np.ceil(np.diff(edges) / largest)
    nodes = np.empty(int(pieces.sum()) * _NODES.size)
    weights = np.empty(nodes.size)
    k = 0
    for i in range(pieces.size):
        half = (edges[i + 1] - edges[i]) / pieces[i] / 2
        for piece in range(int(pieces[i])):
            for j in range(_NODES.size):
                nodes[k] = edges[i] + (2 * piece + 1 + _NODES[j]) * half
                weights[k] = half / math.sqrt(2.0 * math.pi) * _WEIGHTS[j]
                k += 1
    return nodes, weights * np.exp(-0.5 * nodes**2)


@jit
def _averaged_square(table, target, gamma, R, bias):
    """E[(g_t(R v + sqrt(1 - R^2) w) - g(gamma v + bias))^2] over v, w ~ N(0, 1)."""
    R = min(max(R, -1.0), 1.0)
    sine = math.sqrt((1.0 - R) * (1.0 + R))
    inner_step = min(_LARGEST_STEP, _STEP_IN_PIECES * _narrowest(target))
    step = min(inner_step, _STEP_IN_PIECES * _narrowest(table) / max(abs(gamma), 1e-10))
    inner_cuts = target.kinks if inner_step >= _SMALLEST_STEP else target.breaks
    cuts = np.empty(0)
    if gamma != 0.0:
        cuts = ((table.kinks if step >= _SMALLEST_STEP else table.breaks) - bias) / gamma
    if R != 0.0:
        cuts = np.concatenate((cuts, (target.kinks[:, None] + sine * _KINK_CUTS).ravel() / R))
        if inner_step < _SMALLEST_STEP:
            cuts = np.concatenate((cuts, inner_cuts / R))
    # Between all breaks of a table the rule needs no finer steps than its other function does.
    inner_step = inner_step if inner_step >= _SMALLEST_STEP else _LARGEST_GAP
    v, weight = _rule(cuts, step if step >= _SMALLEST_STEP else inner_step)
    w, share = _rule(inner_cuts, inner_step)
    total = 0.0
    for i in range(v.size):
        output = activation_value(table.breaks, table.series, gamma * v[i] + bias)
        if sine == 0.0:
            z = R * v[i]
            total += weight[i] * (activation_value(target.breaks, target.series, z) - output) ** 2
            continue
        if inner_cuts.size:
            w, share = _rule((inner_cuts - R * v[i]) / sine, inner_step)
        for j in range(w.size):
            z = R * v[i] + sine * w[j]
            # Beyond 16 the density is 1e-56, and the table ends.
            z = min(max(z, target.breaks[0]), target.breaks[-1])
            miss = activation_value(target.breaks, target.series, z) - output
            total += weight[i] * share[j] * miss * miss
    return total


def fresh_loss(
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
    S: float,
    loss: Loss,
    gamma: NDArray[np.float64],
    R: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> NDArray[np.float64]:
    """E l(y, g(gamma v + bias)) on fresh samples with their noise, elementwise.

    Examples
    --------
    >>> from replica.losses import ABSOLUTE
    >>> one = np.array([1.0])
    >>> fresh_loss(LINEAR, LINEAR, "output", 0.25, ABSOLUTE, one, one, 0 * one).round(12)
    array([0.39894228])
    """
    if loss == SQUARE and (noise == "output" or teacher == LINEAR):
        return 0.5 * (student_error(student, teacher, gamma, R, bias) + S)
    found = np.full(gamma.shape, np.nan)
    average = _FreshLoss(student, teacher, noise, S, loss)
    for i in zip(*np.nonzero(np.isfinite(gamma)), strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                found[i] = average(float(gamma[i]), float(R[i]), float(bias[i]))
            except (ArgumentError, OverflowError):
                continue
    return found


def normal_margin_loss(
    loss: Loss, fraction: float, mean: NDArray[np.float64], sd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """E l(y, u) where y u ~ N(mean, sd^2) and a fraction of the labels y is +1, elementwise.

    Examples
    --------
    >>> normal_margin_loss(SQUARE, 0.5, np.array([0.5]), np.array([1.0]))
    array([0.625])
    """
    found = np.full(mean.shape, np.nan)
    kinks = np.array(_kinks_of(loss))
    for i in zip(*np.nonzero(np.isfinite(mean) & np.isfinite(sd)), strict=True):
        total = 0.0
        for y, share in ((1.0, fraction), (-1.0, 1.0 - fraction)):
            at = kinks if loss.of == "margin" else 1.0 - y * kinks
            cuts = (at - mean[i]) / sd[i] if sd[i] > 0.0 else np.empty(0)
            v, weight = _gauss(_edges(cuts, _LARGEST_GAP)[None, :])
            x = mean[i] + sd[i] * v[0]
            total += share * float(weight[0] @ loss.values(x if loss.of == "margin" else y - y * x))
        found[i] = total
    return found


class _FreshLoss:
    """E l(y, g(u)) of one student, teacher and loss: called with gamma, R and the bias.

    The field along the student is v; given v, the labels are averaged first.
    """

    def __init__(
        self,
        student: LeakyReLU | Student,
        teacher: LeakyReLU | Student,
        noise: NoiseWord | Flip,
        S: float,
        loss: Loss,
    ) -> None:
        self.student, self.teacher = student, teacher
        self.grows = loss == EXPONENTIAL
        self.signs = labels_are_signs(teacher, noise, S)
        self.flip = noise.probability if isinstance(noise, Flip) else 0.0
        #: Scale of logistic noise, and the variance of normal noise that adds to the field.
        self.scale = math.sqrt(3.0 * S) / math.pi if noise == "logistic" else 0.0
        inside = noise != "output" or teacher == LINEAR
        self.variance = S if inside and noise != "logistic" else 0.0
        # Noise added to an output that is no sum with the field is an average of the loss.
        self.added = 0.0 if inside or self.signs else math.sqrt(S)
        if self.added:
            # Where rounding keeps it from a table, there is an average for each value.
            with suppress(ArgumentError):
                loss, self.added = _smoothed(loss, self.added), 0.0
        self.tables = Tables(student, loss)
        self.kinks = np.array(_kinks_of(loss))

    def __call__(self, gamma: float, R: float, bias: float) -> float:
        R = min(max(R, -1.0), 1.0)
        sine = math.sqrt((1.0 - R) * (1.0 + R))
        if self.student == LINEAR and self.teacher == LINEAR:  # z - u is one normal number
            width = math.hypot(gamma - R, math.sqrt(sine**2 + self.variance))
            return float(self._averaged(np.array([-bias]), width, np.zeros(1))[0])
        # Where the normal law times an exponential is largest.
        edge = _EDGE + (abs(gamma) if self.grows else 0.0)
        reach = edge * abs(gamma) + abs(bias)
        table = table_reaching(self.student, reach)
        step = _STEP_IN_PIECES * _narrowest(table) / max(abs(gamma), 1e-10)
        cuts = [np.empty(0)]
        if gamma:
            cuts.append(((table.kinks if step >= _SMALLEST_STEP else table.breaks) - bias) / gamma)
        width = math.sqrt(sine**2 + self.variance)

        def outputs(v: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.tables.outputs(gamma * v + bias)

        if R:
            kinks = np.array([0.0] if self.signs else self.teacher.kinks)
            cuts.append((kinks[:, None] + width * _KINK_CUTS).ravel() / R)
        if self.signs:
            for label in (1.0, -1.0):
                for kink in self.kinks:
                    level = label * kink if self.tables.margin else label - kink
                    cuts.append(_zeros(outputs(_GRID) - level))
        elif self.added == 0.0 and width < _NARROW:
            target = self.teacher.values(R * _GRID)
            for kink in self.kinks:
                miss = target - outputs(_GRID) - kink
                zeros = _zeros(miss)
                steepness = np.abs(np.interp(zeros, _GRID, np.gradient(miss, _GRID)))
                spread = width / np.maximum(steepness, _NARROW)
                cuts.append((zeros[:, None] + spread[:, None] * _KINK_CUTS).ravel())
        gap = min(_LARGEST_GAP, _GAP_IN_STEPS * max(step, _SMALLEST_STEP))
        edges = _edges(np.concatenate(cuts), gap, edge)
        v, weight = _gauss(edges[None, :])
        v, weight = v[0], weight[0]
        g = outputs(v)
        if self.signs:
            plus = self._probability(R * v, sine)
            average = plus * self._losses(np.ones(v.size), g)
            average += (1.0 - plus) * self._losses(-np.ones(v.size), g)
        else:
            average = self._averaged(R * v, width, g)
        return float(weight @ average)

    def _losses(self, y: NDArray[np.float64], g: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.tables.losses(y, g)

    def _probability(self, center: NDArray[np.float64], sine: float) -> NDArray[np.float64]:
        """P(y = 1) at teacher's fields N(center, sine^2)."""
        width = math.sqrt(sine**2 + self.variance)
        if self.scale > sine:
            nodes, weights = _gauss(_edges(np.empty(0), 1.0)[None, :])
            plus = expit((center[:, None] + sine * nodes) / self.scale) @ weights[0]
        elif self.scale:
            shifted = center[:, None] + self.scale * _LOGISTIC_NODES
            plus = ndtr(shifted / sine) @ _LOGISTIC_WEIGHTS
        elif width:
            plus = ndtr(center / width)
        else:
            plus = np.heaviside(center, 0.5)
        return self.flip + (1.0 - 2.0 * self.flip) * plus

    def _averaged(
        self, center: NDArray[np.float64], width: float, g: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """E l(y, g) over labels of fields N(center, width^2), and the noise beside, elementwise."""
        shifts, shares = np.zeros(1), np.ones(1)
        if self.scale:
            shifts, shares = self.scale * _LOGISTIC_NODES, _LOGISTIC_WEIGHTS
        elif self.added:
            x, weights = _gauss(_edges(np.empty(0), _LARGEST_GAP)[None, :])
            shifts, shares = self.added * x[0], weights[0]
        average = np.zeros(center.size)
        for shift, share in zip(shifts, shares, strict=True):
            # Logistic noise goes inside the activation, normal noise of an output beside it.
            inside, outside = (shift, 0.0) if self.scale else (0.0, shift)
            average += share * self._row(center + inside, width, g - outside)
        return average

    def _row(
        self, center: NDArray[np.float64], width: float, g: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """E l(g_t(center + width x) - g) over x ~ N(0, 1), a row for each element."""
        if width == 0.0:
            return self._losses(self.teacher.values(center), g)
        base = _edges(np.empty(0), _LARGEST_GAP)
        cuts = [np.broadcast_to(base, (center.size, base.size))]
        cuts += [(kink - center[:, None]) / width for kink in self.teacher.kinks]
        for kink in self.kinks:
            if self.teacher == LINEAR:
                cuts.append((g + kink - center)[:, None] / width)
            else:
                cuts.append(self._crossing(center, width, g + kink)[:, None])
        edges = np.sort(np.clip(np.concatenate(cuts, axis=1), -_EDGE, _EDGE), axis=1)
        x, weight = _gauss(edges)
        y = quick_values(self.teacher, center[:, None] + width * x)
        found = self._losses(y.ravel(), np.repeat(g, x.shape[1])).reshape(x.shape)
        return np.sum(weight * found, axis=1)

    def _crossing(
        self, center: NDArray[np.float64], width: float, level: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Where a monotone teacher's output is `level`, in widths; at an edge if nowhere."""
        low, high = np.full(center.size, -_EDGE), np.full(center.size, _EDGE)
        falls = quick_values(self.teacher, center + width * high) < quick_values(
            self.teacher, center + width * low
        )
        for _ in range(50):
            middle = 0.5 * (low + high)
            above = quick_values(self.teacher, center + width * middle) > level
            up = above ^ falls
            high, low = np.where(up, middle, high), np.where(up, low, middle)
        return 0.5 * (low + high)


def _kinks_of(loss: Loss) -> tuple[float, ...]:
    return loss.kinks if loss.strips is None else loss.strips.breaks


def _smoothed(loss: Loss, width: float) -> Loss:
    """The average of a loss of residuals over noise N(0, width^2)."""
    tables, kinks = Tables(LINEAR, loss), np.array(_kinks_of(loss))
    base = _edges(np.empty(0), _LARGEST_GAP)

    def smoothed(r: ArrayLike) -> NDArray[np.float64]:
        flat = np.asarray(r, float).reshape(-1, 1)
        edges = np.concatenate(
            [np.broadcast_to(base, (flat.size, base.size)), (kinks - flat) / width], axis=1
        )
        x, weight = _gauss(np.sort(np.clip(edges, -_EDGE, _EDGE), axis=1))
        residuals = (flat + width * x).ravel()
        values = tables.losses(residuals, np.zeros(residuals.size)).reshape(x.shape)
        return np.sum(weight * values, axis=1).reshape(np.shape(r))

    return Loss(smoothed)


def _zeros(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zeros of a function known on `_GRID`, by straight lines."""
    changes = np.flatnonzero(np.signbit(values[1:]) != np.signbit(values[:-1]))
    left, right = values[changes], values[changes + 1]
    share = left / np.where(left == right, 1.0, left - right)
    return _GRID[changes] + share * (_GRID[1] - _GRID[0])


def _edges(cuts: NDArray[np.float64], gap: float, edge: float = _EDGE) -> NDArray[np.float64]:
    """Edges on [-edge, edge] that contain the cuts, no farther apart than `gap`."""
    edges = np.unique([-edge, *cuts[np.abs(cuts) < edge], edge])
    pieces = np.ceil(np.diff(edges) / gap).astype(int)
    gaps = zip(edges[:-1], edges[1:], pieces, strict=True)
    parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in gaps]
    return np.concatenate([*parts, edges[-1:]])


def _gauss(edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of averages over N(0, 1) between edges, row by row."""
    half = np.diff(edges, axis=1)[..., None] / 2
    nodes = ((edges[:, :-1] + edges[:, 1:])[..., None] / 2 + half * _NODES).reshape(len(edges), -1)
    weights = (half * _WEIGHTS).reshape(len(edges), -1)
    return nodes, weights * np.exp(-0.5 * nodes**2) / math.sqrt(2.0 * math.pi)
