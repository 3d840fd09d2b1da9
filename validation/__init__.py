"""Every quantitative claim of the paper and of this package, held against simulations.

``python -m validation`` runs all scripts of this folder; docs/validation.md says how a verdict is
made. Unlike the package itself this folder may import theory, simulation and plotting together.
"""

import os

# Runs share the processors already; threads of BLAS inside each would only fight for them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
