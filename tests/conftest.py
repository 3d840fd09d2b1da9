"""What all tests share: the environment that numerical libraries read when they are loaded."""

from __future__ import annotations

import os
import sys

# One worker per core already: threads of BLAS beside them wait for each other, up to 50 times as
# long for the small matrices here.
assert "numpy" not in sys.modules, "too late: NumPy has read the environment"
for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
