"""Settings of all tests, also of the examples in docstrings."""

import os

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib: no window is opened
# before anything imports torch: for networks this small, threads cost more than they bring
os.environ.setdefault("OMP_NUM_THREADS", "1")
