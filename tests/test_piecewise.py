"""The (leaky-)ReLU saddle point: references, derivatives, branches, robustness."""

import math

import numpy as np
import pytest
from mpmath import mp, mpf

import replica
from reference.tables import columns
from replica import LeakyReLU, Status
from replica.equilibrium import _piecewise as piecewise

PIECEWISE = columns("piecewise")
RIDGELESS = columns("ridgeless")
LEAKY = columns("leaky_relu_rs")
THRESHOLD = columns("threshold")
EPS = np.finfo(float).eps


def solve_rows(table):
    """Order parameters and errors for every row of a table, slope by slope."""
    zeta = table.get("zeta", table.get("lam"))
    zeta = np.zeros_like(table["alpha"]) if zeta is None else zeta
    found = {}
    for slope in np.unique(table["slope"]):
        rows = np.flatnonzero(table["slope"] == slope)
        solved = replica.solve_equilibrium(
            table["alpha"][rows], table["S"][rows], zeta[rows], student=LeakyReLU(slope)
        )
        for name in ("gamma", "R", "chi", "gen_error", "train_error", "energy", "dead_fraction"):
            found.setdefault(name, np.empty(len(zeta)))[rows] = getattr(solved, name)
    return found


def relative_error(found, expected):
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.abs(found / expected - 1.0)
    return np.where(found == expected, 0.0, error)


@pytest.mark.parametrize("table", [PIECEWISE, RIDGELESS], ids=["piecewise", "ridgeless"])
def test_solve_equilibrium_matches_reference_to_the_condition_of_the_problem(table):
    found = solve_rows(table)
    # some tens of roundings, amplified by the condition of the problem itself
    allowed = np.minimum(1e-11, 50 * EPS * np.maximum(table["condition"], 5.0))
    for name in ("gamma", "R", "chi", "gen_error"):
        error = relative_error(found[name], table[name])
        assert (error <= allowed).all(), (name, np.argmax(error / allowed), error.max())
    for name in ("train_error", "energy", "dead_fraction"):
        assert relative_error(found[name], table[name]).max() < 1e-11, name


def test_solve_equilibrium_reproduces_the_first_reference_table():
    found = solve_rows(LEAKY)
    for name in ("gamma", "R", "chi"):
        assert relative_error(found[name], LEAKY[name]).max() < 1e-14, name
    curved = LEAKY["slope"] < 1.0
    assert relative_error(found["gen_error"], LEAKY["gen_error"])[curved].max() < 1e-14
    # gen_error of its linear rows at S = 0 is tiny: the table's own 25 digits still hold
    assert relative_error(found["gen_error"], LEAKY["gen_error"]).max() < 1e-13


def test_interpolation_threshold_matches_reference_and_limits():
    found = replica.interpolation_threshold(THRESHOLD["S"], student="relu")
    np.testing.assert_allclose(found, THRESHOLD["alpha_c"], rtol=1e-14)
    assert replica.interpolation_threshold(0.0, student="relu") == 2.0
    assert replica.interpolation_threshold(1e12, student="relu") == pytest.approx(4 / 3, rel=1e-11)
    assert replica.interpolation_threshold(0.25, student=LeakyReLU(0.3)) == 1.0


def test_interpolation_threshold_is_where_interpolation_ends():
    S = np.array([1e-6, 0.25, 30.0])
    threshold = replica.interpolation_threshold(S, student="relu")
    # the peak of the error is finite: 1 + q/2 - m with m = 1 + S, q = (1 + S)/cos(phi)^2
    phi = math.pi * (2 - threshold) / threshold
    peak = 1 + 0.5 * (1 + S) / np.cos(phi) ** 2 - (1 + S)
    gaps = []
    for distance in (1e-9, 1e-11):
        below = replica.solve_equilibrium(threshold - distance, S, student="relu")
        # where S is large, the linear gap at 1e-11 is of the size of what rounding does there
        farther = distance * np.array([1, 1, 100])
        above = replica.solve_equilibrium(threshold + farther, S, student="relu")
        assert below.interpolating.all()
        assert not above.interpolating.any()
        assert np.isinf(below.chi).all()
        assert np.isfinite(above.chi).all()
        gaps.append([below.gen_error / peak - 1, above.gen_error / peak - 1])
    gaps = np.abs(gaps)
    # from below it is approached like the square root of the distance, from above linearly
    np.testing.assert_allclose(gaps[0, 0] / gaps[1, 0], 10.0, rtol=0.1)
    np.testing.assert_allclose(gaps[0, 1] / gaps[1, 1], 100.0, rtol=0.1)
    assert gaps[1].max() < 2e-3


