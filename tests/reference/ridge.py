"""Linear student at zero temperature to 30 digits: ridge regression and early stopping.

Imports nothing from `replica`. The equilibrium solves the saddle-point equations of the linear
student (f = (y - omega)/(1 + chi)) in their unsimplified form; gradient flow integrates the
Marchenko-Pastur density.
"""

from __future__ import annotations

import random

from mpmath import findroot, inf, mp, mpf, quad

from .tables import exact, log_uniform, main, text

__all__ = ["equilibrium", "gen_error_at_time", "optimal_time"]

NAMES = ["gamma", "R", "chi", "gen_error", "train_error", "energy"]


def equilibrium(alpha, S, zeta) -> dict[str, mpf]:
    """Order parameters and errors; zeta = 0 means the limit zeta -> 0+."""
    mp.dps = 100
    if zeta > 0:
        # chi = 1/(zeta + alpha/(1 + chi)), the positive root
        b = zeta + alpha - 1
        chi = (-b + mp.sqrt(b**2 + 4 * zeta)) / (2 * zeta)
    else:
        chi = 1 / (alpha - 1) if alpha > 1 else inf
    response = chi / (1 + chi) if chi != inf else mpf(1)  # -chi df/domega
    m = alpha * response
    if alpha == 1 and zeta == 0:
        q = mpf(1) if S == 0 else inf
        mean_square = mpf(0)
    else:
        # q = m^2 + alpha E[(chi f)^2], E[(y - omega)^2] = 1 + S - 2 m + q
        q = (m**2 + alpha * response**2 * (1 + S - 2 * m)) / (1 - alpha * response**2)
        mean_square = 1 + S - 2 * m + q
    gamma = mp.sqrt(q)
    train_error = mean_square / (1 + chi) ** 2 if chi != inf else mpf(0)
    return {
        "gamma": gamma,
        "R": m / gamma,
        "chi": chi,
        "gen_error": 1 - 2 * m + q,
        "train_error": train_error,
        "energy": alpha * train_error / 2 + (zeta * q / 2 if zeta > 0 else 0),
    }


def spectral_average(function, alpha, t):
    """Integral of function(x) over the continuous part of the Marchenko-Pastur law.

    The function may vary over distances of order 1/t from the lower edge: cuts are put there.
    """
    low, high = (1 - mp.sqrt(alpha)) ** 2, (1 + mp.sqrt(alpha)) ** 2
    width = high - low

    def integrand(angle):  # x = low + width sin(angle/2)^2 makes both edges smooth
        x = low + width * mp.sin(angle / 2) ** 2
        return width**2 * mp.sin(angle) ** 2 / (8 * mp.pi * x) * function(x)

    cuts = {mpf(0), mp.pi}
    for scale in [low, *(mpf(c) / t for c in (0.25, 1, 4, 16, 64))]:
        if 0 < scale < width:
            cuts.add(2 * mp.asin(mp.sqrt(scale / width)))
    value, error = quad(integrand, sorted(cuts), error=True, maxdegree=10)
    if error > max(mpf(1), abs(value)) * mpf(10) ** (8 - mp.dps):
        raise ArithmeticError(f"integral at alpha={alpha}, t={t}: error {mp.nstr(error, 3)}")
    return value


def gen_error_at_time(alpha, S, t) -> mpf:
    """Generalization error of gradient flow from zero weights."""
    mp.dps = 40
    low = (1 - mp.sqrt(alpha)) ** 2
    # the decay at the lower edge in front: the integral is then of order 1/t or larger
    bias = mp.exp(-2 * low * t) * spectral_average(
        lambda x: mp.exp(-2 * (x - low) * t), alpha, t
    ) + max(1 - alpha, mpf(0))
    if S == 0:
        return bias
    return bias + S * spectral_average(lambda x: mp.expm1(-x * t) ** 2 / x, alpha, t)


def optimal_time(alpha, S) -> mpf:
    """The time at which the error of gradient flow is stationary, S > 0."""
    mp.dps = 42
    edge = (1 - mp.sqrt(alpha)) ** 2

    def half_derivative(log_t):  # of the error in t, without the factor exp(-edge t)
        t = mp.exp(log_t)
        return spectral_average(
            lambda x: mp.exp(-(x - edge) * t) * (S - (x + S) * mp.exp(-x * t)), alpha, t
        )

    mp.dps = 18
    low, high = mpf(-20), mpf(-3) - mp.log(1 + alpha)
    while half_derivative(high) < 0:
        low, high = high, high + 1
    rough = findroot(half_derivative, (low, high), solver="anderson", tol=mpf(10) ** -24)
    mp.dps = 42
    start = (rough, rough + mpf(10) ** -12)
    return mp.exp(findroot(half_derivative, start, solver="secant", tol=mpf(10) ** -70))


def equilibrium_row(inputs):
    """One row of ridge.csv."""
    values = equilibrium(*map(exact, inputs))
    return [repr(value) for value in inputs] + [text(values[name]) for name in NAMES]


def early_stopping_row(inputs):
    """One row of early_stopping.csv."""
    return [repr(value) for value in inputs] + [text(gen_error_at_time(*map(exact, inputs)))]


