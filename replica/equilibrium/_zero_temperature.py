"""Zero-temperature saddle point for any student and any teacher.

With the proximal step u(omega, y) of `proximal` and f = (u - omega) / chi, the replica-symmetric
saddle point of the ridge-regularized square loss is

    chi = 1 / (zeta - alpha g0),   m = alpha g1 chi,   q = (alpha^2 g1^2 + alpha E[f^2]) chi^2,

where (g0, g1) solves [[q, m], [m, Var t]] (g0, g1) = (E[omega f], E[t f]) (Stein's identity, which
includes the jumps of f without differentiating it). The averages over omega are taken along u:
on a smooth stretch omega = u - chi (y - g) g' is an explicit function of u, so no equation is
solved for the proximal step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.activation_table import activation_in
from replica._core.jit import jit
from replica.inputs import Inputs
from replica.students import StudentLike

from ._equilibrium import Equilibrium, Noise
from ._proximal import (
    Array,
    PreparedActivation,
    Stretch,
    envelope,
    field_at,
    new_room,
    stretch,
    switching_outputs,
)
from ._saddle_point import solve_all
from ._teacher_average import (
    DENSITY_NODES,
    REACH,
    Rule,
    Teacher,
    density_at,
    law_given_output,
    noise_is_broad,
    noisy_fields,
    outer_rule,
    output_edges,
)

__all__ = ["SampleAverages", "normal_moments", "solve_general_student"]
__all__ += ["zero_temperature_averages"]

_ROOT_2PI = math.sqrt(2 * math.pi)
# What has a smaller weight in an average is left out; there are a few hundred samples.
_LEAST_WEIGHT = 1e-18
# A rule of five nodes takes a part of the normal law of so many standard deviations to 1e-4.
_PART = 3.0
# The values of g are kept for pieces of the table cut into up to so many parts: more are needed
# only by pieces far out, of which a sample sees a part.
_PARTS = 4
# More than any law of omega has; a field whose spread underflows would ask for more than integers.
_MOST_PARTS = 10_000


def solve_general_student(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike,
    *,
    student: StudentLike,
    teacher: StudentLike = "linear",
    noise: Noise = "output",
    inputs: Inputs | None = None,
) -> Equilibrium:
    """Zero-temperature equilibrium of any student that learns from any teacher.

    Parameters
    ----------
    alpha, S, zeta : float or array_like
        Load P/N > 0, variance of the label noise >= 0, ridge coefficient >= 0 of the sum
        convention; they broadcast. At zeta = 0 a student that can fit every sample has no finite
        chi, and the element is reported as not converged.
    student, teacher : str, LeakyReLU or Student
        Activations g of the student and phi of the teacher.
    noise : {"output", "input"}
        Label y = phi(z) + s, or y = phi(z + s) as in eq. 20.
    inputs : Inputs, optional
        See `solve_equilibrium`.

    Returns
    -------
    Equilibrium
        Of several saddle points found, the one of lowest energy. Elements that did not converge
        are NaN and reported by a `ConvergenceWarning`.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or an activation is not a smooth function between its
        declared kinks. An exception raised by an activation is passed on.

    Notes
    -----
    Theory: :eq:`eq-zero-temperature`, :eq:`eq-gibbs-saddle-point` and :eq:`eq-envelope` in
    :doc:`/finite_temperature`.

    Examples
    --------
    >>> result = solve_general_student(2.0, 0.1, 0.25, student="relu")
    >>> round(float(result.gen_error), 6)
    0.640459
    """
    return solve_all(
        lambda beta: zero_temperature_averages,
        alpha,
        S,
        zeta,
        np.inf,
        student=student,
        teacher=teacher,
        noise=noise,
        inputs=inputs,
    )


class SampleAverages(NamedTuple):
    """Averages over one sample: what the channel gives to the saddle point, and its energy.

    F = E[f^2], g0 = E[df/domega], g1 = E[df/dt], the loss E[(y - g(u))^2]; the replicon integral
    E[(du/domega - 1)^2] without the jumps, whose square diverges; the mean of -f's jumps; and the
    derivatives of (F, g0, g1) in (chi, m, q), jumps included.
    """

    F: float
    g0: float
    g1: float
    loss: float
    replicon: float
    jump: float
    slopes: Array


# What is summed over a sample: products of f, v = (omega - E[omega | t])/tau and t, and energies.
_F, _FV, _FT, _F_VVV, _F_VVT, _F_VTT = 0, 1, 2, 3, 4, 5
_F2_VV, _F2_VT, _F3_V, _LOSS, _REPLICON, _JUMP, _JUMP3 = 6, 7, 8, 9, 10, 11, 12
_N_SUMS = 13


@jit
def zero_temperature_averages(
    student: PreparedActivation, teacher: Teacher, chi: float, m: float, q: float, rule: Rule
) -> SampleAverages:
    """Average over one sample; NaN if a field leaves the tabulated range."""
    tau2 = q - m * m / teacher.variance
    if not (tau2 > 0.0 and chi > 0.0):
        return _averages(np.full(_N_SUMS, np.nan), m, 1.0, teacher.variance)
    tau = math.sqrt(tau2)
    switches = switching_outputs(student, chi)
    # Near a switch the mean over omega varies where a jump passes through the law of omega.
    scale = max(0.2 * min(tau, 1.0) / (1.0 + chi), 1e-6)
    if teacher.noise > 0.0 and noise_is_broad(teacher, m, q, tau):
        totals = _over_outputs(student, teacher, chi, m, q, tau, switches, scale, rule)
    else:
        totals = _over_fields(student, teacher, chi, m, tau, switches, scale, rule)
    return _averages(totals, m, tau, teacher.variance)


@jit
def _averages(sums: Array, m: float, tau: float, variance: float) -> SampleAverages:
    """Put the sums together.

    Derivatives in m and tau act on the normal law of omega given t, by parts on v; in chi they use
    df/dchi = f df/domega, since f is minus the slope of a Moreau envelope: Burgers' equation, in
    which a jump of f loses a sixth of its cube of f^2.
    """
    g0 = sums[_FV] / tau
    g1 = (sums[_FT] - m * g0) / variance
    # in chi, in m at fixed tau, in tau; of F, E[f v], E[f t]
    tau_m, tau_q = -m / (variance * tau), 0.5 / tau
    by = np.empty((3, 3))
    by[0, 0] = 2.0 / 3.0 * sums[_F3_V] / tau - sums[_JUMP3] / 6.0
    by[0, 1] = sums[_F2_VT] / (variance * tau)
    by[0, 2] = (sums[_F2_VV] - sums[_F]) / tau
    by[1, 0] = 0.5 * by[0, 2]
    by[1, 1] = (sums[_F_VVT] - sums[_FT]) / (variance * tau)
    by[1, 2] = (sums[_F_VVV] - 2.0 * sums[_FV]) / tau
    by[2, 0] = 0.5 * sums[_F2_VT] / tau
    by[2, 1] = sums[_F_VTT] / (variance * tau)
    by[2, 2] = (sums[_F_VVT] - sums[_FT]) / tau
    # of F, g0, g1 in chi, m, q
    by[1] /= tau
    by[1, 2] -= g0 / tau
    by[2] = (by[2] - m * by[1]) / variance
    by[2, 1] -= g0 / variance
    slopes = np.empty((3, 3))
    for k in range(3):
        slopes[k, 0] = by[k, 0]
        slopes[k, 1] = by[k, 1] + tau_m * by[k, 2]
        slopes[k, 2] = tau_q * by[k, 2]
    return SampleAverages(sums[_F], g0, g1, sums[_LOSS], sums[_REPLICON], sums[_JUMP], slopes)


@jit
def _over_fields(
    student: PreparedActivation,
    teacher: Teacher,
    chi: float,
    m: float,
    tau: float,
    switches: Array,
    scale: float,
    rule: Rule,
) -> Array:
    """Sum over the teacher's field t, then its noise, then omega given t along u."""
    totals = np.zeros(_N_SUMS)
    t, y, w = outer_rule(teacher, switches, scale, rule)
    room = new_room(student)
    found = room.found
    sums = np.zeros(_N_SUMS)
    seen = new_values(student, rule)
    for i in range(t.size):
        if w[i] < _LEAST_WEIGHT:
            continue
        mean = m * t[i] / teacher.variance
        # A rare sample needs less of the law of omega.
        reach = min(rule.reach, math.sqrt(2.0 * math.log(w[i] / _LEAST_WEIGHT)))
        low = mean - reach * tau
        high = mean + reach * tau
        rows = envelope(student, y[i], chi, low, high, room)
        sums[:] = 0.0
        if found.omega_low[0] > low or found.omega_high[rows - 1] < high:
            return np.full(_N_SUMS, np.nan)
        for k in range(rows):
            part = stretch(found, k)
            if part.omega_high > low and part.omega_low < high:
                if part.u_low == part.u_high:
                    _add_pinned(part, y[i], chi, mean, tau, sums)
                else:
                    _add_smooth(
                        student, seen, part, y[i], chi, mean, tau, low, high, None, 0.0, rule,
                        sums,
                    )  # fmt: skip
            if k + 1 < rows and low < part.omega_high < high:
                v = (part.omega_high - mean) / tau
                density = math.exp(-0.5 * v * v) / (tau * _ROOT_2PI)
                jump = (found.u_low[k + 1] - part.u_high) / chi
                sums[_JUMP] += density * jump
                sums[_JUMP3] += density * jump**3
        sums[_FT] *= t[i]
        sums[_F_VVT] *= t[i]
        sums[_F_VTT] *= t[i] * t[i]
        sums[_F2_VT] *= t[i]
        totals += w[i] * sums
    return totals


