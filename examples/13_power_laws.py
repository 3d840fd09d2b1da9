r"""
Power laws and their exponents
==============================

Real inputs have a few directions that vary much and many that vary little. Here the variances
fall like :math:`k^{-a}` and the share of direction k in the teacher's output like
:math:`k^{-b}`, without noise and decay.

What to see: the error falls with a power of the number of samples. What has not been learned yet
leaves :math:`n^{-(b-1)}`, what has been learned is only known up to :math:`n^{-2a}`, and the
slower of the two is seen (thin lines above): the more the teacher lies in the large directions,
the faster, up to :math:`2a`. With noise the curves flatten.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import ERROR_LABEL, draw_curve, finish_axes, line_style

a, size = 2.0, 100_000
n = np.geomspace(10, 1000, 40)
fig, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
for i, b in enumerate([2.0, 3.0, 8.0]):
    inputs = replica.PowerLaw(a, b, size)
    error = replica.gen_error(n / size, 0.0, 0.0, inputs=inputs)
    draw_curve(ax, n, error, index=i, marker="none", label=f"b = {b:g}")
    exponent = min(b - 1, 2 * a)
    ax.plot(n, 2.5 * error[-1] * (n / n[-1]) ** -exponent, color="0.6", linewidth=1)
    slope = -np.polyfit(np.log(n[20:]), np.log(error[20:]), 1)[0]
    print(f"b = {b:g}: exponent {slope:.3f}, expected {exponent:g}")
    assert abs(slope - exponent) < 0.02 * exponent
    if b == 3.0:
        noisy = replica.gen_error(n / size, 0.01, 0.0, inputs=inputs)
        style = line_style(i, marker="none", linestyle="--", label="b = 3, S = 0.01")
        ax.plot(n, noisy, **style)
ax.set(xscale="log", yscale="log")
title = "variances $k^{-2}$, teacher $k^{-b}$"
finish_axes(ax, xlabel="samples  $n$", ylabel=ERROR_LABEL, title=title)
plt.show()
