"""Saddle point of the Gibbs measure exp(-beta E) at any temperature, any student, any teacher.

One sample sees the field u = omega + sqrt(V) times a normal variable, V = q - gamma^2, through

    ln Z(y, omega, V) = ln E_u[exp(-beta (y - g(u))^2 / 2)],

in closed form for piecewise-linear students (two error functions, in log space), by quadrature
around the minima of the exponent for all others. With chi = beta V and f = (d ln Z/d omega) / beta
the saddle point of eq. 19 has the form of the zero-temperature one,

    chi = 1 / (zeta - alpha g0),  m = alpha g1 chi,  gamma^2 = (alpha^2 g1^2 + alpha E[f^2]) chi^2,

and meets it as beta grows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from replica._core.activation_table import activation_at, activation_value
from replica._core.jit import jit
from replica.inputs import Inputs
from replica.students import LeakyReLU, StudentLike, as_student

from ._equilibrium import Equilibrium, Noise
from ._proximal import (
    Array,
    PreparedActivation,
    Room,
    envelope,
    new_room,
    switching_outputs,
)
from ._saddle_point import Averages, solve_all
from ._teacher_average import REACH, Rule, Teacher, graded_edges, outer_rule
from ._zero_temperature import normal_moments, zero_temperature_averages

__all__ = ["GibbsAverages", "gibbs_averages", "sample_free_energy", "solve_finite_temperature"]

# Wider pieces than EDGES: f is smooth in omega, with edges of its own wherever it bends; so the
# center of the normal law, where they would meet, may lie inside a piece.
_BASE = np.array([-REACH, -4.5, -1.5, 1.5, 4.5, REACH])
_LN_ROOT_2PI = 0.5 * math.log(2 * math.pi)
# Minima of the exponent this far above the lowest contribute less than 1e-17.
_NEGLIGIBLE = 40.0
# Standard deviations beyond which a normal law has 2e-16 of its mass.
_FAR = 8.1


def solve_finite_temperature(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike,
    beta: ArrayLike,
    *,
    student: StudentLike,
    teacher: StudentLike = "linear",
    noise: Noise = "output",
    inputs: Inputs | None = None,
) -> Equilibrium:
    """Equilibrium of the Gibbs measure exp(-beta E) of any student with any teacher.

    Parameters
    ----------
    alpha, S, zeta : float or array_like
        Load P/N > 0, variance of the label noise >= 0, ridge coefficient >= 0 of the sum
        convention.
    beta : float or array_like
        Inverse temperature, positive; inf is zero temperature. All four broadcast.
    student, teacher : str, LeakyReLU or Student
        Activations g of the student and phi of the teacher.
    noise : {"output", "input"}
        Label y = phi(z) + s, or y = phi(z + s) as in eq. 20.
    inputs : Inputs, optional
        See `solve_equilibrium`.

    Returns
    -------
    Equilibrium
        Elements that did not converge are NaN and reported by a `ConvergenceWarning`.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or an activation is not a smooth function between its
        declared kinks. An exception raised by an activation is passed on.

    Notes
    -----
    Theory: :eq:`eq-gibbs-saddle-point` in :doc:`/finite_temperature`.

    Examples
    --------
    >>> result = solve_finite_temperature(1.0, 0.25, 0.25, 10.0, student="relu")
    >>> round(float(result.chi), 5), round(float(result.gamma * result.R), 5)
    (2.3317..., 0.4179...)
    """
    who = as_student(student)
    slope = who.slope if isinstance(who, LeakyReLU) else math.nan

    def make(inverse: float) -> Averages:
        if math.isinf(inverse):
            return zero_temperature_averages

        def averages(
            table: PreparedActivation, law: Teacher, chi: float, m: float, q: float, rule: Rule
        ) -> GibbsAverages:
            return gibbs_averages(table, slope, law, inverse, chi, m, q, rule)

        return averages

    return solve_all(
        make,
        alpha,
        S,
        zeta,
        beta,
        student=who,
        teacher=teacher,
        noise=noise,
        inputs=inputs,
        closed_form=True,
    )


class GibbsAverages(NamedTuple):
    """Averages over one sample: F = E[f^2], g0 = E[df/domega], g1 = E[df/dt], and its energies.

    The loss is E<(y - g)^2>, the replicon integral E[(var_u / V - 1)^2].
    """

    F: float
    g0: float
    g1: float
    loss: float
    replicon: float
    ln_Z: float


@jit
def gibbs_averages(
    student: PreparedActivation,
    slope: float,
    teacher: Teacher,
    beta: float,
    chi: float,
    m: float,
    q: float,
    rule: Rule,
) -> GibbsAverages:
    """Average over one sample.

    `q` is the overlap of two replicas (gamma^2), ``chi = beta V``; `slope` is the slope of the
    negative side of a piecewise-linear student, NaN for any other. NaN where
    an intermediate value is not finite.
    """
    tau2 = q - m * m / teacher.variance
    out = np.zeros(6)
    if not (tau2 >= 0.0 and chi > 0.0):
        nan = np.nan
        return GibbsAverages(nan, nan, nan, nan, nan, nan)
    tau = math.sqrt(tau2)
    V = chi / beta
    width = math.sqrt(V)
    switches = switching_outputs(student, chi)
    # The scales at which a switch in y is rounded: by temperature and by the law of omega.
    thermal = 0.3 * min(width, min(1.0, 1.0 / math.sqrt(chi)) / math.sqrt(beta))
    scale = max(thermal, 0.2 * min(tau, 1.0) / (1.0 + chi))
    t, y, w = outer_rule(teacher, switches, max(scale, 1e-6), rule)
    nodes, weights, _ = rule
    n = student.u.size
    room = new_room(student)
    centers = np.empty(4 * n + 4)
    widths = np.empty(4 * n + 4)
    exponent = np.empty(n)
    sums = np.empty(6)
    for i in range(t.size):
        if w[i] < 1e-18:
            continue
        mean = m * t[i] / teacher.variance
        found = 0
        if tau > 0.0 and slope == slope:
            found = _piecewise_features(y[i], chi, beta, slope, mean, tau, centers, widths)
        elif tau > 0.0 and width < tau * (1.0 + chi):
            found = _features(student, y[i], chi, beta, mean, tau, room, centers, widths)
        edges = graded_edges(_BASE, centers[:found], widths[:found], 1.0)
        if tau == 0.0:
            edges = np.array([-1.0, 1.0])
        first = 0
        last = edges.size - 1
        if tau > 0.0 and slope == slope:
            # Where one branch is left alone f is linear in omega, and nothing has to be summed.
            sums[:] = 0.0
            while first < last and _alone(
                y[i], mean + tau * edges[first + 1], V, beta, slope, -1.0
            ):
                first += 1
            _add_branch(y[i], slope, mean, tau, edges[0], edges[first], chi, beta, sums)
            while first < last and _alone(y[i], mean + tau * edges[last - 1], V, beta, slope, 1.0):
                last -= 1
            _add_branch(y[i], 1.0, mean, tau, edges[last], edges[edges.size - 1], chi, beta, sums)
            sums[2] *= t[i]
            out += w[i] * sums
        for k in range(first, last):
            length = edges[k + 1] - edges[k]
            if length < 1e-13:
                continue
            for j in range(nodes.size):
                v = edges[k] + length * nodes[j]
                p = w[i] * weights[j] * length * math.exp(-0.5 * v * v - _LN_ROOT_2PI)
                if tau == 0.0:
                    v = 0.0
                    p = w[i] * weights[j]
                if p < 1e-17:
                    continue
                omega = mean + tau * v
                if slope == slope:
                    lnz, shift, var, loss = _piecewise(y[i], omega, V, beta, slope)
                else:
                    lnz, shift, var, loss = _by_quadrature(
                        student, y[i], omega, V, beta, rule, exponent
                    )
                f = shift / chi
                out[0] += p * f * f
                out[1] += p * v * f
                out[2] += p * t[i] * f
                out[3] += p * loss
                out[4] += p * (var / V - 1.0) ** 2
                out[5] += p * lnz
    g0 = out[1] / tau if tau > 0.0 else np.nan
    g1 = (out[2] - m * g0) / teacher.variance
    return GibbsAverages(out[0], g0, g1, out[3], out[4], out[5])


@jit
def _alone(y: float, omega: float, V: float, beta: float, slope: float, sign: float) -> bool:
    """Whether a piecewise-linear student is on the branch of `sign` only, here and beyond.

    The odds of the branches are monotonic in omega, and so is the distance from the kink.
    """
    if slope == 1.0:
        return True
    chi = beta * V
    b = 1.0 if sign > 0.0 else slope
    x = sign * (omega + chi * b * y) / math.sqrt(V * (1.0 + b * b * chi))
    if x < _FAR:
        return False
    here = _half_line(y, omega, V, chi, beta, b, sign)[0]
    there = _half_line(y, omega, V, chi, beta, 1.0 + slope - b, -sign)[0]
    return here - there > _NEGLIGIBLE


@jit
def _add_branch(
    y: float,
    b: float,
    mean: float,
    tau: float,
    low: float,
    high: float,
    chi: float,
    beta: float,
    sums: Array,
) -> None:
    """Add the averages over omega from low to high, in standard units, on the branch g = b u."""
    if high <= low:
        return
    p, p1, p2 = normal_moments(low, high)
    stiff = 1.0 + b * b * chi
    r0 = y - b * mean
    r1 = -b * tau
    square = r0 * r0 * p + 2.0 * r0 * r1 * p1 + r1 * r1 * p2
    sums[0] += (b / stiff) ** 2 * square
    sums[1] += b / stiff * (r0 * p1 + r1 * p2)
    sums[2] += b / stiff * (r0 * p + r1 * p1)
    sums[3] += square / stiff**2 + b * b * chi / (beta * stiff) * p
    sums[4] += (1.0 / stiff - 1.0) ** 2 * p
    sums[5] -= 0.5 * math.log(stiff) * p + 0.5 * beta * square / stiff


@jit
def _piecewise_features(
    y: float,
    chi: float,
    beta: float,
    slope: float,
    mean: float,
    tau: float,
    centers: Array,
    widths: Array,
) -> int:
    """The same as `_features` in closed form, for a piecewise-linear student."""
    if slope == 1.0:
        return 0
    V = chi / beta
    up = 1.0 + chi
    down = 1.0 + slope * slope * chi
    found = 0
    if y > 0.0:
        root = math.sqrt(up)
        leaky = math.sqrt(down)
        kappa = chi * (leaky + slope * root) / (root + leaky)
        jump = (chi - kappa) * y / up - (slope * chi - kappa) * y / down
        centers[0] = (-kappa * y - mean) / tau
        widths[0] = V / jump / tau
        found = 1
        # Behind a barrier, in units of the temperature, the kink is never visited.
        if 0.5 * beta * (y * (chi - kappa)) ** 2 / (chi * up) > _NEGLIGIBLE:
            return found
    centers[found] = (-slope * chi * y - mean) / tau
    widths[found] = math.sqrt(V * down) / tau
    centers[found + 1] = (-chi * y - mean) / tau
    widths[found + 1] = math.sqrt(V * up) / tau
    return found + 2


@jit
def _features(
    student: PreparedActivation,
    y: float,
    chi: float,
    beta: float,
    mean: float,
    tau: float,
    room: Room,
    centers: Array,
    widths: Array,
) -> int:
    """Write where, in standard units, f varies quickly with omega, and over what width."""
    V = chi / beta
    width = math.sqrt(V)
    found = 0
    rows = envelope(student, y, chi, mean - REACH * tau, mean + REACH * tau, room)
    for k in range(rows - 1):
        jump = room.found.u_low[k + 1] - room.found.u_high[k]
        if jump > 0.0:
            centers[found] = (room.found.omega_high[k] - mean) / tau
            widths[found] = V / jump / tau
            found += 1
    for v in range(student.u.size):
        if student.kink[v]:
            left = student.u[v] - chi * (y - student.g_left[v]) * student.slope_left[v]
            right = student.u[v] - chi * (y - student.g_right[v]) * student.slope_right[v]
            # A concave kink under a barrier is never visited.
            if left > right + 10.0 * width * (1.0 + chi):
                continue
            centers[found] = (left - mean) / tau
            centers[found + 1] = (right - mean) / tau
            widths[found] = width / tau
            widths[found + 1] = width / tau
            found += 2
    return found


@jit
def sample_free_energy(
    student: PreparedActivation,
    slope: float,
    y: float,
    omega: float,
    V: float,
    beta: float,
    rule: Rule,
) -> tuple[float, float, float, float]:
    """Return ln Z, <u> - omega, var u and <(y - g)^2> of one sample."""
    if slope == slope:
        return _piecewise(y, omega, V, beta, slope)
    return _by_quadrature(student, y, omega, V, beta, rule, np.empty(student.u.size))


# --- Piecewise-linear students -------------------------------------------------------------------


@jit
def _piecewise(
    y: float, omega: float, V: float, beta: float, slope: float
) -> tuple[float, float, float, float]:
    chi = beta * V
    ln_up, d_up, var_up = _half_line(y, omega, V, chi, beta, 1.0, 1.0)
    ln_down, d_down, var_down = _half_line(y, omega, V, chi, beta, slope, -1.0)
    odds = math.exp(-abs(ln_up - ln_down))
    lnz = max(ln_up, ln_down) + math.log1p(odds)
    p_up = 1.0 / (1.0 + odds)
    p_down = odds * p_up
    if ln_down > ln_up:
        p_up, p_down = p_down, p_up
    shift = p_up * d_up + p_down * d_down
    var = p_up * var_up + p_down * var_down + p_up * p_down * (d_up - d_down) ** 2
    loss_up = (y - omega - d_up) ** 2 + var_up
    loss_down = (y - slope * (omega + d_down)) ** 2 + slope * slope * var_down
    return lnz, shift, var, p_up * loss_up + p_down * loss_down


@jit
def _half_line(
    y: float, omega: float, V: float, chi: float, beta: float, b: float, sign: float
) -> tuple[float, float, float]:
    """Return ln Z, <u> - omega and var u of the branch g = b u on the half-line sign * u > 0."""
    stiff = 1.0 + b * b * chi
    step = chi * b * (y - b * omega) / stiff
    root = math.sqrt(V / stiff)
    x = sign * (omega + step) / root
    ln_p, r, rest, var = _truncated_normal(x)
    lnz = -0.5 * math.log(stiff) - 0.5 * beta * (y - b * omega) ** 2 / stiff + ln_p
    # Far outside, x + r cancels: take the mean from the kink instead of from the peak.
    d = step + sign * root * r if x > -5.0 else sign * root * rest - omega
    return lnz, d, root * root * var


@jit
def _truncated_normal(x: float) -> tuple[float, float, float, float]:
    """Return ln Phi(x) and, for z ~ N(0, 1) given z > -x, its mean r, x + r and variance."""
    if x > -20.0:
        tail = 0.5 * math.erfc(abs(x) / math.sqrt(2.0))
        p = 1.0 - tail if x > 0.0 else tail
        ln_p = math.log1p(-tail) if x > 0.0 else math.log(tail)
        r = math.exp(-0.5 * x * x - _LN_ROOT_2PI) / p
        return ln_p, r, x + r, 1.0 - r * (x + r)
    # Asymptotic series of the Mills ratio; the first omitted term is below 1e-11 at x = -20.
    s = 1.0 / (x * x)
    ln_p = -0.5 * x * x - math.log(-x) - _LN_ROOT_2PI
    ln_p += math.log1p(s * (-1.0 + s * (3.0 + s * (-15.0 + s * (105.0 - 945.0 * s)))))
    rest = -(1.0 + s * (-2.0 + s * (10.0 + s * (-74.0 + s * (706.0 - 8162.0 * s))))) / x
    var = s * (1.0 + s * (-6.0 + s * (50.0 + s * (-518.0 + 6354.0 * s))))
    return ln_p, rest - x, rest, var


# --- Any student ---------------------------------------------------------------------------------


@jit
def _by_quadrature(
    student: PreparedActivation,
    y: float,
    omega: float,
    V: float,
    beta: float,
    rule: Rule,
    exponent: Array,
) -> tuple[float, float, float, float]:
    """Integrate over u around every minimum of (u - omega)^2 / (2 V) + beta (y - g)^2 / 2."""
    u = student.u
    n = u.size
    lowest = np.inf
    for v in range(n):
        left = y - student.g_left[v]
        right = y - student.g_right[v]
        exponent[v] = 0.5 * (u[v] - omega) ** 2 / V + 0.5 * beta * min(left * left, right * right)
        lowest = min(lowest, exponent[v])
    sums = np.zeros(4)
    offset = lowest
    # The minimum found last, still to be integrated from `boundary` to the highest vertex since.
    peak = np.nan
    at_peak = np.inf
    boundary = u[0]
    highest = -np.inf
    ridge = np.nan
    for v in range(n):
        left = y - student.g_left[v]
        right = y - student.g_right[v]
        below = (u[v] - omega) / V - beta * left * student.slope_left[v]
        above = (u[v] - omega) / V - beta * right * student.slope_right[v]
        # At a jump of g only the lower side matters for a minimum on the vertex.
        here = (below <= 0.0 or abs(right) < abs(left)) and (above >= 0.0 or abs(left) < abs(right))
        inside = False
        if v + 1 < n and above < 0.0:
            next_left = y - student.g_left[v + 1]
            inside = (u[v + 1] - omega) / V > beta * next_left * student.slope_left[v + 1]
        if peak == peak and not here and exponent[v] > highest:
            highest = exponent[v]
            ridge = u[v]
        for new in range(2):
            if not (here if new == 0 else inside):
                continue
            if peak == peak:
                if ridge != ridge:
                    ridge = 0.5 * (peak + u[v])
                if at_peak - offset < _NEGLIGIBLE:
                    _integrate(
                        student,
                        y,
                        omega,
                        V,
                        beta,
                        peak,
                        at_peak,
                        boundary,
                        ridge,
                        offset,
                        rule,
                        sums,
                    )
                boundary = ridge
            if new == 0:
                peak = u[v]
                at_peak = exponent[v]
            else:
                peak = _minimize(student, y, omega, V, beta, u[v], u[v + 1])
                at_peak = _exponent(student, y, omega, V, beta, peak)
            if at_peak < offset:
                sums *= math.exp(at_peak - offset)
                offset = at_peak
            highest = -np.inf
            ridge = u[v] if new == 0 and inside else np.nan
    if peak == peak and at_peak - offset < _NEGLIGIBLE:
        _integrate(
            student, y, omega, V, beta, peak, at_peak, boundary, u[n - 1], offset, rule, sums
        )
    if min(exponent[0], exponent[n - 1]) - offset < _NEGLIGIBLE:
        return np.nan, np.nan, np.nan, np.nan  # the table is too narrow
    mean = sums[1] / sums[0]
    lnz = math.log(sums[0]) - offset - 0.5 * math.log(V) - _LN_ROOT_2PI
    return lnz, mean, sums[2] / sums[0] - mean * mean, sums[3] / sums[0]


@jit
def _exponent(
    student: PreparedActivation, y: float, omega: float, V: float, beta: float, u: float
) -> float:
    g = activation_value(student.breaks, student.series, u)
    return 0.5 * (u - omega) ** 2 / V + 0.5 * beta * (y - g) ** 2


@jit
def _minimize(
    student: PreparedActivation,
    y: float,
    omega: float,
    V: float,
    beta: float,
    low: float,
    high: float,
) -> float:
    """Return the minimum of the exponent between two vertices, by safeguarded Newton steps."""
    x = 0.5 * (low + high)
    for _ in range(60):
        g, g1, g2 = activation_at(student.breaks, student.series, x)
        slope = (x - omega) / V - beta * (y - g) * g1
        bend = 1.0 / V + beta * g1 * g1 - beta * (y - g) * g2
        if slope > 0.0:
            high = x
        else:
            low = x
        new = x - slope / bend if bend > 0.0 else 0.5 * (low + high)
        if not (low < new < high):
            new = 0.5 * (low + high)
        if abs(new - x) < 1e-9 * math.sqrt(V) or high - low < 1e-14 * (1.0 + abs(x)):
            return new
        x = new
    return x


@jit
def _integrate(
    student: PreparedActivation,
    y: float,
    omega: float,
    V: float,
    beta: float,
    peak: float,
    at_peak: float,
    low: float,
    high: float,
    offset: float,
    rule: Rule,
    sums: Array,
) -> None:
    """Add the integrals of (1, d, d^2, (y - g)^2) exp(-exponent) around a peak, d = u - omega."""
    nodes, weights, _ = rule
    breaks = student.breaks
    for side in (-1.0, 1.0):
        end = high if side > 0.0 else low
        if (end - peak) * side <= 0.0:
            continue
        # Start with the scale on which the exponent rises by about one.
        step = math.sqrt(V)
        for _ in range(60):
            trial = peak + side * step
            if (trial - end) * side < 0.0:
                if _exponent(student, y, omega, V, beta, trial) - at_peak < 2.0:
                    break
            elif step <= (end - peak) * side:
                break
            step *= 0.6
        left = peak
        while (end - left) * side > 0.0:
            right = left + side * step
            if (right - end) * side > 0.0:
                right = end
            if side > 0.0:
                edge = breaks[min(np.searchsorted(breaks, left, side="right"), breaks.size - 1)]
            else:
                edge = breaks[max(np.searchsorted(breaks, left) - 1, 0)]
            if (right - edge) * side > 0.0 and (edge - left) * side > 0.0:
                right = edge
            length = right - left
            for k in range(nodes.size):
                u = left + length * nodes[k]
                g = activation_value(breaks, student.series, u)
                d = u - omega
                e = 0.5 * d * d / V + 0.5 * beta * (y - g) ** 2 - offset
                p = weights[k] * abs(length) * math.exp(-e)
                sums[0] += p
                sums[1] += p * d
                sums[2] += p * d * d
                sums[3] += p * (y - g) ** 2
            left = right
            if _exponent(student, y, omega, V, beta, left) - offset > _NEGLIGIBLE:
                break
            step *= 1.3
