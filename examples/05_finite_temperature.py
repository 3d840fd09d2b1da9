r"""
Three errors at a temperature
=============================

At temperature :math:`1/\beta` training does not end in one student but in a Gibbs measure over
students. There are then three generalization errors: that of a student drawn from it, that of
the student with the averaged weights, and that of the averaged output.

What to see: they differ at high temperature and meet at low temperature, in the error of the
trained student (dotted line). Averaging outputs is never worse than drawing one student.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import ERROR_LABEL, draw_curve, finish_axes

alpha, S, zeta = 1.5, 0.25, 0.25
beta = np.geomspace(0.5, 500.0, 9)
warm = replica.solve_equilibrium(alpha, S, zeta, student="relu", beta=beta)
cold = replica.gen_error(alpha, S, zeta, student="relu")

fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
names = {
    "one student of the Gibbs measure": warm.gibbs_gen_error,
    "averaged weights": warm.gen_error,
    "averaged output": warm.posterior_mean_gen_error,
}
for i, (name, error) in enumerate(names.items()):
    draw_curve(ax, 1 / beta, error, index=i, label=name)
ax.axhline(cold, color="0.4", linestyle=":", linewidth=1)
ax.set_xscale("log")
finish_axes(ax, xlabel=r"temperature  $1/\beta$", ylabel=ERROR_LABEL, title="ReLU student, α = 1.5")
plt.show()

# %%
# Jensen's inequality, and the limit:

assert (warm.posterior_mean_gen_error <= warm.gibbs_gen_error).all()
print(f"beta = 500: {warm.gen_error[-1]:.4f}, zero temperature: {cold:.4f}")
assert abs(warm.gen_error[-1] / cold - 1) < 0.02
