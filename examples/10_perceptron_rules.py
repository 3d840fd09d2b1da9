r"""
The rules of the perceptron
===========================

The signs of a linear teacher, without noise, learned by the rules that Opper, Kinzel, Kleinz and
Nehl compared in 1990, and the least error rate that any rule can have.

What to see: at few samples all rules but Gibbs are close to the bound, and Hebb's rule, one sum
over the samples, is as good as any. At many samples it decays like :math:`\alpha^{-1/2}` only. So
does least squares, which fits the signs exactly at :math:`\alpha = 1` and learns nothing there.
The others decay like :math:`1/\alpha`, and the largest margin comes within 13 % of the bound.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import LOAD_LABEL, draw_curve, finish_axes

alpha = np.geomspace(0.1, 100.0, 200)
rules = replica.perceptron_rules(alpha)
names = {
    "hebb": "Hebb",
    "pseudo_inverse": "least squares",
    "gibbs": "Gibbs: a draw from the version space",
    "maximal_stability": "maximal stability",
    "bayes": "Bayes: the vote of the version space",
}

fig, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
for i, (name, label) in enumerate(names.items()):
    draw_curve(ax, alpha, getattr(rules, name), index=i, label=label)
ax.set(xscale="log", yscale="log")
finish_axes(ax, xlabel=LOAD_LABEL, ylabel="error rate", title="signs without noise")
plt.show()

# %%
# The constants of the three best rules, :math:`\varepsilon \approx c/\alpha`:

late = replica.perceptron_rules(1e6)
for name in ("bayes", "maximal_stability", "gibbs"):
    print(f"{names[name]:<40}{1e6 * getattr(late, name):.4f}")
assert abs(late.maximal_stability / late.bayes - 1.133) < 1e-3

# %%
# With every tenth label turned the version space is empty beyond a load of 3, where the labels can
# no longer be separated. The bound still decays like :math:`1/\alpha`, and twice as slowly:

noise = replica.Flip(0.1)
turned = replica.bayes_optimal(1e6, teacher="sign", noise=noise)
print(f"bound: {1e6 * turned.error_rate:.4f} in place of {1e6 * late.bayes:.4f}")
print(f"separable up to a load of {replica.separability_threshold(noise=noise):.4f}")
