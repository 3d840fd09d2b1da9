"""Gamma decay of multilayer perceptrons against noise put in by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from replica.batch_norm import as_glm, batch_prior, deep_gamma_decay, gamma_decay

SIZES = (6, 5)  # neurons of the two hidden layers
ACTIVATIONS = {
    "tanh": np.tanh,
    "softplus": lambda h: np.logaddexp(0, h),
    special.expit: special.expit,
    "erf": lambda h: special.erf(h / np.sqrt(2)),
    "linear": lambda h: h,
    "relu": lambda h: np.maximum(h, 0),
}


def network(loss="cross-entropy", n_samples=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_samples, 4))
    shapes = [(SIZES[0], 4), (SIZES[1], SIZES[0]), (3, SIZES[1])]
    weights = [rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in shapes]
    gammas = [rng.uniform(0.6, 1.6, n) for n in SIZES]
    betas = [rng.normal(0, 0.4, n) for n in SIZES]
    y = rng.integers(0, 3, n_samples)
    if loss != "cross-entropy":
        y = rng.standard_normal((n_samples, 3))
    return weights, x, y, gammas, betas


def losses(weights, x, y, gammas, betas, activation, loss, noise=None, shift=None):
    """Loss of every sample, written without the library.

    `noise` maps a layer to (m, r) that broadcast with (repeats, P, N_l), `shift` one to what is
    added to its normalized values. The population statistics are those of the noiseless network.
    """
    z = clean = x
    for i, w in enumerate(weights[:-1]):
        population = clean @ w.T
        mu, sigma = population.mean(axis=0), population.std(axis=0)
        clean = ACTIVATIONS[activation](gammas[i] * (population - mu) / sigma + betas[i])
        t = (z @ w.T - mu) / sigma
        if noise is not None and i in noise:
            m, r = noise[i]
            t = (t - m) / r
        field = gammas[i] * t + betas[i]
        if shift is not None and i in shift:
            field = field + shift[i]
        z = ACTIVATIONS[activation](field)
    output = z @ weights[-1].T
    if loss == "cross-entropy":
        log_p = output - special.logsumexp(output, axis=-1, keepdims=True)
        return -np.take_along_axis(
            log_p, np.broadcast_to(y[:, None], (*log_p.shape[:-1], 1)), axis=-1
        )[..., 0]
    return (0.5 if loss == "half-squared" else 1.0) * np.sum((output - y) ** 2, axis=-1)


def decompose(net, size, **options):
    weights, x, y, gammas, betas = net
    return deep_gamma_decay(
        weights, x, y, batch_size=size, gammas=gammas, betas=betas, law="chi", **options
    )


@pytest.mark.parametrize("loss", ["cross-entropy", "squared", "half-squared"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_deep_gamma_decay_hessian_is_that_of_finite_differences(activation, loss):
    net = network(loss)
    size = 16
    result = decompose(net, size, activation=activation, loss=loss)
    start = losses(*net, activation, loss)
    assert result.pn_loss == pytest.approx(start.mean(), rel=1e-12)
    step = 1e-4
    for layer, count in enumerate(SIZES):
        for neuron in range(count):
            bump = np.zeros(count)
            bump[neuron] = step
            up, down = (losses(*net, activation, loss, shift={layer: s * bump}) for s in (1, -1))
            second = (up + down - 2 * start) / step**2
            # zeta_mean is the mean second derivative over 2 M; 1e-16/step^2 of rounding
            assert result.zeta_mean[layer][neuron] == pytest.approx(
                np.mean(second) / (2 * size), abs=1e-8, rel=1e-5
            )


def test_deep_gamma_decay_gauss_newton_differs_only_where_the_activation_bends():
    for activation, bends in (("tanh", True), ("softplus", True), ("relu", False)):
        net = network()
        exact = decompose(net, 16, activation=activation)
        reduced = decompose(net, 16, activation=activation, hessian="gauss-newton")
        gap = max(np.abs(a - b).max() for a, b in zip(exact.zeta, reduced.zeta, strict=True))
        assert (gap > 1e-5) == bends
        assert min(z.min() for z in reduced.zeta) >= 0.0


def test_deep_gamma_decay_of_each_neuron_is_exact_to_first_order():
    # Noise in one neuron at a time, averaged by quadrature over (mu_B, sigma_B).
    net = network(n_samples=40)
    start = losses(*net, "tanh", "cross-entropy").mean()
    rest = {}
    for size in (64, 256):
        result = decompose(net, size, activation="tanh")
        prior = batch_prior(size, law="chi")
        (m, m_weight), (r, r_weight) = prior.mu_nodes(12), prior.sigma_nodes()
        m_grid, r_grid = (a.reshape(-1, 1) for a in np.meshgrid(m, r, indexing="ij"))
        weight = np.outer(m_weight, r_weight).ravel()
        for layer, count in enumerate(SIZES):
            for neuron in range(count):
                only = np.zeros(count)
                only[neuron] = 1.0
                noise = {layer: ((m_grid * only)[:, None, :], ((r_grid - 1) * only + 1)[:, None])}
                noisy = losses(*net, "tanh", "cross-entropy", noise).mean(axis=-1)
                first = result.remainder[layer][neuron]
                first += result.zeta[layer][neuron] * net[3][layer][neuron] ** 2
                rest.setdefault((layer, neuron), []).append(weight @ (noisy - start) - first)
                assert abs(first) > 1e-6
    small, large = np.abs(list(rest.values())).T
    print("M^2 remainder at M = 64, 256:", (small * 64**2).round(3), (large * 256**2).round(3))
    # O(1/M^2) as a whole; single neurons can have almost no M^-2 term
    assert small.max() / large.max() == pytest.approx(16, rel=0.1)
    assert np.linalg.norm(small) / np.linalg.norm(large) == pytest.approx(16, rel=0.1)


def test_deep_gamma_decay_total_agrees_with_noise_in_all_layers():
    # Monte Carlo, independent noise in every neuron for every sample, first order subtracted.
    net = network(n_samples=200, seed=2)
    x, gammas = net[1], net[3]
    for size in (32, 128):
        result = decompose(net, size, activation="tanh")
        prior = batch_prior(size, law="chi")
        rng = np.random.default_rng(size)
        penalty, first = result.penalty, result.total - result.pn_loss
        start = losses(*net, "tanh", "cross-entropy")
        values = []
        for _ in range(150):
            # antithetic pairs (m, r(u)), (-m, r(1 - u)) remove most of the first-order noise
            pair = [{}, {}]
            for layer, count in enumerate(SIZES):
                shape = (4, len(x), count)
                m = rng.standard_normal(shape) / np.sqrt(size)
                u = rng.random(shape)
                for noise, sign, level in ((pair[0], 1, u), (pair[1], -1, 1 - u)):
                    r = np.sqrt(2 * special.gammaincinv(prior.dof / 2, level) / size)
                    noise[layer] = (sign * m, r)
            noisy = [losses(*net, "tanh", "cross-entropy", noise) for noise in pair]
            values.append((0.5 * (noisy[0] + noisy[1]) - start).mean())
        mean, error = np.mean(values), np.std(values) / np.sqrt(len(values))
        print(f"M = {size}: measured {mean:.6f} +- {error:.6f}, first order {first:.6f}")
        assert abs(mean - first) < 4 * error + 1.5 / size**2
        if size == 32:
            continue
        # controls: at the larger M each piece is seen to be needed
        assert abs(mean - penalty) > 4 * error + 1.5 / size**2
        assert abs(mean - (first - penalty)) > 4 * error + 1.5 / size**2
        upper = np.sum(result.zeta[1] * gammas[1] ** 2) + result.remainder[1].sum()
        assert abs(mean - (first - upper)) > 4 * error + 1.5 / size**2


def test_deep_gamma_decay_of_one_linear_neuron_is_theorem_1():
    # One hidden neuron read out with weight 1 and half-squared loss is the GLM with A = h^2/2.
    rng = np.random.default_rng(0)
    x, w = rng.laplace(size=(50, 3)), rng.standard_normal((1, 3))
    y = rng.standard_normal(50)
    deep = deep_gamma_decay(
        [w, [[1.0]]], x, y[:, None], batch_size=9, gammas=[1.4], betas=[0.2],
        activation="linear", loss="half-squared",
    )  # fmt: skip
    glm = as_glm("linear")
    shallow = gamma_decay(x @ w[0], y, batch_size=9, gamma=1.4, beta=0.2, activation=glm)
    assert deep.zeta_mean[0][0] == pytest.approx(shallow.zeta_mean)
    assert deep.zeta_std[0][0] == pytest.approx(shallow.zeta_std)
    assert deep.remainder[0][0] == pytest.approx(shallow.remainder)
    assert deep.total == pytest.approx(shallow.total + 0.5 * np.mean(y**2))


def test_deep_gamma_decay_in_a_table_has_a_row_for_each_neuron():
    result = decompose(network(), 16, activation="relu")
    frame = result.to_pandas().dropna()
    assert len(frame) == sum(SIZES)
    assert frame.zeta.tolist() == [*result.zeta[0], *result.zeta[1]]
    assert frame.attrs["activation"] == "relu"
    assert frame.attrs["pn_loss"] == result.pn_loss
    assert result.plot().get_ylabel() == r"decay  $\zeta$"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, "batch_size must be an integer >= 2"),
        ({"weights": [np.ones((3, 4))]}, "at least 2 matrices"),
        ({"weights": [np.ones((3, 5)), np.ones((3, 3))]}, r"weights\[0\] must have shape"),
        ({"weights": [np.zeros((3, 4)), np.ones((3, 3))]}, "neuron 0 of hidden layer 1: .*const"),
        ({"x": np.ones(4)}, "x must have shape"),
        ({"x": np.full((6, 4), np.nan)}, "x must lie in"),
        ({"y": np.array([0, 1, 2, 3, 0, 0])}, "y must lie in 0..2"),
        ({"y": np.zeros(6)}, "integer class numbers"),
        ({"loss": "squared"}, "y must have shape"),
        ({"gammas": [1.0, 1.0]}, "gammas must have one entry per hidden layer"),
        ({"betas": [np.ones(2)]}, r"betas\[0\] must be a number or have shape"),
        ({"output_bias": [1.0, 2.0]}, r"output_bias must be a number or have shape \(3,\)"),
        ({"activation": "gelu"}, "activation must be one of"),
        ({"activation": "sign"}, "activation must be continuous, .*; sign jumps at 0"),
        ({"hessian": "full"}, "hessian must be one of"),
    ],
)
def test_deep_gamma_decay_refuses_bad_input(options, message):
    rng = np.random.default_rng(0)
    arguments = {
        "weights": [rng.standard_normal((3, 4)), rng.standard_normal((3, 3))],
        "x": rng.standard_normal((6, 4)),
        "y": np.array([0, 1, 2, 0, 1, 2]),
        "batch_size": 8,
    } | options
    with pytest.raises(ValueError, match=message):
        deep_gamma_decay(**arguments)
