r"""
Your own student
================

Any function of one number can be the activation, given the points where its slope jumps. This
one has slope 0.1 below 0, slope 1 above, and is flat above 2.

What to see: the curve almost coincides with that of the leaky student without saturation, and
both lie far below ReLU. What helps is the slope on the negative side.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import ERROR_LABEL, LOAD_LABEL, draw_curve, finish_axes


def activation(u):
    return min(max(u, -0.1 * abs(u)), 2.0)


students = {
    "own": replica.Student(activation, kinks=(0.0, 2.0)),
    "leaky ReLU, slope 0.1": replica.LeakyReLU(0.1),
    "ReLU": "relu",
}
alpha = np.linspace(0.25, 6.0, 24)
errors = {
    name: replica.solve_equilibrium(alpha, 0.1, 0.2, student=student).gen_error
    for name, student in students.items()
}

fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
for i, (name, error) in enumerate(errors.items()):
    draw_curve(ax, alpha, error, index=i, label=name)
finish_axes(ax, xlabel=LOAD_LABEL, ylabel=ERROR_LABEL, title="S = 0.1, ζ = 0.2")
inset = ax.inset_axes([0.64, 0.38, 0.3, 0.26])
u = np.linspace(-3, 3, 121)
inset.plot(u, [activation(x) for x in u])
inset.set_title("$g(u)$", fontsize=9)
inset.tick_params(labelsize=8)
plt.show()

# %%
# What saturation changes, and what the negative side is worth, at the largest load:

own, leaky, relu = (error[-1] for error in errors.values())
print(f"saturation: {own - leaky:+.4f}    negative side: {leaky - relu:+.4f}")
assert abs(own - leaky) < 0.2 * (relu - leaky)