@pytest.mark.parametrize("a", [0.0, 0.3, 0.95])
@pytest.mark.parametrize(
    "point", [(2.3, 0.6, 0.2, 0.3), (0.05, 0.02, 1e-3, 2.0), (40.0, 1.1, 3.0, 0.0)]
)
def test_saddle_derivatives_match_finite_differences(a, point):
    chi, m, v, S = point

    def saddle(log_chi, m, log_v):
        return np.array(piecewise.cone_saddle(math.exp(log_chi), m, 1 - m, math.exp(log_v), S, a))

    x = np.array([math.log(chi), m, math.log(v)])
    steps = 1e-5 * np.eye(3)
    X, X_rest, Y, _, W, W_rest, X_l, X_m, X_v, Y_l, Z_l, Z_m, Z_v, W_l = saddle(*x)[:14]
    assert W + W_rest == pytest.approx(v, rel=1e-14)
    assert X + X_rest == pytest.approx(1.0, rel=1e-15)
    numeric = [(saddle(*(x + d)) - saddle(*(x - d))) / 2e-5 for d in steps]
    analytic = np.array(
        [
            [X_l, Y_l, Z_l, W_l],
            [X_m, Z_m - X_m, Z_m, 2 * (Y_l - Y - (1 - m) * (X - X_l))],
            [X_v, Z_v - X_v, Z_v, v * (X - X_l)],
        ]
    )
    np.testing.assert_allclose(analytic, np.array(numeric)[:, [0, 2, 3, 4]], rtol=1e-6, atol=1e-9)


def brute_force_averages(chi, m, v, S, a, n=2000):
    """E[f y], E[f omega], E[f^2] with f by minimizing over the branches, on a polar midpoint grid.

    The angular integrand is piecewise smooth with a few jumps: the error is O(1/n).
    """
    t = 2 * math.pi * (np.arange(n) + 0.5) / n
    y = math.sqrt(1 + S) * np.sin(t)
    tau = math.sqrt(v + m * m * S / (1 + S))
    omega = m / (1 + S) * y - tau * np.cos(t)
    candidates = []
    for b, side in ((1.0, 1), (a, -1)):
        u = (omega + chi * b * y) / (1 + b * b * chi)
        candidates.append(np.where(side * u >= 0, u, 0.0))
    u = np.array(candidates)
    g = np.where(u > 0, u, a * u)
    cost = (u - omega) ** 2 / (2 * chi) + (y - g) ** 2 / 2
    best = np.take_along_axis(u, cost.argmin(0)[None], 0)[0]
    f = (best - omega) / chi
    return 2 * np.mean(f * y), 2 * np.mean(f * omega), 2 * np.mean(f * f)


@pytest.mark.parametrize("a", [0.0, 0.2, 0.8])
@pytest.mark.parametrize("S", [0.0, 0.25, 4.0])
def test_saddle_sums_match_the_minimization_over_branches(a, S):
    chi, m, v = 3.0, 0.7, 0.4
    X, _, _, Z, W = piecewise.cone_saddle(chi, m, 1 - m, v, S, a)[:5]
    g0, g1 = -X / chi, Z / chi
    fy, fomega, f2 = brute_force_averages(chi, m, v, S, a, n=200_000)
    assert fy == pytest.approx(m * g0 + (1 + S) * g1, abs=2e-4)
    assert fomega == pytest.approx((v + m * m) * g0 + m * g1, abs=2e-4)
    assert f2 == pytest.approx(W / chi**2, abs=2e-4)


def whole_box(n, seed):
    """Random problems over the whole domain, its edges included."""
    draw = np.random.default_rng(seed)
    alpha = 10 ** draw.uniform(-3, 3, n)
    middle = draw.random(n) < 0.3
    alpha[middle] = draw.uniform(0.8, 2.2, middle.sum())
    zeta = np.where(draw.random(n) < 0.25, 0.0, 10 ** draw.uniform(-12, 4, n))
    S = np.where(draw.random(n) < 0.15, 0.0, 10 ** draw.uniform(-6, 3, n))
    return alpha, S, zeta


