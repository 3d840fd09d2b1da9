r"""
Batch norm shortens the weights
===============================

Trained with batch normalization, a linear student ends close to the direction of least squares,
with a length that is shorter by :math:`c_M = E[\sigma_B]/\sigma_P`, because the standard
deviation of a batch of :math:`M` samples is on average smaller than that of the population.
Ridge regression with the strength of gamma decay, 1/(2M), would shorten it by another factor.

What to see: the points, from training on the same samples with and without batch norm, follow
the replica theory. At small :math:`M` it lies above :math:`c_M`, because batch norm also turns the
weights a little away from least squares, which costs no training loss and makes them longer.
Error bars are one standard error of 8 runs.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import finish_axes

common = {"N": 128, "n_runs": 8, "seed": 3, "progress": False}
alpha, S = 4.0, 0.25
plain = replica.simulate_training(
    alpha, S, batch_size=512, epochs=300, learning_rate=0.15, tolerance=1e-8, **common
)
sizes = np.array([4, 8, 16, 32])
ratios = []
for M in sizes:
    run = replica.simulate_training(
        alpha, S, normalizer="bn-var", batch_size=int(M), epochs=400, learning_rate=0.3,
        schedule="step", **common,
    )  # fmt: skip
    ratios.append(run.gamma[-1] / plain.gamma[-1])
least_squares = np.sqrt(1 + S / (alpha - 1))
predicted = [
    replica.bn_equilibrium(alpha, S, batch_size=int(M), theory="finite-batch").gamma / least_squares
    for M in sizes
]
mean = np.mean(ratios, axis=1)
error = np.std(ratios, axis=1, ddof=1) / np.sqrt(common["n_runs"])
for M, value, width, theory in zip(sizes, mean, error, predicted, strict=True):
    c = replica.shrinkage(int(M))
    print(f"M = {M:2d}: {value:.4f} +- {width:.4f}, theory {theory:.4f}, c_M = {c:.4f}")

fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
M = np.arange(3, 41)
ax.plot(sizes, predicted, label="replica theory")
ax.plot(M, replica.shrinkage(M), ":", label=r"$c_M$")
ax.plot(M, 1 / (1 + 1 / (2 * M)), "--", label=r"$1/(1 + 1/(2M))$")
ax.errorbar(sizes, mean, error, fmt="ks", capsize=3, label="simulation")
finish_axes(ax, xlabel="batch size  $M$", ylabel="length over least squares", legend="inside")
plt.show()
assert (np.abs(mean - predicted) < 4 * error).all()