@jit
def _over_outputs(
    student: PreparedActivation,
    teacher: Teacher,
    chi: float,
    m: float,
    q: float,
    tau: float,
    switches: Array,
    scale: float,
    rule: Rule,
) -> Array:
    """Sum over the output y, then omega along u; the field t is summed beforehand.

    The proximal step depends on t through y only, so the law of omega and t given y is enough:
    `law` holds its density in omega times 1, t, t^2, t^3.
    """
    totals = np.zeros(_N_SUMS)
    fields = noisy_fields(teacher, m, q, tau, rule)
    edges = output_edges(teacher, fields.phi, switches, scale)
    gain = m / teacher.variance
    room = new_room(student)
    found = room.found
    law = np.empty((fields.pieces, DENSITY_NODES, 4))
    seen = new_values(student, rule)
    nodes, weights, _ = rule
    sums = np.zeros(_N_SUMS)
    for piece in range(edges.size - 1):
        length = edges[piece + 1] - edges[piece]
        if length <= 1e-14 * teacher.noise:
            continue
        for node in range(nodes.size):
            y = edges[piece] + length * nodes[node]
            first, last = law_given_output(fields, teacher.noise, y, law)
            if first > last:
                continue
            low = fields.low + first * 2.0 * tau
            high = fields.low + (last + 1) * 2.0 * tau
            rows = envelope(student, y, chi, low, high, room)
            if found.omega_low[0] > low or found.omega_high[rows - 1] < high:
                return np.full(_N_SUMS, np.nan)
            sums[:] = 0.0
            for k in range(rows):
                part = stretch(found, k)
                if part.omega_high > low and part.omega_low < high:
                    if part.u_low == part.u_high:
                        _add_pinned_by_rule(
                            part, y, chi, gain, tau, low, high, law, fields.low, rule, sums
                        )
                    else:
                        _add_smooth(
                            student, seen, part, y, chi, gain, tau, low, high, law,
                            fields.low, rule, sums,
                        )  # fmt: skip
                if k + 1 < rows and low < part.omega_high < high:
                    density = density_at(law, fields.low, tau, part.omega_high)[0]
                    jump = (found.u_low[k + 1] - part.u_high) / chi
                    sums[_JUMP] += density * jump
                    sums[_JUMP3] += density * jump**3
            totals += weights[node] * length * sums
    return totals


