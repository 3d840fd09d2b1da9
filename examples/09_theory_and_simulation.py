r"""
Theory beside simulation
========================

The theory is for infinitely many weights. A system of 200 is already close to it; the
simulators share no code with the theory.

What to see: the error bars, one standard error of 16 runs, cover the curves. They are largest
near :math:`\alpha = 1` without much decay, where single runs scatter most.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica

S = 0.25
alpha = np.arange(10, 401) / 100
fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
replica.plot_curve(alpha, S, [0.05, 0.25], ax=ax)
largest = 0.0
for zeta in (0.05, 0.25):
    for load in (0.5, 1.0, 2.0, 3.5):
        run = replica.simulate_training(
            load, S, zeta=zeta, N=200, n_runs=16, seed=5, progress=False, epochs=800,
            batch_size=round(200 * load), learning_rate=1.5 / ((1 + load**0.5) ** 2 + zeta),
            tolerance=1e-6,
        )  # fmt: skip
        mean, error = run.mean("gen_error")[-1], run.standard_error("gen_error")[-1]
        ax.errorbar(load, mean, error, fmt="s", color="k", capsize=3, zorder=5)
        largest = max(largest, abs(mean - replica.gen_error(load, S, zeta)) / error)
plt.show()

# %%
# The largest of the eight deviations, in standard errors:

print(f"{largest:.1f}")
assert largest < 4
