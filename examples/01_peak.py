r"""
More data can hurt
==================

Least squares with noisy labels is worst when there are exactly as many samples as weights,
:math:`\alpha = P/N = 1`. There the weights fit the noise exactly, and have to be long to do so.

What to see: the error diverges at :math:`\alpha = 1` (triangles) for any amount of noise, and
not at all without noise. Far more samples help; so do far fewer.
"""

import matplotlib.pyplot as plt
import numpy as np

import replica

alpha = np.arange(10, 401) / 100  # in hundredths, so that the divergence is a point of the grid
fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
replica.plot_curve(alpha, [0.0, 0.05, 0.25], ax=ax)
plt.show()

# %%
# Nearly twice as many samples, and six times the error:

few, many = replica.gen_error([0.5, 0.95], 0.25)
print(f"alpha = 0.5: {few:.3f}    alpha = 0.95: {many:.3f}")
assert many > 5 * few
