r"""
A ReLU student beside a linear one
==================================

The teacher is linear, the labels are noisy. A ReLU student cannot give a negative output: about
half of the samples ask it for silence, so that it sees fewer constraints on its weights and
pays with an error that no number of samples removes.

What to see: the linear student's error diverges at :math:`\alpha = 1`; that of ReLU has a
finite peak, at the dotted line. This is below :math:`\alpha = 2`, where there are as many
positive labels as weights, because some samples with negative labels cost an effort, too. With
decay both peaks are gone.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica

S = 0.25
alpha = np.arange(10, 501) / 100
threshold = replica.interpolation_threshold(S, student="relu")
fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
for student in ("linear", "relu"):
    for zeta in (0.0, 0.25):
        label = f"{student}, ζ = {zeta:g}"
        replica.plot_curve(alpha, S, zeta, student=student, ax=ax, label=label)
ax.axvline(threshold, color="0.4", linestyle=":", linewidth=1)
plt.show()

# %%
# The peak of ReLU lies where the samples can no longer all be fitted:

error = replica.gen_error(alpha, S, student="relu")
print(f"largest error at alpha = {alpha[error.argmax()]:.2f}, threshold {threshold:.4f}")
assert abs(alpha[error.argmax()] - threshold) < 0.02