def slopes(n, seed):
    draw = np.random.default_rng(seed)
    return np.concatenate(
        [[0.0], draw.random(n), 10 ** draw.uniform(-12, 0, n), 1 - 10 ** draw.uniform(-14, 0, n)]
    )


def test_solve_equilibrium_converges_everywhere():
    total = 0
    for k, slope in enumerate(slopes(12, 3)):
        n = 40_000 if slope == 0.0 else 2_000
        solved = replica.solve_equilibrium(*whole_box(n, k), student=LeakyReLU(slope))
        assert (solved.status == Status.CONVERGED).all(), slope
        assert solved.residual.max() <= 1e-10, slope
        assert np.isfinite(solved.gen_error).all(), slope
        assert (np.abs(solved.R) <= 1.0).all(), slope
        floor = (1 - slope) ** 2 / (2 * (1 + slope**2))
        assert (solved.gen_error >= floor).all(), slope
        total += n
    assert total > 100_000


def test_solve_equilibrium_at_slope_one_through_the_general_path_is_the_ridge():
    alpha, S, zeta = whole_box(2_000, 11)
    keep = (zeta > 1e-9) & (np.abs(alpha - 1) > 1e-2)
    ridge = replica.solve_equilibrium(alpha[keep], S[keep], zeta[keep])
    for i, (load, noise, decay) in enumerate(zip(alpha[keep], S[keep], zeta[keep], strict=True)):
        gamma, R, chi, eps = piecewise.piecewise_point(load, noise, decay, 1.0)[:4]
        found = np.array([gamma, R, chi, eps])
        expected = np.array([ridge.gamma[i], ridge.R[i], ridge.chi[i], ridge.gen_error[i]])
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def saddle_points(alpha, S, zeta, a, starts=150):
    """All saddle points that Newton reaches from random starts: chi and energy of each."""
    draw = np.random.default_rng(0)
    found = {}
    for _ in range(starts):
        scale = 10 ** (draw.random() * max(1.0, -math.log10(a)))
        chi, m, v = 10 ** draw.uniform(-1, 2) * scale**2, draw.uniform(0, 2) * scale, scale**2
        point = piecewise._newton(alpha, S, zeta, a, chi, m, 1 - m, v * draw.random(), 100)
        if point.found:
            energy = 0.5 * (alpha * point.train + zeta * (point.v + point.m**2))
            found[round(math.log(point.chi), 6)] = energy
    return found


@pytest.mark.parametrize(
    "problem",
    [
        (1.6, 0.0, 0.0, 1e-4),
        (1.8, 0.25, 1e-9, 1e-4),
        (1.88954200, 0.0867913245, 0.0, 2.97315195e-3),
        (1.95, 0.25, 0.0, 1e-4),
        (1.95, 100.0, 0.0, 1e-8),
        # towards the end of coexistence, where the branches are near each other
        (1.8312479771204166, 0.0027977543283444115, 1.2774582535886688e-4, 0.010024894079236058),
        (1.8950172268641636, 0.015400191925411116, 3.0517114461670755e-5, 0.01612210092279749),
        (1.7304072720110766, 0.25, 8.962039501382604e-5, 0.004164913525236501),
        (1.8656937677658663, 0.01, 9.268338671596943e-5, 0.013020835074902034),
    ],
)
def test_solve_equilibrium_returns_the_ground_state_where_saddle_points_coexist(problem):
    alpha, S, zeta, slope = problem
    energies = saddle_points(*problem)
    assert len(energies) >= 2  # else this problem tests nothing
    solved = replica.solve_equilibrium(alpha, S, zeta, student=LeakyReLU(slope))
    assert solved.energy == pytest.approx(min(energies.values()), rel=1e-9)


@pytest.mark.slow
def test_saddle_point_is_unique_outside_the_region_that_is_searched_twice():
    draw = np.random.default_rng(8)
    for _ in range(400):
        a = 10 ** draw.uniform(-6, -0.01)
        alpha, S = draw.uniform(0.5, 3.0), 10 ** draw.uniform(-3, 3)
        zeta = 10 ** draw.uniform(-10, 0)
        twice = a < 0.02 and zeta < 1e-3 and 4 / 3 < alpha < 2
        if not twice:
            assert len(saddle_points(alpha, S, zeta, a, starts=40)) <= 1, (alpha, S, zeta, a)


