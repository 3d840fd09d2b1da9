"""Numba loops of the simulators: one gradient for every normalizer, student and engine.

The normalizers differ in two switches: `center` (is the batch mean subtracted) and `scale` (what
the field is divided by: nothing, the norm |w|/sqrt(N), or the root mean square of the batch).

Fast math is for loops that either sum or store, never both: a loop that does both is compiled in
two versions, and which one runs, hence the order of the sum, depends on where the arrays lie.

An activation is its slope on the negative side, with None for a table, or an `ActivationTable`; a
loss is None, the square, or a `LossTable`: by the types the compiler decides, which costs the
piecewise-linear students and the square loss nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.activation_table import activation_at, activation_value
from replica._core.jit import jit
from replica._core.status import Status

SCALE_NONE, SCALE_NORM, SCALE_BATCH = 0, 1, 2
# Plain numbers, as compiled code wants them.
DONE, DIVERGENT, RUNNING = int(Status.DONE), int(Status.DIVERGENT), int(Status.RUNNING)


class Gradient(NamedTuple):
    """-dE/dw = b w + sum_j c_j x_j, and dgamma = -(dE/dv)/sqrt(N) for v = sqrt(N) gamma.

    `furthest` is the argument of a tabulated activation that is largest in size, 0 without a table;
    `loss_furthest` the argument of the loss farthest beyond its table, 0 if none is.
    """

    b: float
    dgamma: float
    furthest: float
    loss_furthest: float


class LossTable(NamedTuple):
    """l, l', l'' as piecewise Chebyshev series in t = (x - centers[k]) inverses[k].

    The argument x is y - g, or y g if `margin`. `breaks` are the inner edges of the pieces, and
    `series` has shape (3, n, degree + 1). Strips of a piecewise-quadratic loss have center 0 and
    inverse 1 and reach everywhere; other tables end at `lower` and `upper`.
    """

    margin: bool
    breaks: NDArray[np.float64]
    centers: NDArray[np.float64]
    inverses: NDArray[np.float64]
    series: NDArray[np.float64]
    lower: float
    upper: float


class WeightState(NamedTuple):
    """What `train_epoch` keeps beside the weights w and their velocity; L is |w|/sqrt(N)."""

    gamma: float
    gamma_velocity: float
    L: float


class ChainState(NamedTuple):
    """gamma, and the components of w/sqrt(N) along and across the teacher."""

    gamma: float
    parallel: float
    across: float


class Progress(NamedTuple):
    """How far some steps have come.

    `status` is DONE, DIVERGENT (the last step made the state run away), or RUNNING: the next step
    has not been made, since it asks for the activation at `furthest` or for the loss at
    `loss_furthest`, beyond a table.
    """

    state: Any
    steps: int
    status: int
    furthest: float
    loss_furthest: float


@jit
def loss_in(loss, order, k, x):
    """The derivative of this order at x, by the series of piece k."""
    t = (x - loss.centers[k]) * loss.inverses[k]
    b1 = 0.0
    b2 = 0.0
    for n in range(loss.series.shape[2] - 1, 0, -1):
        b1, b2 = loss.series[order, k, n] + 2.0 * t * b1 - b2, b1
    return loss.series[order, k, 0] + t * b1 - b2


@jit
def loss_at(loss, order, x):
    """The derivative of this order at x; from the right at a kink."""
    low = 0
    high = loss.breaks.size
    while low < high:
        middle = (low + high) // 2
        if x >= loss.breaks[middle]:
            low = middle + 1
        else:
            high = middle
    return loss_in(loss, order, low, x)


@jit
def outside(loss, x, furthest):
    """Of x, if it is beyond the table, and `furthest` the one that is larger in size."""
    if (x < loss.lower or x > loss.upper) and abs(x) > abs(furthest):
        return x
    return furthest


@jit
def losses(loss, order, x, out):
    """The derivative of this order, elementwise; returns the x farthest beyond the table, or 0."""
    furthest = 0.0
    for j in range(x.size):
        furthest = outside(loss, x[j], furthest)
        out[j] = loss_at(loss, order, x[j])
    return furthest


@jit
def beyond(table, furthest, loss_furthest):
    """Whether a step asks for more than its tables hold."""
    # A branch of its own: where there is no table the compiler must not look for its breaks.
    if table is not None:
        return loss_furthest != 0.0 or not abs(furthest) <= table.breaks[-1]
    return loss_furthest != 0.0


@jit
def backpropagate(u, y, keep, gamma, L, N, center, scale, slope, slope_up, table, loss, c):
    """Negative gradient of sum_j l(y_j, keep_j g(h_j)) through the normalization.

    `u` holds the fields w.x_j, `c` receives -dE/du_j. `slope_up` is the negative-side slope used
    for samples with y > 0 (annealing). Beyond a table nothing is right but the arguments asked for.
    """
    M = u.size
    mean = 0.0
    if center:
        for j in range(M):
            mean += u[j]
        mean /= M
    if scale == SCALE_BATCH:
        square = 0.0
        for j in range(M):
            square += (u[j] - mean) ** 2
        divisor = math.sqrt(square / M)
    elif scale == SCALE_NORM:
        divisor = L
    else:
        divisor = 1.0
        gamma = 1.0
    inverse = 1.0 / divisor
    sum_delta = 0.0
    sum_delta_h = 0.0
    furthest = 0.0
    loss_furthest = 0.0
    for j in range(M):
        hat = (u[j] - mean) * inverse
        h = gamma * hat
        k = keep[j] if keep.size else 1.0
        if table is None:
            derivative = 1.0
            if h < 0.0:
                derivative = slope_up if y[j] > 0.0 else slope
            output = derivative * h
        else:
            output, derivative, _ = activation_at(table.breaks, table.series, h)
            if abs(h) > abs(furthest):
                furthest = h
        if loss is None:
            delta = k * derivative * (y[j] - k * output)
        else:
            x = y[j] * k * output if loss.margin else y[j] - k * output
            loss_furthest = outside(loss, x, loss_furthest)
            delta = k * derivative * loss_at(loss, 1, x)
            if loss.margin:
                delta *= -y[j]
        sum_delta += delta
        sum_delta_h += delta * hat
        c[j] = delta
    mean_delta = sum_delta / M if center else 0.0
    mean_delta_h = sum_delta_h / M if scale == SCALE_BATCH else 0.0
    factor = gamma * inverse
    for j in range(M):
        hat = (u[j] - mean) * inverse
        c[j] = factor * (c[j] - mean_delta - hat * mean_delta_h)
    if scale == SCALE_NONE:
        return Gradient(0.0, 0.0, furthest, loss_furthest)
    b = -gamma * sum_delta_h / (N * L * L) if scale == SCALE_NORM else 0.0
    return Gradient(b, sum_delta_h / N, furthest, loss_furthest)


@jit
def tabulated(table, u):
    """g(u) of a tabulated activation, elementwise."""
    out = np.empty(u.size)
    for i in range(u.size):
        out[i] = activation_value(table.breaks, table.series, u[i])
    return out


@jit(fastmath=True)
def project(X, rows, w, u):
    """u[j] = X[rows[j]] . w, four rows at a time so that w is read once for all four."""
    n = w.size
    blocked = rows.size - rows.size % 4
    for j in range(0, blocked, 4):
        x0, x1, x2, x3 = X[rows[j]], X[rows[j + 1]], X[rows[j + 2]], X[rows[j + 3]]
        s0, s1, s2, s3 = x0[0] * w[0], x1[0] * w[0], x2[0] * w[0], x3[0] * w[0]
        for i in range(1, n):
            s0 += x0[i] * w[i]
            s1 += x1[i] * w[i]
            s2 += x2[i] * w[i]
            s3 += x3[i] * w[i]
        u[j], u[j + 1], u[j + 2], u[j + 3] = s0, s1, s2, s3
    for j in range(blocked, rows.size):
        x0 = X[rows[j]]
        s0 = x0[0] * w[0]
        for i in range(1, n):
            s0 += x0[i] * w[i]
        u[j] = s0


@jit(fastmath=True)
def accumulate(X, rows, c, d):
    """d += sum_j c[j] X[rows[j]], eight rows at a time so that d is written once for all eight."""
    n = d.size
    blocked = rows.size - rows.size % 8
    for j in range(0, blocked, 8):
        x0, x1, x2, x3 = X[rows[j]], X[rows[j + 1]], X[rows[j + 2]], X[rows[j + 3]]
        x4, x5, x6, x7 = X[rows[j + 4]], X[rows[j + 5]], X[rows[j + 6]], X[rows[j + 7]]
        c0, c1, c2, c3 = c[j], c[j + 1], c[j + 2], c[j + 3]
        c4, c5, c6, c7 = c[j + 4], c[j + 5], c[j + 6], c[j + 7]
        for i in range(n):
            left = (c0 * x0[i] + c1 * x1[i]) + (c2 * x2[i] + c3 * x3[i])
            right = (c4 * x4[i] + c5 * x5[i]) + (c6 * x6[i] + c7 * x7[i])
            d[i] += left + right
    for j in range(blocked, rows.size):
        x0, c0 = X[rows[j]], c[j]
        for i in range(n):
            d[i] += c0 * x0[i]


@jit(fastmath=True)
def sum_of_squares(w):
    """|w|^2."""
    square = w[0] * 0
    for i in range(w.size):
        square += w[i] * w[i]
    return square


@jit(fastmath=True)
def order_parameters(w):
    """w.w*/N and |w|/sqrt(N), in float64; the teacher is (1, ..., 1).

    The one measurement of a state: at the start, between epochs, at records and at the end. Two
    loops that sum the same numbers in another order differ in the last bit, on some processors.
    """
    parallel = 0.0
    square = 0.0
    for i in range(w.size):
        value = np.float64(w[i])
        parallel += value
        square += value * value
    return parallel / w.size, math.sqrt(square / w.size)


@jit(fastmath=True)
def train_epoch(
    X, y, order, batch_size, w, d, state, keep, u, batch_y, c,
    center, scale, slope, slope_up, table, loss, eta, decay, momentum, limit,
):  # fmt: skip
    """Mini-batch gradient descent along `order`, until |w|/sqrt(N) or gamma is beyond `limit`.

    `state` is a `WeightState`; `d` is the velocity of w; `decay` is the share of the weight decay
    that belongs to one batch. Rows beyond the last full batch wait for the next order.
    """
    N = w.size
    rate = w.dtype.type(eta)
    inertia = w.dtype.type(momentum)
    gamma, gamma_velocity, L = state.gamma, state.gamma_velocity, state.L
    steps = 0
    for start in range(0, order.size - batch_size + 1, batch_size):
        rows = order[start : start + batch_size]
        for j in range(batch_size):
            batch_y[j] = y[rows[j]]
        project(X, rows, w, u)
        mask = keep[start : start + batch_size] if keep.size else keep
        b, dgamma, furthest, loss_furthest = backpropagate(
            u, batch_y, mask, gamma, L, N, center, scale, slope, slope_up, table, loss, c
        )
        if beyond(table, furthest, loss_furthest):
            state = WeightState(gamma, gamma_velocity, L)
            return Progress(state, steps, RUNNING, furthest, loss_furthest)
        if scale == SCALE_NONE:
            b -= decay
        else:
            gamma_velocity = momentum * gamma_velocity + dgamma - decay * gamma
            gamma += eta * gamma_velocity
        shrink = w.dtype.type(b)
        for i in range(N):
            d[i] = inertia * d[i] + shrink * w[i]
        accumulate(X, rows, c, d)
        for i in range(N):
            w[i] += rate * d[i]
        L = math.sqrt(sum_of_squares(w) / N)
        steps += 1
        if not (abs(gamma) < limit and abs(L) < limit):
            return Progress(WeightState(gamma, gamma_velocity, L), steps, DIVERGENT, 0.0, 0.0)
    return Progress(WeightState(gamma, gamma_velocity, L), steps, DONE, 0.0, 0.0)


@jit(fastmath=True)
def field_moments(u):
    """Mean and mean square of the fields."""
    mean = 0.0
    square = 0.0
    for j in range(u.size):
        mean += u[j]
        square += u[j] * u[j]
    return mean / u.size, square / u.size


@jit(fastmath=True)
def squared_error(u, y, factor, shift, slope):
    """Mean of (y - g(h))^2 and the fraction of samples with y > 0 > h, h = factor u + shift."""
    total = 0.0
    dead = 0
    for j in range(u.size):
        h = factor * u[j] + shift
        if h < 0.0:
            if y[j] > 0.0:
                dead += 1
            h *= slope
        total += (y[j] - h) ** 2
    return total / u.size, dead / u.size


@jit
def teacher_output(slope, table, z):
    """The teacher's activation at z; what reaches beyond its table is refused before."""
    if table is None:
        return z if z > 0.0 else slope * z
    return activation_value(table.breaks, table.series, z)