@jit
def normal_moments(low: float, high: float) -> tuple[float, float, float]:
    """Moments 0, 1 and 2 of a standard normal variable between `low` and `high`."""
    d1 = math.exp(-0.5 * low * low) / _ROOT_2PI
    d2 = math.exp(-0.5 * high * high) / _ROOT_2PI
    if low > 0.0:
        p = 0.5 * (math.erfc(low / math.sqrt(2.0)) - math.erfc(high / math.sqrt(2.0)))
    else:
        p = 0.5 * (math.erfc(-high / math.sqrt(2.0)) - math.erfc(-low / math.sqrt(2.0)))
    return p, d1 - d2, p + low * d1 - high * d2


@jit
def _add_pinned(row: Stretch, y: float, chi: float, mean: float, tau: float, sums: Array) -> None:
    """A stretch on which u stands still and f is linear in omega, in closed form."""
    low = max((row.omega_low - mean) / tau, -REACH)
    high = min((row.omega_high - mean) / tau, REACH)
    p, p1, p2 = normal_moments(low, high)
    d1 = math.exp(-0.5 * low * low) / _ROOT_2PI
    d2 = math.exp(-0.5 * high * high) / _ROOT_2PI
    p3 = 2.0 * p1 + low * low * d1 - high * high * d2
    p4 = 3.0 * p2 + low**3 * d1 - high**3 * d2
    c0 = (row.u_low - mean) / chi
    c1 = tau / chi
    sums[_F] += c0 * c0 * p - 2.0 * c0 * c1 * p1 + c1 * c1 * p2
    sums[_FV] += c0 * p1 - c1 * p2
    sums[_FT] += c0 * p - c1 * p1
    sums[_F_VVV] += c0 * p3 - c1 * p4
    sums[_F_VVT] += c0 * p2 - c1 * p3
    sums[_F_VTT] += c0 * p1 - c1 * p2
    sums[_F2_VV] += c0 * c0 * p2 - 2.0 * c0 * c1 * p3 + c1 * c1 * p4
    sums[_F2_VT] += c0 * c0 * p1 - 2.0 * c0 * c1 * p2 + c1 * c1 * p3
    sums[_F3_V] += c0 * c0 * (c0 * p1 - 3.0 * c1 * p2) + c1 * c1 * (3.0 * c0 * p3 - c1 * p4)
    sums[_LOSS] += (y - row.output) ** 2 * p
    sums[_REPLICON] += p


