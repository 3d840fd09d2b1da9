r"""
The best decay is the noise
===========================

A little decay removes the peak of least squares. The best strength for a linear student is
:math:`\zeta = S` at every load: the weights of the teacher have variance 1 and the noise
variance :math:`S`, so that ridge regression with :math:`\zeta = S` is Bayesian inference.

What to see: every curve has its minimum on the dashed line, whatever the load. Too much decay
costs little, too little costs most near :math:`\alpha = 1`.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import ERROR_LABEL, draw_curve, finish_axes

S = 0.25
zeta = np.geomspace(1e-3, 10.0, 200)
fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
for i, alpha in enumerate([0.5, 1.0, 2.0, 4.0]):
    draw_curve(ax, zeta, replica.gen_error(alpha, S, zeta), index=i, label=f"α = {alpha:g}")
ax.axvline(S, color="0.4", linestyle="--", linewidth=1)
ax.set_xscale("log")
finish_axes(ax, xlabel=r"decay  $\zeta$", ylabel=ERROR_LABEL, title="linear student, S = 0.25")
plt.show()

# %%
# The same from the optimizer. For a ReLU student the best decay depends on the load:

loads = np.array([0.5, 1.0, 2.0, 4.0])
print("linear:", replica.optimal_zeta(loads, S))
print("ReLU:  ", replica.optimal_zeta(loads, S, student="relu").round(4))
assert np.allclose(replica.optimal_zeta(loads, S), S)