@jit
def online_chain(
    fields, noise, inside, flips, rest, first, state, N, center, scale, slope, table, loss,
    teacher_slope, teacher_table, eta, decay, limit,
):  # fmt: skip
    """Advance the order parameters by one step per row of `fields`, beginning with row `first`.

    `state` is a `ChainState`. ``fields[k, 0, j]`` and ``fields[k, 1, j]`` are the standard normal
    fields along w and along the part of the teacher orthogonal to it, ``rest[k]`` is the chi-square
    variable of the other directions. The noise stands `inside` the teacher's activation or not;
    `flips` are factors of the labels, or empty. 1 - R^2 is never formed, so R may come as close to
    1 as it likes.
    """
    M = fields.shape[2]
    u = np.empty(M)
    y = np.empty(M)
    c = np.empty(M)
    keep = np.empty(0)
    gamma, parallel, across = state.gamma, state.parallel, state.across
    for k in range(first, fields.shape[0]):
        L = math.hypot(parallel, across)
        if L > 0.0:
            cosine, sine = parallel / L, across / L
        else:
            cosine, sine = 1.0, 0.0
        # Two loops without switches inside: the compiler then takes several samples at a time.
        if inside:
            for j in range(M):
                u[j] = L * fields[k, 0, j]
                z = cosine * fields[k, 0, j] + sine * fields[k, 1, j]
                y[j] = teacher_output(teacher_slope, teacher_table, z + noise[k, j])
        else:
            for j in range(M):
                u[j] = L * fields[k, 0, j]
                z = cosine * fields[k, 0, j] + sine * fields[k, 1, j]
                y[j] = teacher_output(teacher_slope, teacher_table, z) + noise[k, j]
        if flips.size:
            for j in range(M):
                y[j] *= flips[k, j]
        b, dgamma, furthest, loss_furthest = backpropagate(
            u, y, keep, gamma, L, N, center, scale, slope, slope, table, loss, c
        )
        if beyond(table, furthest, loss_furthest):
            state = ChainState(gamma, parallel, across)
            return Progress(state, k - first, RUNNING, furthest, loss_furthest)
        if scale == SCALE_NONE:
            b -= decay
        else:
            gamma += eta * (dgamma - decay * gamma)
        along = 0.0
        orthogonal = 0.0
        square = 0.0
        for j in range(M):
            along += c[j] * fields[k, 0, j]
            orthogonal += c[j] * fields[k, 1, j]
            square += c[j] * c[j]
        forward = (1.0 + eta * b) * L + eta * along / N
        sideways = eta * orthogonal / N
        remainder = eta * eta * square * rest[k] / (N * N)
        parallel = cosine * forward + sine * sideways
        across = math.sqrt((sine * forward - cosine * sideways) ** 2 + remainder)
        if scale == SCALE_NONE:
            gamma = math.hypot(parallel, across)
        if not (abs(parallel) < limit and across < limit and abs(gamma) < limit):
            state = ChainState(gamma, parallel, across)
            return Progress(state, k + 1 - first, DIVERGENT, 0.0, 0.0)
    state = ChainState(gamma, parallel, across)
    return Progress(state, fields.shape[0] - first, DONE, 0.0, 0.0)