@jit
def _add_by_law(
    law: Array,
    start: float,
    gain: float,
    tau: float,
    omega: float,
    f: float,
    loss: float,
    replicon: float,
    weight: float,
    sums: Array,
) -> None:
    """Add one field omega of a sample whose t is spread: v = (omega - gain t)/tau, by moments."""
    t0, t1, t2, t3 = density_at(law, start, tau, omega)
    a = omega / tau
    g = gain / tau
    p = weight * t0
    v = weight * (a * t0 - g * t1)
    vt = weight * (a * t1 - g * t2)
    vtt = weight * (a * t2 - g * t3)
    vv = a * v - g * vt
    vvt = a * vt - g * vtt
    sums[_F] += f * f * p
    sums[_FV] += f * v
    sums[_FT] += f * weight * t1
    sums[_F_VVV] += f * (a * vv - g * vvt)
    sums[_F_VVT] += f * vvt
    sums[_F_VTT] += f * vtt
    sums[_F2_VV] += f * f * vv
    sums[_F2_VT] += f * f * vt
    sums[_F3_V] += f * f * f * v
    sums[_LOSS] += loss * p
    sums[_REPLICON] += replicon * p


@jit
def _parts_of(length: float, tau: float) -> int:
    """Into how many parts a stretch of fields is cut; no integer beyond the bounds of an array."""
    parts = length / (_PART * tau)
    return 1 + int(parts) if parts < _MOST_PARTS else _MOST_PARTS


@jit
def _add_pinned_by_rule(
    row: Stretch,
    y: float,
    chi: float,
    gain: float,
    tau: float,
    low: float,
    high: float,
    law: Array,
    start: float,
    rule: Rule,
    sums: Array,
) -> None:
    nodes, weights, _ = rule
    left = max(row.omega_low, low)
    right = min(row.omega_high, high)
    parts = _parts_of(right - left, tau)
    length = (right - left) / parts
    for part in range(parts):
        for k in range(nodes.size):
            omega = left + length * (part + nodes[k])
            f = (row.u_low - omega) / chi
            loss = (y - row.output) ** 2
            weight = weights[k] * length
            _add_by_law(law, start, gain, tau, omega, f, loss, 1.0, weight, sums)


class _Values(NamedTuple):
    """g, g', g'' at the nodes of whole pieces of the table cut into equal parts, once computed."""

    at: Array
    known: NDArray[np.bool_]


@jit
def new_values(student: PreparedActivation, rule: Rule) -> _Values:
    """Return room for the values of pieces in up to four parts."""
    pieces = student.breaks.size - 1
    return _Values(
        np.empty((pieces, _PARTS, _PARTS * rule.nodes.size, 3)),
        np.zeros((pieces, _PARTS), np.bool_),
    )


@jit
def _learn(student: PreparedActivation, seen: _Values, piece: int, parts: int, rule: Rule) -> None:
    nodes = rule.nodes
    left = student.breaks[piece]
    length = (student.breaks[piece + 1] - left) / parts
    for part in range(parts):
        for k in range(nodes.size):
            u = left + length * (part + nodes[k])
            g, g1, g2 = activation_in(student.breaks, student.series, piece, u)
            seen.at[piece, parts - 1, part * nodes.size + k, 0] = g
            seen.at[piece, parts - 1, part * nodes.size + k, 1] = g1
            seen.at[piece, parts - 1, part * nodes.size + k, 2] = g2
    seen.known[piece, parts - 1] = True


