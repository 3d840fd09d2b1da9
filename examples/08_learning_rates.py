r"""
Learning dynamics, and steps that are too large
===============================================

Online learning of a large neuron moves three numbers: the output scale :math:`\gamma`, the
overlap :math:`R` with the teacher, and the length :math:`L` of the weights.

What to see, above: with gamma decay all trajectories end at the fixed point :math:`R =
1`, :math:`\gamma = 1/(1 + 2\zeta)`. Below: weight normalization started close to the
teacher with too large a step. The overlap is lost until the weights have grown so long that the
effective learning rate :math:`\eta\gamma/L^2` has fallen below about its maximum (dashed line);
then it comes back. Nothing diverges.
"""

import matplotlib.pyplot as plt
import numpy as np

from replica.dynamics import fixed_point, integrate, max_learning_rate
from replica.plotting import draw_curve, finish_axes, line_style

fig, (portrait, burst) = plt.subplots(2, 1, figsize=(5, 7.6), layout="constrained")
zeta = 0.25
t = np.linspace(0.0, 200.0, 2001)
for gamma0 in (0.1, 0.8, 1.5):
    for R0 in (-0.5, 0.0, 0.5):
        run = integrate(
            student="relu",
            normalizer="pn",
            learning_rate=0.2,
            zeta=zeta,
            gamma0=gamma0,
            R0=R0,
            L0=1.0,
            t=t,
        )
        portrait.plot(run.R, run.gamma, color=line_style(0)["color"], linewidth=1)
        portrait.plot(R0, gamma0, "o", color="0.5", markersize=4)
end = fixed_point(student="relu", normalizer="pn", learning_rate=0.2, zeta=zeta)
portrait.plot(end.R, end.gamma, "k*", markersize=12)
finish_axes(portrait, xlabel="overlap  $R$", ylabel=r"$\gamma$", title="PN with decay, ReLU")

t = np.geomspace(1e-3, 200.0, 400)
for i, rate in enumerate([1.0, 3.0, 6.0, 12.0]):
    run = integrate(student="relu", normalizer="wn", learning_rate=rate, R0=0.999, L0=1.0, t=t)
    draw_curve(burst, run.effective_learning_rate, run.one_minus_R, index=i, label=f"η = {rate:g}")
burst.axvline(
    max_learning_rate(student="relu", normalizer="wn"), color="0.4", linestyle="--", linewidth=1
)
burst.set(xscale="log", yscale="log", ylim=(1e-6, 1))
finish_axes(
    burst, xlabel=r"$\eta\gamma/L^2$", ylabel="$1 - R$", title="WN from R = 0.999", legend="inside"
)
plt.show()
