r"""
Double descent of logistic regression
=====================================

A teacher of N features, P = N samples with every tenth label turned, and a student that is given
p of the features. The others act as noise of variance (N - p)/p on what it sees, and its load is
P/p. Logistic regression without decay fits as long as the labels cannot be separated; with more
features it finds the weights of maximal margin.

What to see: the error rate falls, rises towards the load where the labels become separable, and
falls again far below its first minimum. The best decay removes the peak and comes close to the
bound.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import draw_curve, finish_axes

labels = {"teacher": "sign", "noise": replica.Flip(0.1)}
share = np.concatenate([np.linspace(0.05, 0.4, 10), np.linspace(0.42, 0.5, 9), [0.6, 0.7, 0.85, 1]])
problem = {"alpha": 1 / share, "S": (1 - share) / share}


def error_rate(solution):
    """Of the sign of the whole teacher, of which the student sees a part of length sqrt(share)."""
    return np.arccos(solution.R * np.sqrt(share)) / np.pi


no_decay = replica.solve_equilibrium(**problem, zeta=0.0, loss="logistic", **labels)
best = replica.optimal_zeta(**problem, loss="logistic", **labels)
decayed = replica.solve_equilibrium(**problem, zeta=best, loss="logistic", **labels)
bound = replica.bayes_optimal(**problem, **labels)

fig, ax = plt.subplots(figsize=(5, 4.2), layout="constrained")
draw_curve(ax, share, error_rate(no_decay), index=0, label="logistic, no decay")
draw_curve(ax, share, error_rate(decayed), index=1, label="logistic, best decay")
draw_curve(ax, share, error_rate(bound), index=2, label="Bayes bound")
finish_axes(ax, xlabel="features of the student  $p/N$", ylabel="error rate", title="P = N")
plt.show()

# %%
# The peak is where the labels become separable; there the weights begin to be infinitely long:

rate, separable = error_rate(no_decay), no_decay.interpolating
lowest = rate[~separable].argmin()
print(f"separable from p/N = {share[separable].min():.2f}")
print(f"first minimum {rate[lowest]:.4f}, peak {rate[lowest:].max():.4f}, all {rate[-1]:.4f}")
assert rate[-1] < rate[lowest] < rate[lowest:].max()