def test_leaky_ridgeless_below_one_is_the_closed_form():
    alpha, S, a = 0.6, 0.25, 0.4
    c1, c2 = (1 + 1 / a) / 2, (1 + 1 / a**2) / 2
    m = alpha * c1
    q = m**2 + alpha * ((1 + S) * c2 - alpha * (2 - alpha) * c1**2) / (1 - alpha)
    solved = replica.solve_equilibrium(alpha, S, student=LeakyReLU(a))
    assert solved.gamma == pytest.approx(math.sqrt(q), rel=1e-14)
    assert solved.gamma * solved.R == pytest.approx(m, rel=1e-14)
    assert solved.train_error == 0.0
    assert solved.interpolating
    small = replica.solve_equilibrium(alpha, S, 1e-12, student=LeakyReLU(a))
    assert small.gen_error == pytest.approx(float(solved.gen_error), rel=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.5, 1.0, 1.3, 1.46, 1.48, 1.9, 2.0, 2.5, 30.0])
@pytest.mark.parametrize("S", [0.0, 1e-4, 0.25, 30.0])
def test_relu_at_zeta_zero_is_the_limit_of_small_zeta(alpha, S):
    limit = replica.solve_equilibrium(alpha, S, 0.0, student="relu")
    zeta = np.array([1e-8, 1e-10, 1e-12, 1e-14])
    near = replica.solve_equilibrium(alpha, S, zeta, student="relu")
    gap = np.abs(near.gen_error - limit.gen_error) / limit.gen_error
    # corrections are of order chi^(-1/2) ~ zeta^(1/2), of lower order near the threshold
    assert gap[-1] < 1e-3
    assert gap[-1] <= gap[0] + 1e-14


def test_relu_ridgeless_special_points():
    solved = replica.solve_equilibrium([2.0, 3.0, 1.0], 0.0, student="relu")
    np.testing.assert_array_equal(solved.gen_error[:2], 0.5)
    np.testing.assert_array_equal(solved.R[:2], 1.0)
    np.testing.assert_array_equal(solved.chi, [math.inf, 2.0, math.inf])
    assert solved.interpolating.all()
    assert 0.5 < solved.gen_error[2] < 1.0


def test_leaky_at_zeta_zero_and_load_one_diverges():
    solved = replica.solve_equilibrium(1.0, 0.25, student=LeakyReLU(0.5))
    assert solved.gen_error == math.inf
    assert solved.status == Status.DIVERGENT


def test_leaky_with_vanishing_slope_does_not_overflow_before_its_answer_does():
    solved = replica.solve_equilibrium(0.5, 0.25, student=LeakyReLU(1e-200))
    assert solved.gamma == pytest.approx(1e200 * math.sqrt(0.25**2 + 0.5 / 0.5 * (0.625 - 0.1875)))
    assert 0.0 < solved.R < 1.0
    assert solved.status == Status.DIVERGENT  # gen_error ~ 1e400


def test_vanishing_slopes_scale_like_small_ones_where_both_signs_are_fitted():
    small = replica.solve_equilibrium(1.2, 0.25, student=LeakyReLU(1e-60))
    tiny = replica.solve_equilibrium(1.2, 0.25, student=LeakyReLU(1e-130))
    assert tiny.gamma == pytest.approx(1e70 * float(small.gamma), rel=1e-12)
    assert pytest.approx(float(small.R), rel=1e-12) == tiny.R
    relu = replica.solve_equilibrium([2.5, 2.5, 3.0], [0.0, 0.25, 0.25], student="relu")
    least = replica.solve_equilibrium([2.5, 2.5, 3.0], [0.0, 0.25, 0.25], student=LeakyReLU(5e-324))
    np.testing.assert_allclose(least.gen_error, relu.gen_error, rtol=1e-13)


def test_solve_equilibrium_converges_at_the_threshold_to_the_last_digit():
    S = np.geomspace(1e-12, 1e3, 60)
    threshold = replica.interpolation_threshold(S, student="relu")
    phi = math.pi * (2 - threshold) / threshold
    peak = (1 + S) / (2 * np.cos(phi) ** 2) - S
    alpha = [threshold]
    for towards in (0.0, 9.0):
        x = threshold
        for _ in range(4):
            x = np.nextafter(x, towards)
            alpha.append(x)
    found = replica.solve_equilibrium(np.array(alpha), S, student="relu")
    assert (found.status == 0).all()
    # the distance of one rounding enters under a square root
    np.testing.assert_allclose(found.gen_error, np.broadcast_to(peak, (9, 60)), rtol=1e-3)


