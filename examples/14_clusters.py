r"""
Two clusters and the best possible classifier
=============================================

The inputs of either label are a Gaussian cloud, and the two clouds overlap. With equal shares of
the labels the best rule of all averages the samples, and a decay that is strong enough makes any
loss do so.

What to see: without decay least squares has a peak where there are as many samples as inputs. A
large decay (dotted) lies on the Bayes error, and the logistic loss is close to it with a little.
No classifier, with however many samples, gets below the overlap of the clouds (dashed).
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import ndtr

import replica
from replica.plotting import LOAD_LABEL, draw_curve, finish_axes, line_style

clusters = replica.Clusters(0.5)
alpha = np.concatenate([np.geomspace(0.1, 0.98, 25), [1.0], np.geomspace(1.02, 10.0, 25)])
fig, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
for i, (loss, zeta) in enumerate([("square", 0.0), ("hinge", 0.1), ("logistic", 0.1)]):
    found = replica.solve_clusters(alpha, zeta, inputs=clusters, loss=loss)
    label = f"{loss}, ζ = {zeta:g}"
    draw_curve(ax, alpha, found.error_rate, index=i, marker="none", label=label)
    print(f"{loss:<9}error rate at alpha = 1: {found.error_rate[25]:.4f}")
bayes = found.bayes_error
draw_curve(ax, alpha, bayes, index=4, marker="none", label="Bayes")
strong = replica.solve_clusters(alpha, 1e4, inputs=clusters)
style = line_style(0, marker="none", linestyle=":", label="square, ζ = 10⁴")
ax.plot(alpha, strong.error_rate, **style)
overlap = ndtr(-1.0 / np.sqrt(clusters.variance))
ax.axhline(overlap, color="0.4", linestyle="--", linewidth=1)
ax.set(xscale="log", ylim=(0.0, 0.52))
finish_axes(ax, xlabel=LOAD_LABEL, ylabel="error rate", title="two clusters of variance 0.5")
plt.show()

# %%
# The best of all is met from above, and its limit is the overlap of the clouds:

print(f"Bayes at alpha = 1: {bayes[25]:.4f}, with a large decay {strong.error_rate[25]:.4f}")
print(f"alpha = 10: {bayes[-1]:.4f}, overlap {overlap:.4f}")
assert (strong.error_rate - bayes < 1e-4).all()
assert (found.error_rate >= bayes - 1e-12).all()
assert bayes[-1] > overlap