def optimal_stopping_row(inputs):
    """One row of optimal_stopping.csv."""
    alpha, S = map(exact, inputs)
    t = optimal_time(alpha, S)
    return [repr(value) for value in inputs] + [text(t), text(gen_error_at_time(alpha, S, t))]


def equilibrium_inputs():
    """(alpha, S, zeta): the regions where float64 formulae cancel, then random points."""
    points = []
    near_one = [1.0, 1 - 1e-3, 1 + 1e-3, 1 - 1e-9, 1 + 1e-9, 1 - 1e-15, 1 + 1e-15]
    for alpha in near_one:
        points += [(alpha, S, zeta) for S in (0.0, 0.25) for zeta in (0.0, 1e-12, 1e-3)]
    for alpha in (1e-3, 0.5, 2.0, 1e3):  # zeta -> 0, with and without noise
        points += [(alpha, S, z) for S in (0.0, 1.0) for z in (0.0, 1e-12, 1e-6, 1.0, 1e4)]
    points += [(0.5, 1e3, 0.0), (1.5, 1e3, 0.0), (1.5, 1e-12, 0.0), (1.5, 1e-12, 1e-12)]
    points += [(1.001, 1e3, 1e-9), (0.999, 1e3, 1e-9), (1.0, 1e3, 1e-12), (3.0, 0.25, 0.25)]
    draw = random.Random(20260101)
    for _ in range(60):
        S = draw.choice([0.0, 0.25, log_uniform(draw, 1e-6, 1e3)])
        zeta = draw.choice([0.0, log_uniform(draw, 1e-12, 1e4), log_uniform(draw, 1e-3, 10)])
        points.append((log_uniform(draw, 1e-3, 1e3), S, zeta))
    return points


def early_stopping_inputs():
    """(alpha, S, t)."""
    return [
        (alpha, S, t)
        for alpha in (0.1, 0.5, 0.999, 1.0, 1.5, 10.0, 1000.0)
        for S in (0.0, 0.25, 10.0)
        for t in (1e-3, 0.1, 1.0, 10.0, 1e3)
    ]


def optimal_stopping_inputs():
    """(alpha, S)."""
    return [(a, S) for a in (0.1, 0.5, 1.0, 1.5, 10.0, 1000.0) for S in (1e-3, 0.25, 10.0)]


def closed_form(alpha, S, zeta):
    """Overlap and generalization error of ridge regression from the resolvent, zeta > 0."""
    root = mp.sqrt((zeta + (1 + mp.sqrt(alpha)) ** 2) * (zeta + (1 - mp.sqrt(alpha)) ** 2))
    h = (1 - alpha - zeta + root) / 2
    total = zeta + 1 + alpha + root
    return 1 - h, h**2 * total / (2 * root) + 2 * S * alpha / (root * total)


def moment_series(alpha, S, t):
    """Error of gradient flow from the moments of the Marchenko-Pastur law (Narayana numbers)."""
    mp.dps = 60 + int(2 * t * (1 + mp.sqrt(alpha)) ** 2)
    n_terms = 100 + int(8 * t * (1 + mp.sqrt(alpha)) ** 2)

    def moment(k):
        return sum(
            mp.binomial(k, j) * mp.binomial(k, j - 1) * alpha**j / k for j in range(1, k + 1)
        )

    total, power = mpf(1), mpf(1)
    previous = moment(1)
    total -= 2 * t * previous
    power = -t
    for k in range(2, n_terms):
        power *= -t / k
        total += power * 2**k * (current := moment(k)) + S * power * (2**k - 2) * previous
        previous = current
    return total


def verify() -> None:
    """Largest relative differences between the independent routes."""
    worst = mpf(0)
    for inputs in equilibrium_inputs():
        alpha, S, zeta = map(exact, inputs)
        if zeta > 0:
            values = equilibrium(alpha, S, zeta)
            m, gen_error = closed_form(alpha, S, zeta)
            worst = max(worst, abs(values["gen_error"] / gen_error - 1))
            worst = max(worst, abs(values["gamma"] * values["R"] / m - 1))
    print("saddle point against the resolvent's closed form:", mp.nstr(worst, 3))
    worst = mpf(0)
    for inputs in [(0.5, 0.25, 1.0), (1.0, 10.0, 10.0), (10.0, 0.25, 0.1), (0.999, 0.0, 1.0)]:
        series = moment_series(*map(exact, inputs))
        worst = max(worst, abs(gen_error_at_time(*map(exact, inputs)) / series - 1))
    print("gradient flow, density against moment series:", mp.nstr(worst, 3))


TABLES = {
    "ridge": (equilibrium_row, equilibrium_inputs, ["alpha", "S", "zeta", *NAMES]),
    "early_stopping": (early_stopping_row, early_stopping_inputs, ["alpha", "S", "t", "gen_error"]),
    "optimal_stopping": (
        optimal_stopping_row,
        optimal_stopping_inputs,
        ["alpha", "S", "t", "gen_error"],
    ),
}

if __name__ == "__main__":
    main(__doc__, TABLES, verify)