@jit
def _add_smooth(
    student: PreparedActivation,
    seen: _Values,
    row: Stretch,
    y: float,
    chi: float,
    mean: float,
    tau: float,
    from_field: float,
    to_field: float,
    law: Array,
    law_start: float,
    rule: Rule,
    sums: Array,
) -> None:
    """A stretch on which u grows with omega.

    The law of omega is normal around `mean`, unless `law` has more than one piece: then `law`, and
    `mean` is the gain of omega given t.
    """
    breaks = student.breaks
    vertices = (student.u.size - 1) // (breaks.size - 1)  # per piece
    inverse = 1.0 / tau
    norm = inverse / _ROOT_2PI
    f0 = f1 = f2 = f3 = ff0 = ff1 = ff2 = fff1 = cost = rep = 0.0
    nodes, weights, _ = rule
    right, right_field = row.u_low, row.omega_low
    piece = np.searchsorted(breaks, right, side="right") - 2
    while right < row.u_high and right_field < to_field:
        left, left_field = right, right_field
        piece += 1
        right, right_field = row.u_high, row.omega_high
        if breaks[piece + 1] < right:
            right = breaks[piece + 1]
            end = vertices * (piece + 1)
            right_field = field_at(right, y, chi, student.g_left[end], student.slope_left[end])
        if right_field <= from_field:
            continue
        # Most pieces are passed as a whole by every sample.
        parts = _parts_of(right_field - left_field, tau)
        whole = parts <= _PARTS and left == breaks[piece] and right == breaks[piece + 1]
        start, stop = left, right
        if not whole:
            if left_field < from_field:
                start = _cut(student, row, y, chi, from_field)
            if right_field > to_field:
                stop = _cut(student, row, y, chi, to_field)
            inside = min(right_field, to_field) - max(left_field, from_field)
            parts = _parts_of(inside, tau)
        elif not seen.known[piece, parts - 1]:
            _learn(student, seen, piece, parts, rule)
        length = (stop - start) / parts
        values = seen.at[piece, min(parts, _PARTS) - 1]
        for part in range(parts):
            for k in range(nodes.size):
                u = start + length * (part + nodes[k])
                if whole:
                    at = part * nodes.size + k
                    g, g1, g2 = values[at, 0], values[at, 1], values[at, 2]
                else:
                    g, g1, g2 = activation_in(breaks, student.series, piece, u)
                r = y - g
                f = r * g1
                omega = u - chi * f
                if omega < from_field or omega > to_field:
                    continue
                stretched = 1.0 + chi * g1 * g1 - chi * r * g2  # domega/du
                replicon = (1.0 / stretched - 1.0) ** 2
                weight = weights[k] * length * stretched
                if law is not None:
                    _add_by_law(law, law_start, mean, tau, omega, f, r * r, replicon, weight, sums)
                    continue
                v = (omega - mean) * inverse
                p = weight * norm * math.exp(-0.5 * v * v)
                pf = p * f
                pfv = pf * v
                pff = pf * f
                pfvv = pfv * v
                f0 += pf
                f1 += pfv
                f2 += pfvv
                f3 += pfvv * v
                ff0 += pff
                ff1 += pff * v
                ff2 += pff * v * v
                fff1 += pff * f * v
                cost += p * r * r
                rep += p * replicon
    sums[_F] += ff0
    sums[_FV] += f1
    sums[_FT] += f0
    sums[_F_VVV] += f3
    sums[_F_VVT] += f2
    sums[_F_VTT] += f1
    sums[_F2_VV] += ff2
    sums[_F2_VT] += ff1
    sums[_F3_V] += fff1
    sums[_LOSS] += cost
    sums[_REPLICON] += rep


@jit
def _cut(student: PreparedActivation, row: Stretch, y: float, chi: float, field: float) -> float:
    """Return about where omega(u) = field on a smooth stretch, from the vertices around it.

    It is asked where the law of omega ends, so that a tenth of a standard deviation is no matter.
    """
    u = student.u
    first = np.searchsorted(u, row.u_low, side="right")  # the vertices inside the stretch
    last = np.searchsorted(u, row.u_high, side="left") - 1
    left, left_field = row.u_low, row.omega_low
    right, right_field = row.u_high, row.omega_high
    while first <= last:
        middle = (first + last) // 2
        at = u[middle] - chi * (y - student.g_right[middle]) * student.slope_right[middle]
        if at < field:
            left, left_field = u[middle], at
            first = middle + 1
        else:
            right, right_field = u[middle], at
            last = middle - 1
    return left + (right - left) * (field - left_field) / (right_field - left_field)