@pytest.mark.parametrize("a", [0.0, 0.3, 0.95, 1 - 1e-6])
@pytest.mark.parametrize(
    ("m", "v", "S"), [(0.7, 0.6, 0.3), (0.7, 0.2, 0.3), (1.0 - 1e-5, 1e-9, 0.0), (1.2, 90.0, 2.0)]
)
@pytest.mark.parametrize("chi", [2.0, 1e3 * (1 + 1e-9), 1e5])
def test_the_two_forms_of_a_difference_agree(chi, m, v, S, a):
    _, _, _, _, W, W_rest, *_ = piecewise.cone_saddle(chi, m, 1 - m, v, S, a)
    assert W_rest == pytest.approx(v - W, abs=1e-14 * (v + W + 1 + S))


@pytest.mark.parametrize("end", [4 / 3, 2.0])
def test_loads_beside_the_ends_of_the_search_are_solved_there(end):
    """Within 4e-6 of an end the way used to be too short to be walked."""
    side = 1.0 if end < 2 else -1.0
    alpha = end + side * np.array([1e-14, 1e-9, 1e-7, 3.9e-6, 4.1e-6, 1e-5])
    solved = replica.solve_equilibrium(alpha, 0.25, student=LeakyReLU(0.01))
    # a parabola through three loads farther off, where the way was long enough
    far = end + side * np.array([4e-5, 6e-5, 8e-5])
    found = np.log(replica.gen_error(far, 0.25, student=LeakyReLU(0.01)))
    curve = np.polynomial.Polynomial.fit(far - end, found, 2)
    np.testing.assert_allclose(solved.gen_error, np.exp(curve(alpha - end)), rtol=1e-9)
    assert replica.gen_error(4 / 3 + 3.9e-6, 0.25, student=LeakyReLU(0.01)) == pytest.approx(
        6096.8464757, rel=1e-10
    )


def test_leaky_ridgeless_beside_load_one_and_slope_one_keeps_its_digits():
    with mp.workdps(60):
        for distance, rest, S in [(1e-8, 1e-9, 0.0), (1e-12, 1e-3, 1e-20), (1e-5, 1e-15, 0.0)]:
            load, a = 1 - distance, 1 - rest
            alpha, slope = mpf(load), mpf(a)
            c1, c2 = (1 + 1 / slope) / 2, (1 + 1 / slope**2) / 2
            m = alpha * c1
            rest_of_q = alpha * ((1 + mpf(S)) * c2 - alpha * (2 - alpha) * c1**2) / (1 - alpha)
            exact = 1 + (1 + slope**2) * (m**2 + rest_of_q) / 2 - (1 + slope) * m
            found = replica.gen_error(load, S, student=LeakyReLU(a))
            assert found == pytest.approx(float(exact), rel=1e-14)


def test_relu_without_noise_and_decay_is_the_teacher_as_the_load_nears_two():
    alpha = 2 - np.geomspace(2.3e-16, 1e-8, 400)
    solved = replica.solve_equilibrium(alpha, 0.0, student="relu")
    assert (solved.status == Status.CONVERGED).all()
    assert solved.interpolating.all()
    # what is left of 1 - R grows like the square of 2 - alpha
    assert np.abs(solved.gen_error - 0.5).max() < 1e-15
    np.testing.assert_allclose(solved.R, 1.0, rtol=1e-15)


@pytest.mark.parametrize("slope", [0.02, 0.25, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("S", [0.0, 1e-12, 0.25])
def test_leaky_without_decay_converges_down_to_the_last_load_above_one(slope, S):
    alpha = 1 + np.append(np.finfo(float).eps, np.geomspace(1e-15, 1e-6, 20))
    solved = replica.solve_equilibrium(alpha, S, student=LeakyReLU(slope))
    assert (solved.status == Status.CONVERGED).all()
    assert (np.diff(np.log(solved.gen_error)) < 0).all()


def test_slopes_whose_inverse_is_out_of_range_keep_their_direction():
    least = replica.solve_equilibrium([0.5, 1.2, 1.6], 0.25, student=LeakyReLU(5e-324))
    small = replica.solve_equilibrium([0.5, 1.2, 1.6], 0.25, student=LeakyReLU(1e-200))
    assert np.isinf(least.gamma).all()
    np.testing.assert_allclose(least.R, small.R, rtol=1e-12)
