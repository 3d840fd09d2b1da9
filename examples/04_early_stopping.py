r"""
Early stopping against ridge regression
=======================================

Gradient flow from zero weights learns the large directions of the data first and the noise
last, so stopping it is a regularizer, too. The curves below are exact: no run is behind them.

What to see: near :math:`\alpha = 1` the error falls, has a minimum, and rises to the error of
least squares. At its minimum it is only a little above the best that ridge regression can do
(dotted lines).
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import ERROR_LABEL, draw_curve, finish_axes, line_style

S = 0.25
t = np.geomspace(0.05, 1e4, 200)
fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
for i, alpha in enumerate([0.5, 1.0, 2.0]):
    flow = replica.early_stopping(alpha, S, t)
    ridge = replica.gen_error(alpha, S, S)
    draw_curve(ax, t, flow.gen_error, index=i, label=f"α = {alpha:g}")
    ax.axhline(ridge, color=line_style(i)["color"], linestyle=":", linewidth=1)
    best = flow.optimal_error[0]
    print(f"alpha = {alpha:g}: t = {flow.optimal_time[0]:.2f}, error {best:.4f}, ridge {ridge:.4f}")
    assert ridge < best < 1.1 * ridge
ax.set(xscale="log", ylim=(0.0, 1.3))
finish_axes(ax, xlabel="training time  $t$ = steps × learning rate", ylabel=ERROR_LABEL)
plt.show()
