r"""
Double descent in the number of features
========================================

A student that sees p random features :math:`\mathrm{relu}(F x)` of d inputs, and n = 2d noisy
samples of a teacher that is linear in the inputs. The samples stay what they are; the model
grows.

What to see: without decay the error diverges where there are as many features as samples,
whatever the number of inputs, and falls again far below its first minimum. With the best decay at
each width there is no peak, and more features never hurt. Many of them act like ridge regression
on the inputs themselves (dotted), to which their nonlinear part is a decay. Here that is more than
the best, :math:`\zeta = S`, so that no other is needed and the least error (dashed) is not reached.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica
from replica.plotting import ERROR_LABEL, draw_curve, finish_axes

S, samples_per_input = 0.05, 2.0
width = np.concatenate([np.geomspace(0.1, 0.98, 40), [1.0], np.geomspace(1.02, 20.0, 50)])  # p/n


def problem(w):
    features = replica.RandomFeatures("relu", w * samples_per_input)
    return {"alpha": 1.0 / w, "S": S, "inputs": features}


no_decay = np.array([replica.gen_error(**problem(w), zeta=0.0) for w in width])
best = np.array([replica.optimal_zeta(**problem(w)) for w in width])
decayed = np.array(
    [replica.gen_error(**problem(w), zeta=z) for w, z in zip(width, best, strict=True)]
)
hidden = (replica.RandomFeatures("relu", 1.0).kappa_star / 0.5) ** 2  # kappa*^2 / kappa1^2
many = replica.gen_error(samples_per_input, S, hidden)
least = replica.gen_error(samples_per_input, S, S)

fig, ax = plt.subplots(figsize=(5, 4.2), layout="constrained")
draw_curve(ax, width, no_decay, index=0, marker="none", label="no decay")
draw_curve(ax, width, decayed, index=1, marker="none", label="best decay")
ax.axhline(many, color="0.4", linestyle=":", linewidth=1)
ax.axhline(least, color="0.4", linestyle="--", linewidth=1)
ax.set(xscale="log", yscale="log", ylim=(0.03, 3.0))
finish_axes(ax, xlabel="features per sample  $p/n$", ylabel=ERROR_LABEL, title=f"n = 2d, S = {S}")
plt.show()

# %%
# The first minimum, the peak, and what many features end at:

few = width < 1.0
print(f"first minimum {no_decay[few].min():.3f} at p/n = {width[few][no_decay[few].argmin()]:.2f}")
print(f"largest error at p/n = {width[no_decay.argmax()]:.2f}")
print(f"p/n = 20: {no_decay[-1]:.3f}, with decay {decayed[-1]:.3f}")
print(f"ridge regression on the inputs: decay {hidden:.3f}: {many:.3f}, decay {S}: {least:.3f}")
assert width[no_decay.argmax()] == 1.0
assert least < many < decayed[-1] <= no_decay[-1] < no_decay[few].min()
assert (np.diff(decayed) < 0.0).all()
