"""What every test process is set to before NumPy is loaded."""

import os

# One thread per linear-algebra call: the test processes are as many as there are processors, and
# threads of several processes that wait for each other are ten times slower than one.
for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
